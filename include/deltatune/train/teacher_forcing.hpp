// Teacher forcing (Williams and Zipser, 1989): a decoder learns each token of a target from the source and the target's tokens before it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/ops/cross_entropy.hpp"
#include "deltatune/seam/architecture.hpp"
#include "deltatune/train/dataset.hpp"

namespace deltatune {

// An example for an encoder-decoder, as transformers makes it of `labels`: the encoder reads the source, the decoder reads
// Architecture::decoder_input(), the target behind what stands in front of a text, and the labels are the target. Both texts hold what the tokenizer puts
// around a text: the target ends in the end-of-text token. Throws Error for an empty source or target, and for a model without a start token.
DELTATUNE_FUNCTION Example teacher_forced(std::span<const std::int32_t> source, std::span<const std::int32_t> target, const Architecture& architecture) {
  if (source.empty()) throw Error("source", "has no tokens", {.remedy = "a tokenizer adds at least its special tokens"});
  if (target.empty()) throw Error("target", "has no tokens", {.remedy = "end it with the end-of-text token, which a tokenizer adds"});
  Example example{.token_labels = {target.begin(), target.end()}, .source = {source.begin(), source.end()}};
  example.ids = architecture.decoder_input(example.token_labels, ops::kIgnoredLabel);
  return example;
}

}  // namespace deltatune
