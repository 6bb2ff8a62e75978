// Tokens and their ids, both ways: an open-addressing table over one pool of bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune::detail {

// Multiply and fold, eight bytes at a time. For tables in memory only: the value depends on the byte order.
inline std::uint64_t hash_of(std::string_view text) {
  constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15U;
  std::uint64_t hash = text.size() * kOdd;
  const char* at = text.data();
  std::size_t left = text.size();
  const auto mix = [&hash](std::uint64_t word) {
    hash = (hash ^ word) * kOdd;
    hash ^= hash >> 29U;
  };
  for (; left >= 8; left -= 8, at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, 8);
    mix(word);
  }
  if (left > 0) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, left);
    mix(word);
  }
  hash *= kOdd;
  return hash ^ (hash >> 32U);
}

inline std::size_t power_of_two_above(std::size_t count) {
  std::size_t size = 16;
  while (size < count) size *= 2;
  return size;
}

class TokenTable {
 public:
  static constexpr std::int32_t kNone = -1;

  DELTATUNE_FUNCTION void reserve(std::size_t tokens) {
    entries_.reserve(tokens);
    if (tokens * 2 > slots_.size()) rehash(power_of_two_above(tokens * 2));
  }

  // A token that is there already gets the new id.
  DELTATUNE_FUNCTION void add(std::string_view token, std::int32_t id) {
    if ((entries_.size() + 1) * 2 > slots_.size()) rehash(std::max<std::size_t>(16, slots_.size() * 2));
    const std::uint64_t hash = hash_of(token);
    Slot& slot = *slot_of(token, hash);
    if (slot.entry != 0) {
      entries_[slot.entry - 1].id = id;
      return;
    }
    entries_.push_back({static_cast<std::uint32_t>(pool_.size()), static_cast<std::uint32_t>(token.size()), id});
    pool_ += token;
    slot = {static_cast<std::uint32_t>(hash >> 32U), static_cast<std::uint32_t>(entries_.size())};
  }

  // The id, or kNone.
  std::int32_t find(std::string_view token) const {
    if (slots_.empty()) return kNone;
    const Slot& slot = *const_cast<TokenTable*>(this)->slot_of(token, hash_of(token));
    return slot.entry == 0 ? kNone : entries_[slot.entry - 1].id;
  }

  // Call it once, when all tokens are there. Returns the index of a token whose id an earlier one has, or -1.
  DELTATUNE_FUNCTION Index sort_by_id() {
    by_id_.resize(entries_.size());
    for (std::size_t i = 0; i < by_id_.size(); ++i) by_id_[i] = static_cast<std::uint32_t>(i);
    std::sort(by_id_.begin(), by_id_.end(), [this](std::uint32_t a, std::uint32_t b) { return entries_[a].id < entries_[b].id; });
    for (std::size_t i = 1; i < by_id_.size(); ++i)
      if (entries_[by_id_[i]].id == entries_[by_id_[i - 1]].id) return static_cast<Index>(by_id_[i]);
    return -1;
  }

  bool contains(std::int32_t id) const { return entry_of(id) != nullptr; }

  // Empty for an id that no token has.
  std::string_view token_of(std::int32_t id) const {
    const Entry* const entry = entry_of(id);
    return entry == nullptr ? std::string_view{} : text(*entry);
  }

  std::size_t count() const { return entries_.size(); }
  // Tokens in the order in which they came.
  std::string_view token(std::size_t index) const { return text(entries_[index]); }
  std::int32_t id(std::size_t index) const { return entries_[index].id; }

  // One more than the largest id, 0 without tokens.
  Index size() const { return by_id_.empty() ? 0 : Index{entries_[by_id_.back()].id} + 1; }

 private:
  struct Entry {
    std::uint32_t begin, length;
    std::int32_t id;
  };
  struct Slot {
    std::uint32_t hash = 0;   // its upper half
    std::uint32_t entry = 0;  // 1 + its number; 0: free
  };

  std::string_view text(const Entry& entry) const { return std::string_view(pool_).substr(entry.begin, entry.length); }

  Slot* slot_of(std::string_view token, std::uint64_t hash) {
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
      Slot& slot = slots_[at];
      if (slot.entry == 0 || (slot.hash == static_cast<std::uint32_t>(hash >> 32U) && text(entries_[slot.entry - 1]) == token)) return &slot;
    }
  }

  DELTATUNE_FUNCTION void rehash(std::size_t size) {
    slots_.assign(size, {});
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const std::uint64_t hash = hash_of(text(entries_[i]));
      *slot_of(text(entries_[i]), hash) = {static_cast<std::uint32_t>(hash >> 32U), static_cast<std::uint32_t>(i + 1)};
    }
  }

  const Entry* entry_of(std::int32_t id) const {
    const std::size_t place = static_cast<std::size_t>(id);
    if (id < 0) return nullptr;
    if (place < by_id_.size() && entries_[by_id_[place]].id == id) return &entries_[by_id_[place]];
    const auto entry =
        std::lower_bound(by_id_.begin(), by_id_.end(), id, [this](std::uint32_t index, std::int32_t wanted) { return entries_[index].id < wanted; });
    return entry == by_id_.end() || entries_[*entry].id != id ? nullptr : &entries_[*entry];
  }

  std::string pool_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;           // a power of two, at most half full
  std::vector<std::uint32_t> by_id_;  // numbers of entries
};

}  // namespace deltatune::detail
