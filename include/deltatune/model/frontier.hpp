// The gradient frontier of a stack of blocks: below it nothing runs backward, and what a layer would keep is scratch.
#pragma once

#include <vector>

#include "deltatune/param/visit.hpp"

namespace deltatune::detail {

// The lowest block that trains; -1 the embeddings; the number of blocks: nothing below the head.
template <class Embeddings, class Block>
Index gradient_frontier(Embeddings& embeddings, std::vector<Block>& blocks) {
  if (trains(embeddings)) return -1;
  for (std::size_t l = 0; l < blocks.size(); ++l)
    if (trains(blocks[l])) return static_cast<Index>(l);
  return static_cast<Index>(blocks.size());
}

}  // namespace deltatune::detail
