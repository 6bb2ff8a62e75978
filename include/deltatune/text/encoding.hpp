// What encoding takes and gives, as plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "deltatune/core/shape.hpp"

namespace deltatune {

// Part of a text, from `begin` up to but without `end`.
struct TextSpan {
  std::uint32_t begin = 0, end = 0;
  bool operator==(const TextSpan&) const = default;
};

// Which text of a pair is cut where both are too long.
enum class Truncation { kLongestFirst, kOnlyFirst, kOnlySecond };
enum class Side { kLeft, kRight };

struct EncodeOptions {
  Index max_length = 0;  // of the ids, special tokens included; 0: any length
  Truncation truncation = Truncation::kLongestFirst;
  Side cut_side = Side::kRight;
  bool special_tokens = true;  // those around a text
};

struct EncodedPair {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> token_types;  // one per id
};

// One entry per token in each of them.
struct Encoding {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> token_types;
  std::vector<TextSpan> offsets;  // code points of the text (of its own one in a pair); (0, 0) for special tokens around it
  std::vector<std::string> tokens;
};

// The ids of many texts in one piece of memory.
struct EncodedBatch {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> token_types;  // one per id for pairs, else empty
  std::vector<std::size_t> begins{0};     // one more than there are texts

  std::size_t size() const { return begins.size() - 1; }
  std::span<const std::int32_t> operator[](std::size_t text) const { return std::span(ids).subspan(begins[text], begins[text + 1] - begins[text]); }
};

}  // namespace deltatune
