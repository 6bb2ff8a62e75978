// The gradient frontier of a stack of blocks: below it nothing runs backward, and what a layer would keep is scratch.
#pragma once

#include <vector>

#include "deltatune/param/visit.hpp"
#include "deltatune/seam/pass.hpp"

namespace deltatune::detail {

// The lowest block that trains; -1 the embeddings; the number of blocks: nothing below the head.
template <class Embeddings, class Block>
Index gradient_frontier(Embeddings& embeddings, std::vector<Block>& blocks) {
  if (trains(embeddings)) return -1;
  for (std::size_t l = 0; l < blocks.size(); ++l)
    if (trains(blocks[l])) return static_cast<Index>(l);
  return static_cast<Index>(blocks.size());
}

// layer(pass), which keeps what backward reads, or nothing.
template <class X, class Layer>
void run_keeping(Pass<X>& pass, bool keeps, const Layer& layer) {
  if (keeps) return layer(pass);
  const auto scope = pass.scope();
  Pass<X> passing{pass.ctx, pass.scratch, pass.scratch, pass.mode, pass.seed, pass.step, pass.micro_step, pass.next_stream, pass.sequences};
  layer(passing);
  pass.next_stream = passing.next_stream;
}

}  // namespace deltatune::detail
