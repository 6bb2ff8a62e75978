// The next token of a text, from the scores of a language model: the likeliest one, or one that is drawn. Scores are changed and cut off as Hugging Face's
// generate() does it and in its order: repetition penalty (Keskar et al. 2019, arXiv 1909.05858), n-grams that would repeat (Paulus et al. 2017,
// arXiv 1705.04304), end-of-text tokens that come too early, tokens that are prescribed, temperature, top-k, top-p (Holtzman et al. 2019, arXiv 1904.09751),
// min-p (Nguyen et al. 2024, arXiv 2407.01082).
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

// When beam search ends: see model/beam_search.hpp.
enum class EarlyStopping { no, yes, never };

// The fields of Hugging Face's GenerationConfig under its names, where it has them. Nothing is read from a model's generation_config.json unless a program asks
// for it (model/generation_file.hpp): the same settings give the same text.
struct GenerationConfig {
  Index max_new_tokens = 20;
  double temperature = 0;         // 0: always the likeliest token, and nothing is drawn
  Index top_k = 0;                // draw from so many likeliest tokens (and those as likely as the last of them); 0: from all
  double top_p = 1;               // draw from the fewest likeliest tokens that have this probability together; 1: from all
  std::uint64_t seed = 0;         // of the first sequence's draws; the one with number b draws with seed + b
  bool stops_at_end = true;       // after an end-of-text token
  double min_p = 0;               // draw from tokens that are at least so likely, as a share of the likeliest one's probability; 0: from all
  double repetition_penalty = 1;  // scores of tokens that the sequence holds, the prompt's too, are divided by it, or multiplied where below 0; 1: none

  Index no_repeat_ngram_size = 0;            // no n-gram of so many tokens comes twice in a decoder's text, its prompt included; 0: any may
  Index min_new_tokens = 0;                  // no end-of-text token before so many
  std::int32_t decoder_start_token_id = -1;  // what the decoder of an encoder-decoder reads first: a language code of mBART; -1: config.json's
  std::int32_t forced_bos_token_id = -1;     // behind a decoder's start token, where nothing else is given: a language code of mBART-50; -1: any
  std::int32_t forced_eos_token_id = -1;     // the last one of max_new_tokens; -1: any
  Index num_beams = 1;                       // above 1: beam search
  double length_penalty = 1;                 // of beam search: a text's log-probability is divided by its new tokens to this power
  EarlyStopping early_stopping = EarlyStopping::no;

  std::vector<std::int32_t> end_ids = {};  // end-of-text tokens; empty: the model's
  Index max_sequences = 16;   // texts that run at once; the others wait. The cache has room for so many of the longest, with beams for all of theirs
  Index prefill_rows = 2048;  // tokens of prompts that run at once; longer ones are read in pieces

  void validate() const {
    const auto check = [](bool usable, const char* field, const char* expected, const std::string& got) {
      if (!usable) throw Error(std::string("generation: ") + field, "is not usable", {.expected = expected, .got = got});
    };
    check(max_new_tokens >= 1, "max_new_tokens", "at least 1", std::to_string(max_new_tokens));
    check(temperature >= 0 && std::isfinite(temperature), "temperature", "a number >= 0", std::to_string(temperature));
    check(top_k >= 0, "top_k", "at least 0", std::to_string(top_k));
    check(top_p > 0 && top_p <= 1, "top_p", "0 < value <= 1", std::to_string(top_p));
    check(min_p >= 0 && min_p <= 1, "min_p", "0 <= value <= 1", std::to_string(min_p));
    check(repetition_penalty > 0 && std::isfinite(repetition_penalty), "repetition_penalty", "a number > 0", std::to_string(repetition_penalty));
    check(no_repeat_ngram_size >= 0, "no_repeat_ngram_size", "at least 0", std::to_string(no_repeat_ngram_size));
    check(min_new_tokens >= 0 && min_new_tokens <= max_new_tokens, "min_new_tokens", "0 to max_new_tokens", std::to_string(min_new_tokens));
    check(num_beams >= 1, "num_beams", "at least 1", std::to_string(num_beams));
    check(num_beams == 1 || temperature == 0, "temperature", "0 with beam search, which draws nothing", std::to_string(temperature));
    check(std::isfinite(length_penalty), "length_penalty", "a number", std::to_string(length_penalty));
    check(max_sequences >= 1, "max_sequences", "at least 1", std::to_string(max_sequences));
    check(prefill_rows >= 1, "prefill_rows", "at least 1", std::to_string(prefill_rows));
  }
};

// A token that may be drawn.
struct TokenChance {
  std::int32_t token;
  double probability;
};

// Makes the tokens that a sequence holds less likely (penalty above 1) or likelier. Every token counts once.
template <std::floating_point T>
void penalise_repetition(std::span<T> logits_io, std::span<const std::int32_t> tokens, double penalty) {
  if (penalty == 1) return;
  std::vector<std::int32_t> distinct(tokens.begin(), tokens.end());
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (const std::int32_t token : distinct) {
    T& score = logits_io[static_cast<std::size_t>(token)];
    score = score < 0 ? score * static_cast<T>(penalty) : score / static_cast<T>(penalty);
  }
}

// Rules out every token that would complete an n-gram which `tokens` holds already.
template <std::floating_point T>
void forbid_repeated_ngrams(std::span<T> logits_io, std::span<const std::int32_t> tokens, Index size) {
  if (size == 0 || static_cast<Index>(tokens.size()) < size) return;
  const std::span<const std::int32_t> end = tokens.last(static_cast<std::size_t>(size) - 1);
  for (std::size_t first = 0; first + end.size() < tokens.size(); ++first)
    if (std::equal(end.begin(), end.end(), tokens.begin() + static_cast<std::ptrdiff_t>(first)))
      logits_io[static_cast<std::size_t>(tokens[first + end.size()])] = -std::numeric_limits<T>::infinity();
}

// What the configuration says of a sequence's next scores, before a token is chosen. tokens: of the decoder's text so far, the last `new_tokens` of them new.
// ends: end-of-text tokens. Throws Error where no token is left.
template <std::floating_point T>
void process_logits(std::span<T> logits_io, std::span<const std::int32_t> tokens, Index new_tokens, const GenerationConfig& config,
                    std::span<const std::int32_t> ends) {
  constexpr T kNever = -std::numeric_limits<T>::infinity();
  penalise_repetition<T>(logits_io, tokens, config.repetition_penalty);
  forbid_repeated_ngrams<T>(logits_io, tokens, config.no_repeat_ngram_size);
  if (new_tokens < config.min_new_tokens)
    for (const std::int32_t end : ends) logits_io[static_cast<std::size_t>(end)] = kNever;
  if (config.no_repeat_ngram_size > 0 && std::all_of(logits_io.begin(), logits_io.end(), [](T score) { return score == kNever; }))
    throw Error("generation: no_repeat_ngram_size", "leaves no token that may follow", {.got = std::to_string(config.no_repeat_ngram_size)});
  std::int32_t forced = tokens.size() == 1 ? config.forced_bos_token_id : -1;
  if (new_tokens == config.max_new_tokens - 1 && config.forced_eos_token_id >= 0) forced = config.forced_eos_token_id;
  if (forced < 0) return;
  std::fill(logits_io.begin(), logits_io.end(), kNever);
  logits_io[static_cast<std::size_t>(forced)] = 0;
}

// The likeliest token, the first of several. Throws Error for scores among which there is no largest number.
template <std::floating_point T>
std::int32_t likeliest_token(std::span<const T> logits) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (largest == logits.end() || !std::isfinite(*largest))
    throw Error("generation", "the scores of the next token are not numbers", {.remedy = "check the model's and the adapters' weights for NaN and infinity"});
  return static_cast<std::int32_t>(largest - logits.begin());
}

namespace detail {

// The likeliest of them, all of positive weight, that have the share top_p of `total` together; of equals the first ones (in
// transformers any of them, as its sort has it).
DELTATUNE_FUNCTION void keep_top_p(std::vector<TokenChance>& chances_io, double top_p, double total) {
  const auto likelier = [](const TokenChance& a, const TokenChance& b) {
    return a.probability != b.probability ? a.probability > b.probability : a.token < b.token;
  };
  std::size_t kept = 0, sorted = 0;
  for (double mass = 0; kept < chances_io.size() && (kept == 0 || mass < top_p * total); ++kept) {
    if (kept == sorted) {  // as much as is needed, not the whole vocabulary
      sorted = std::min(chances_io.size(), 4 * sorted + 64);
      const auto begin = chances_io.begin() + static_cast<std::ptrdiff_t>(kept);
      std::partial_sort(begin, chances_io.begin() + static_cast<std::ptrdiff_t>(sorted), chances_io.end(), likelier);
    }
    mass += chances_io[kept].probability;
  }
  chances_io.resize(kept);
  std::sort(chances_io.begin(), chances_io.end(), [](const TokenChance& a, const TokenChance& b) { return a.token < b.token; });
}

}  // namespace detail

// The tokens that may be drawn, by number, and their probabilities, which are 1 together. Temperature above 0. Throws Error as likeliest_token() does.
template <std::floating_point T>
std::vector<TokenChance> next_token_chances(std::span<const T> logits, const GenerationConfig& config) {
  const T largest = logits[static_cast<std::size_t>(likeliest_token<T>(logits))];
  T least = -std::numeric_limits<T>::infinity();
  if (config.top_k > 0 && config.top_k < static_cast<Index>(logits.size())) {
    std::vector<T> sorted(logits.begin(), logits.end());
    const auto last = sorted.begin() + static_cast<std::ptrdiff_t>(config.top_k) - 1;
    std::nth_element(sorted.begin(), last, sorted.end(), std::greater<T>());
    least = *last;
  }
  std::vector<TokenChance> chances;
  double total = 0;
  for (std::size_t token = 0; token < logits.size(); ++token) {
    if (!(logits[token] >= least)) continue;
    const double weight = std::exp((static_cast<double>(logits[token]) - static_cast<double>(largest)) / config.temperature);
    total += weight;
    if (weight > 0 && weight >= config.min_p) chances.push_back({static_cast<std::int32_t>(token), weight});
  }
  // What min-p takes away lies behind what it leaves: it doesn't change where top-p, which comes first, cuts.
  if (config.top_p < 1) detail::keep_top_p(chances, config.top_p, total);
  double left = 0;
  for (const TokenChance& chance : chances) left += chance.probability;
  for (TokenChance& chance : chances) chance.probability /= left;
  return chances;
}

// The same as one probability per token.
template <std::floating_point T>
std::vector<double> next_token_distribution(std::span<const T> logits, const GenerationConfig& config) {
  std::vector<double> distribution(logits.size(), 0.0);
  for (const TokenChance& chance : next_token_chances<T>(logits, config)) distribution[static_cast<std::size_t>(chance.token)] = chance.probability;
  return distribution;
}

// From scores that a repetition penalty has changed already. number: of the token in the new text; with the seed it names the random number.
template <std::floating_point T>
std::int32_t choose_token(std::span<const T> logits, const GenerationConfig& config, std::uint64_t seed, Index number) {
  if (config.temperature == 0) return likeliest_token<T>(logits);
  const std::vector<TokenChance> chances = next_token_chances<T>(logits, config);
  double left = (random_bits(derive(seed, static_cast<std::uint64_t>(number)), 0) + 0.5) * 0x1p-32;
  for (const TokenChance& chance : chances) {
    left -= chance.probability;
    if (left < 0) return chance.token;
  }
  return chances.back().token;  // rounding has left something
}

}  // namespace deltatune
