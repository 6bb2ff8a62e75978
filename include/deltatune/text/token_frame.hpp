// The fixed tokens around one text or two, such as [CLS] ... [SEP], and the cut to a length that leaves room for them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/text/tokenizer_spec.hpp"
#include "deltatune/text/vocabulary.hpp"

namespace deltatune {

struct EncodedPair {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> token_types;
};

class TokenFrame {
 public:
  TokenFrame(const TokenizerSpec& spec, const Vocabulary& vocabulary) : single_(spec.single), pair_(spec.pair) {
    for (const auto* items : {&single_, &pair_}) {
      for (const TemplateItem& item : *items) {
        for (const std::int32_t id : item.ids) {
          if (!vocabulary.contains(id)) throw Error(spec.name + ": post_processor", "id not in the vocabulary", {.got = std::to_string(id)});
        }
      }
    }
  }

  // At most max_length ids, special tokens included: the end of the text is cut off.
  std::vector<std::int32_t> single(std::vector<std::int32_t> ids, Index max_length) const {
    ids.resize(std::min(ids.size(), room(single_, max_length)));
    return framed(single_, ids, {}).ids;
  }

  // At most max_length ids, special tokens included: the longer text is cut first, then both.
  DELTATUNE_FUNCTION EncodedPair pair(std::vector<std::int32_t> a, std::vector<std::int32_t> b, Index max_length) const {
    const std::size_t available = room(pair_, max_length);
    if (a.size() + b.size() > available) {
      const bool second_is_longer = a.size() <= b.size();
      std::vector<std::int32_t>& shorter = second_is_longer ? a : b;
      std::vector<std::int32_t>& longer = second_is_longer ? b : a;
      shorter.resize(std::min(shorter.size(), available / 2));
      longer.resize(available - shorter.size());
    }
    return framed(pair_, a, b);
  }

 private:
  // Places that the fixed tokens of a template leave.
  DELTATUNE_FUNCTION static std::size_t room(const std::vector<TemplateItem>& items, Index max_length) {
    Index fixed = 0;
    for (const TemplateItem& item : items) fixed += static_cast<Index>(item.ids.size());
    if (max_length < fixed) {
      throw Error("max_length", "too short for the special tokens", {.expected = "at least " + std::to_string(fixed), .got = std::to_string(max_length)});
    }
    return static_cast<std::size_t>(max_length - fixed);
  }

  DELTATUNE_FUNCTION static EncodedPair framed(const std::vector<TemplateItem>& items, const std::vector<std::int32_t>& first,
                                               const std::vector<std::int32_t>& second) {
    EncodedPair result;
    for (const TemplateItem& item : items) {
      const auto& ids = item.kind == TemplateItem::Kind::kFirst ? first : item.kind == TemplateItem::Kind::kSecond ? second : item.ids;
      result.ids.insert(result.ids.end(), ids.begin(), ids.end());
      result.token_types.resize(result.ids.size(), item.type);
    }
    return result;
  }

  std::vector<TemplateItem> single_, pair_;
};

}  // namespace deltatune
