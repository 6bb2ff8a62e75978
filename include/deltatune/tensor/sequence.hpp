// Packed sequences: rows of all sequences one after another, no padding, and the offsets that tell them apart.
#pragma once

#include <cstdint>

#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

// B sequences in N packed rows; sequence b owns the rows [offsets[b], offsets[b + 1]). Lives in the memory of the backend that reads it.
struct Sequences {
  const Index* offsets = nullptr;              // (B + 1), offsets[0] = 0, offsets[B] = N
  const std::int32_t* row_sequence = nullptr;  // (N): the sequence a row belongs to
  Index count = 0;                             // B
  Index rows = 0;                              // N
  Index max_length = 0;                        // longest sequence
  const std::int32_t* prompts = nullptr;       // (B): which of several prompts stands in each; nullptr: the first
  const Index* lengths = nullptr;              // (B), of sequences that have room to grow (nn/kv_cache.hpp): they own [offsets[b], offsets[b] + lengths[b]),
                                               // in any order, and there are no row_sequence and no offsets[B]; nullptr: all rows are owned

  DELTATUNE_HD Index first(Index b) const { return offsets[b]; }
  DELTATUNE_HD Index length(Index b) const { return lengths != nullptr ? lengths[b] : offsets[b + 1] - offsets[b]; }
};

}  // namespace deltatune
