// The tokens of a tokenizer: ids both ways, and the search in a text for those that were added to the model's own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/text/added_tokens.hpp"
#include "deltatune/text/tokenizer_spec.hpp"

namespace deltatune {

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using TokenIds = std::unordered_map<std::string, std::int32_t, StringHash, std::equal_to<>>;

class Vocabulary {
 public:
  // `normalize` is what happens to a text before the model sees it; it happens to added tokens, too, that ask for it.
  template <class Normalize>
  Vocabulary(const TokenizerSpec& spec, const Normalize& normalize) {
    for (const auto& [token, id] : spec.vocabulary) add(token, id, model_, spec.name);
    std::vector<AddedToken> raw, normalized;
    for (AddedToken token : spec.added_tokens) {
      const std::optional<std::int32_t> known = id_of(token.content);
      if (!known) {
        add(token.content, token.id, added_, spec.name);
      } else if (*known != token.id) {
        throw Error(spec.name + ": added_tokens", "another id than in the vocabulary for \"" + token.content + "\"",
                    {.expected = std::to_string(*known), .got = std::to_string(token.id)});
      }
      if (token.normalized) token.content = normalize(token.content);
      (token.normalized ? normalized : raw).push_back(std::move(token));
    }
    raw_ = AddedTokenFinder(std::move(raw));
    normalized_ = AddedTokenFinder(std::move(normalized));
  }

  // One more than the largest id: the rows that the embedding must have.
  Index size() const { return size_; }

  const TokenIds& model_tokens() const { return model_; }

  DELTATUNE_FUNCTION std::optional<std::int32_t> id_of(std::string_view token) const {
    for (const TokenIds* ids : {&model_, &added_}) {
      if (const auto entry = ids->find(token); entry != ids->end()) return entry->second;
    }
    return std::nullopt;
  }

  bool contains(std::int32_t id) const { return tokens_.contains(id); }

  DELTATUNE_FUNCTION const std::string& token_of(std::int32_t id) const {
    const auto entry = tokens_.find(id);
    if (entry == tokens_.end()) {
      throw Error("token id " + std::to_string(id), "not in the vocabulary", {.expected = "0 to " + std::to_string(size() - 1)});
    }
    return entry->second;
  }

  // Calls on_text(normalised piece) and on_token(id) in the order of the text.
  template <class Normalize, class OnText, class OnToken>
  void split(std::string_view text, const Normalize& normalize, const OnText& on_text, const OnToken& on_token) const {
    raw_.split(
        text, [&](std::string_view part) { normalized_.split(normalize(part), on_text, on_token); }, on_token);
  }

 private:
  DELTATUNE_FUNCTION void add(const std::string& token, std::int32_t id, TokenIds& ids_io, const std::string& file) {
    const auto [entry, is_new] = tokens_.emplace(id, token);
    if (!is_new) {
      throw Error(file, "two tokens have one id", {.got = std::to_string(id) + " for \"" + entry->second + "\" and \"" + token + "\""});
    }
    ids_io.emplace(token, id);
    size_ = std::max(size_, Index{id} + 1);
  }

  TokenIds model_;                                        // the model's own tokens
  TokenIds added_;                                        // tokens that only the text search knows
  std::unordered_map<std::int32_t, std::string> tokens_;  // by id
  Index size_ = 0;
  AddedTokenFinder raw_, normalized_;
};

}  // namespace deltatune
