// A language model goes on with texts, and an encoder-decoder writes texts for others, token by token, many at once: the likeliest tokens, drawn ones, or by
// beam search. The place of a sequence that ends is given to the next prompt. The draws of a sequence do not depend on the others.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/model/beam_search.hpp"
#include "deltatune/model/next_token.hpp"
#include "deltatune/model/reading.hpp"
#include "deltatune/nn/packed_batch.hpp"

namespace deltatune {

// Sees each new token at once, with the number of its sequence, and returns whether that sequence goes on. Sequences come by turns.
using OnToken = std::function<bool(Index sequence, std::int32_t token)>;

// What a model has read, from one generation to the next: a conversation, of which only what is new is read for each answer. Of one model, whose parameters and
// deltas stay as they are in the meantime.
template <class Model>
class GenerationMemory {
 public:
  // How many of these tokens need not be read, and leaves only them in cache(), which gets room for `rows` tokens. Never all: the last one's scores are wanted.
  Index recall(typename Model::Context& ctx, const Model& model, std::span<const std::int32_t> tokens, Index rows, Index max_rows) {
    Index common = 0;
    if (!cache_ || rows > capacity_) {
      capacity_ = std::max(rows, std::min(2 * capacity_, max_rows));
      cache_.reset();  // before there is another
      cache_.emplace(model.make_cache(ctx, 1, capacity_));
    } else {
      const auto most = std::min(tokens.size() - 1, tokens_.size());
      while (common < static_cast<Index>(most) && tokens[static_cast<std::size_t>(common)] == tokens_[static_cast<std::size_t>(common)]) ++common;
    }
    if (common == 0) {
      cache_->text.clear(0);  // with the rows of prompts
    } else {
      cache_->text.drop_last(0, static_cast<Index>(tokens_.size()) - common);
    }
    tokens_.clear();  // until a generation has succeeded
    return common;
  }
  typename Model::Cache& cache() { return *cache_; }
  // The cache holds these.
  void keep(std::vector<std::int32_t> tokens) { tokens_ = std::move(tokens); }

 private:
  std::optional<typename Model::Cache> cache_;
  Index capacity_ = 0;
  std::vector<std::int32_t> tokens_;
};

namespace detail {

// The best text of a beam search for each prompt.
template <class Model>
std::vector<Continuation> best_of_beams(typename Model::Context& ctx, Model& model, const PackedBatch& prompts, const GenerationConfig& config,
                                        const OnToken& on_token) {
  std::vector<Continuation> best;
  for (std::vector<Continuation>& texts : beam_search(ctx, model, prompts, config)) {
    Continuation& text = texts.front();
    for (std::size_t t = 0; on_token && t < text.tokens.size(); ++t) {
      if (on_token(static_cast<Index>(best.size()), text.tokens[t])) continue;
      if (t + 1 == text.tokens.size() && text.end == Continuation::End::end_token) break;
      text.tokens.resize(t + 1);
      text.end = Continuation::End::caller;
    }
    best.push_back(std::move(text));
  }
  return best;
}

}  // namespace detail

// Goes on with each sequence of tokens; deltas take part, through the prompts and adapters that the batch names. Returns one continuation per sequence. Of an
// encoder-decoder the sequences are source texts, and the continuations what its decoder writes behind its start token; or, of a batch with a source, behind
// the batch's own rows. With beams on_token sees the tokens of a text when it is complete.
//
// With a memory, which is for one sequence at a time of a decoder alone: what its text has in common with that of the last generation is not read again. Throws
// Error where a prompt and its new tokens do not fit the model, before anything runs.
template <class Model>
std::vector<Continuation> generate(typename Model::Context& ctx, Model& model, const PackedBatch& prompts, const GenerationConfig& given,
                                   const OnToken& on_token = {}, GenerationMemory<Model>* memory = nullptr) {
  using T = scalar_of<typename Model::Tensor>;
  if (prompts.count() == 0) return {};
  if (memory != nullptr && prompts.count() > 1) throw Error("generation", "has a memory for one sequence", {.got = std::to_string(prompts.count())});
  if (memory != nullptr && (given.num_beams > 1 || model.architecture().encoder))
    throw Error("generation", "has a memory, which is for decoders without beams", {.remedy = "leave it out"});
  if (given.num_beams > 1) return detail::best_of_beams(ctx, model, prompts, given, on_token);
  detail::Reading<Model> reading(ctx, model, prompts, given);
  const GenerationConfig& config = reading.config();
  const Index slots = std::min(config.max_sequences, prompts.count());
  const Index turned_from = detail::long_from(model.architecture());
  if (turned_from > 0 && prompts.rows() > turned_from) memory = nullptr;  // which holds keys at their other angles
  std::vector<Continuation> continuations(static_cast<std::size_t>(prompts.count()));
  std::vector<detail::RunningSequence> running;
  std::vector<Index> free_slots;
  for (Index slot = slots; slot-- > 0;) free_slots.push_back(slot);
  Index next_prompt = 0;
  Index recalled = 0;
  std::optional<typename Model::Cache> own;
  if (memory != nullptr) {
    recalled = memory->recall(ctx, model, prompts.ids, reading.longest(), reading.room());
  } else {
    own.emplace(reading.make_cache(slots, slots));
  }
  typename Model::Cache& cache = memory != nullptr ? memory->cache() : *own;
  while (true) {
    for (; next_prompt < prompts.count() && !free_slots.empty(); ++next_prompt) {
      running.push_back(reading.begin(cache, next_prompt, free_slots.back(), free_slots.back(), recalled));
      free_slots.pop_back();
    }
    if (running.empty()) return continuations;

    reading.step(running, cache, [&](detail::RunningSequence& sequence, std::span<T> scores) {
      reading.process(scores, sequence);
      Continuation& continuation = continuations[static_cast<std::size_t>(sequence.number)];
      const std::uint64_t seed = config.seed + static_cast<std::uint64_t>(sequence.number);
      const std::int32_t token = choose_token<T>(scores, config, seed, static_cast<Index>(continuation.tokens.size()));
      continuation.tokens.push_back(token);
      sequence.tokens.push_back(token);
      const bool goes_on = !on_token || on_token(sequence.number, token);
      const bool at_end = reading.is_end(token);
      const bool full = static_cast<Index>(continuation.tokens.size()) == config.max_new_tokens;
      if (goes_on && !at_end && !full) return;
      continuation.end = at_end ? Continuation::End::end_token : goes_on ? Continuation::End::length : Continuation::End::caller;
      free_slots.push_back(sequence.slot);
      sequence.slot = -1;
      if (memory != nullptr) memory->keep({sequence.tokens.begin(), sequence.tokens.begin() + sequence.read});
    });
    std::erase_if(running, [](const detail::RunningSequence& sequence) { return sequence.slot < 0; });
  }
}

// One sequence: the new tokens.
template <class Model>
std::vector<std::int32_t> generate(typename Model::Context& ctx, Model& model, std::span<const std::int32_t> prompt, const GenerationConfig& config,
                                   const std::function<void(std::int32_t)>& on_token = {}) {
  PackedBatch prompts;
  prompts.add(prompt);
  const OnToken each = [&](Index, std::int32_t token) {
    if (on_token) on_token(token);
    return true;
  };
  return std::move(generate(ctx, model, prompts, config, each).front().tokens);
}

}  // namespace deltatune
