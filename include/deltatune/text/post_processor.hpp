// What comes around the tokens of one text or two: special tokens such as [CLS] ... [SEP], token types, and offsets without the white space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "deltatune/core/shape.hpp"

namespace deltatune::detail {

// One place of the frame around a text: a sequence or fixed tokens.
struct TemplateItem {
  enum class Kind { kFirst, kSecond, kTokens };
  Kind kind = Kind::kTokens;
  std::vector<std::int32_t> ids = {};    // of kTokens
  std::vector<std::string> tokens = {};  // as many
  std::int32_t type = 0;
};

struct PostProcessor {
  std::vector<TemplateItem> single{{.kind = TemplateItem::Kind::kFirst}};
  std::vector<TemplateItem> pair{{.kind = TemplateItem::Kind::kFirst}, {.kind = TemplateItem::Kind::kSecond, .type = 1}};  // empty: no pairs
  // Offsets without the white space at the ends of a token, one entry for each time: whether the first token keeps a single blank that was added.
  std::vector<bool> trims_adding_prefix_space;

  static Index special_tokens(const std::vector<TemplateItem>& items) {
    Index count = 0;
    for (const TemplateItem& item : items) count += static_cast<Index>(item.ids.size());
    return count;
  }
};

}  // namespace deltatune::detail
