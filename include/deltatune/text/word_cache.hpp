// The ids of words that came before. What it holds never changes a result, only the time it takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/text/token_table.hpp"

namespace deltatune::detail {

class WordCache {
 public:
  static constexpr std::size_t kLongestWord = 64;  // in bytes; longer ones seldom come back

  // Appends the ids of a word, if it is known.
  bool append(std::string_view word, std::uint64_t hash, std::vector<std::int32_t>& ids_io) const {
    if (slots_.empty()) return false;
    const Slot& slot = slots_[hash & (kSlots - 1)];
    if (slot.hash != static_cast<std::uint32_t>(hash >> 32U) || slot.length != word.size() || std::string_view(words_).substr(slot.word, slot.length) != word) {
      return false;
    }
    const std::int32_t* const ids = ids_.data() + slot.ids;
    ids_io.insert(ids_io.end(), ids, ids + slot.count);
    return true;
  }

  DELTATUNE_FUNCTION void insert(std::string_view word, std::uint64_t hash, std::span<const std::int32_t> ids) {
    constexpr std::size_t kMostBytes = std::size_t{4} << 20U;
    if (word.empty() || word.size() > kLongestWord || ids.size() > kLongestWord) return;
    if (slots_.empty() || words_.size() > kMostBytes) {
      slots_.assign(kSlots, {});
      words_.clear();
      ids_.clear();
    }
    slots_[hash & (kSlots - 1)] = {static_cast<std::uint32_t>(hash >> 32U), static_cast<std::uint32_t>(words_.size()), static_cast<std::uint32_t>(ids_.size()),
                                   static_cast<std::uint16_t>(word.size()), static_cast<std::uint16_t>(ids.size())};
    words_ += word;
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

 private:
  struct Slot {
    std::uint32_t hash = 0, word = 0, ids = 0;  // upper half of the hash; where word and ids begin
    std::uint16_t length = 0, count = 0;
  };
  static constexpr std::size_t kSlots = std::size_t{1} << 16U;

  std::vector<Slot> slots_;  // a word has one place; the later one takes it
  std::string words_;
  std::vector<std::int32_t> ids_;
};

}  // namespace deltatune::detail
