// A language model goes on with texts, token by token, many at once. All prompts are read in passes of packed rows without padding; then each step has one row
// per sequence that still runs, and the place of one that ends is given to the next prompt. The draws of a sequence do not depend on the others.
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
#include "deltatune/model/next_token.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/seam/architecture.hpp"
#include "deltatune/seam/pass.hpp"

namespace deltatune {

// What a prompt was continued with.
struct Continuation {
  enum class End { length, end_token, caller };

  std::vector<std::int32_t> tokens = {};  // the end-of-text token included
  End end = End::length;                  // why there are no more: max_new_tokens, an end-of-text token, or on_token
};

// Sees each new token at once, with the number of its sequence, and returns whether that sequence goes on. Sequences come by turns.
using OnToken = std::function<bool(Index sequence, std::int32_t token)>;

namespace detail {

// A sequence on its way.
struct RunningSequence {
  Index number = 0;                       // of its prompt
  Index slot = 0;                         // of the cache
  Index read = 0;                         // tokens that the cache holds
  std::vector<std::int32_t> tokens = {};  // of prompt and text

  Index unread() const { return static_cast<Index>(tokens.size()) - read; }
};

// How many tokens of each sequence the next pass reads. In one pass all sequences begin, or all are within their prompts, or all have one token to read.
DELTATUNE_FUNCTION std::vector<Index> next_rows(const std::vector<RunningSequence>& running, Index prefill_rows) {
  const auto stage = [](const RunningSequence& sequence) { return sequence.read == 0 ? 0 : sequence.unread() > 1 ? 1 : 2; };
  int first = 2;
  for (const RunningSequence& sequence : running) first = std::min(first, stage(sequence));
  Index room = first == 2 ? static_cast<Index>(running.size()) : prefill_rows;
  std::vector<Index> rows;
  for (const RunningSequence& sequence : running) {
    rows.push_back(stage(sequence) == first ? std::min(sequence.unread(), room) : 0);
    room -= rows.back();
  }
  return rows;
}

// Throws Error unless the model has positions for all of them. room: for tokens of a sequence that are read.
DELTATUNE_FUNCTION Index longest_read(const PackedBatch& prompts, const GenerationConfig& config, Index room) {
  Index longest = 0;
  for (Index b = 0; b < prompts.count(); ++b) {
    const Index tokens = prompts.offsets[static_cast<std::size_t>(b) + 1] - prompts.offsets[static_cast<std::size_t>(b)] + config.max_new_tokens;
    if (tokens - 1 > room)  // the last token is not read any more
      throw Error(prompts.count() == 1 ? "generation" : "generation: prompt " + std::to_string(b + 1),
                  "the prompt and the new tokens are longer than the model's positions",
                  {.expected = "at most " + std::to_string(room + 1) + " tokens", .got = std::to_string(tokens)});
    longest = std::max(longest, tokens - 1);
  }
  return longest;
}

// The length from which all keys of a text are turned by other angles (LongRoPE); 0: none.
DELTATUNE_FUNCTION Index long_from(const Architecture& architecture) {
  Index from = 0;
  for (const LayerSpec& layer : architecture.stack.layers)
    if (layer.attention.rotary) from = std::max(from, layer.attention.rotary->long_from);
  return from;
}

// Tokens of prompts that run at once: as configured, or all, where their length decides on the angles of all keys. Throws Error where a text would grow past
// that length, as the keys in its cache keep theirs.
DELTATUNE_FUNCTION Index prefill_rows_of(const Architecture& architecture, const PackedBatch& prompts, const GenerationConfig& config) {
  const Index from = long_from(architecture);
  if (from == 0) return config.prefill_rows;
  Index shortest = prompts.rows(), longest = 0;
  for (Index b = 0; b < prompts.count(); ++b) {
    const Index tokens = prompts.offsets[static_cast<std::size_t>(b) + 1] - prompts.offsets[static_cast<std::size_t>(b)];
    shortest = std::min(shortest, tokens);
    longest = std::max(longest, tokens + config.max_new_tokens - 1);
  }
  if (shortest <= from && longest > from)
    throw Error("generation", "a text would pass the position from which " + architecture.title + " turns all keys by other angles",
                {.expected = "prompts longer than " + std::to_string(from) + " tokens, or at most so many with the new ones",
                 .got = std::to_string(shortest) + " to " + std::to_string(longest),
                 .remedy = "ask for fewer new tokens, or give short and long prompts apart"});
  return shortest > from ? prompts.rows() : config.prefill_rows;
}

}  // namespace detail

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
      cache_->clear(0);  // with the rows of prompts
    } else {
      cache_->drop_last(0, static_cast<Index>(tokens_.size()) - common);
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

// Goes on with each sequence of tokens; deltas take part, through the prompts and adapters that the batch names. Returns one continuation per sequence. With a
// memory, which is for one sequence at a time: what its text has in common with that of the last generation is not read again. Throws Error where a prompt and
// its new tokens do not fit the model, before anything runs.
template <class Model>
std::vector<Continuation> generate(typename Model::Context& ctx, Model& model, const PackedBatch& prompts, const GenerationConfig& config,
                                   const OnToken& on_token = {}, GenerationMemory<Model>* memory = nullptr) {
  using X = typename Model::Tensor;
  using T = scalar_of<X>;
  using B = backend_of<X>;
  config.validate();
  if (prompts.count() == 0) return {};
  const Index room = model.architecture().max_position_embeddings - model.layout().counted - model.layout().shift;
  const Index longest = detail::longest_read(prompts, config, room);
  const Index prefill_rows = detail::prefill_rows_of(model.architecture(), prompts, config);
  const Index slots = std::min(config.max_sequences, prompts.count());
  std::vector<std::int32_t> ends = config.end_ids;
  if (ends.empty()) ends = model.architecture().eos_ids;

  Workspace<B> saved(ctx), scratch(ctx);
  DeviceBatch<X> device(ctx);
  typename Model::Activations kept;
  if (memory != nullptr && prompts.count() > 1) throw Error("generation", "has a memory for one sequence", {.got = std::to_string(prompts.count())});
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
    recalled = memory->recall(ctx, model, prompts.ids, longest, room);
  } else {
    own.emplace(model.make_cache(ctx, slots, longest));
  }
  typename Model::Cache& cache = memory != nullptr ? memory->cache() : *own;
  std::vector<T> host;
  while (true) {
    for (; next_prompt < prompts.count() && !free_slots.empty(); ++next_prompt) {
      const auto begin = prompts.ids.begin() + prompts.offsets[static_cast<std::size_t>(next_prompt)];
      const auto end = prompts.ids.begin() + prompts.offsets[static_cast<std::size_t>(next_prompt) + 1];
      running.push_back({.number = next_prompt, .slot = free_slots.back(), .read = recalled, .tokens = {begin, end}});
      if (recalled == 0) cache.clear(free_slots.back());
      free_slots.pop_back();
    }
    if (running.empty()) return continuations;

    const std::vector<Index> rows = detail::next_rows(running, prefill_rows);
    PackedBatch batch;
    std::vector<Index> batch_slots;
    std::vector<detail::RunningSequence*> batched;
    bool begins = false;
    for (std::size_t i = 0; i < running.size(); ++i) {
      if (rows[i] == 0) continue;
      detail::RunningSequence& sequence = running[i];
      const std::size_t row = batch.ids.size(), number = static_cast<std::size_t>(sequence.number);
      batch.add(std::span<const std::int32_t>(sequence.tokens).subspan(static_cast<std::size_t>(sequence.read), static_cast<std::size_t>(rows[i])));
      for (std::size_t r = row; r < batch.positions.size(); ++r) batch.positions[r] += static_cast<std::int32_t>(sequence.read);
      begins = sequence.read == 0;
      if (begins && !prompts.prompts.empty()) batch.prompts.push_back(prompts.prompts.at(number));
      if (!prompts.adapters.empty()) batch.adapters.push_back(prompts.adapters.at(number));
      batch_slots.push_back(sequence.slot);
      batched.push_back(&sequence);
      sequence.read += rows[i];
    }
    device.upload(batch, false, begins ? model.layout() : model.layout_behind());
    {
      const WorkspaceScope<B> all(saved);
      Pass<X> pass{ctx, saved, scratch};
      const View<T> logits = pass.keep(batch.count(), model.architecture().vocab_size);
      model.continue_sequences(pass, device, batch_slots, logits, kept, cache);
      host.resize(static_cast<std::size_t>(logits.size()));
      B::copy_out(ctx, logits.data, host.data(), logits.size() * static_cast<Index>(sizeof(T)));
      B::synchronize(ctx);
    }

    const std::size_t words = static_cast<std::size_t>(model.architecture().vocab_size);
    for (std::size_t b = 0; b < batched.size(); ++b) {
      detail::RunningSequence& sequence = *batched[b];
      if (sequence.unread() > 0) continue;
      const std::span<T> scores = std::span<T>(host).subspan(b * words, words);
      penalise_repetition<T>(scores, sequence.tokens, config.repetition_penalty);
      Continuation& continuation = continuations[static_cast<std::size_t>(sequence.number)];
      const std::uint64_t seed = config.seed + static_cast<std::uint64_t>(sequence.number);
      const std::int32_t token = choose_token<T>(scores, config, seed, static_cast<Index>(continuation.tokens.size()));
      continuation.tokens.push_back(token);
      sequence.tokens.push_back(token);
      const bool goes_on = !on_token || on_token(sequence.number, token);
      const bool at_end = config.stops_at_end && std::find(ends.begin(), ends.end(), token) != ends.end();
      const bool full = static_cast<Index>(continuation.tokens.size()) == config.max_new_tokens;
      if (goes_on && !at_end && !full) continue;
      continuation.end = at_end ? Continuation::End::end_token : goes_on ? Continuation::End::length : Continuation::End::caller;
      free_slots.push_back(sequence.slot);
      sequence.slot = -1;
      if (memory != nullptr) memory->keep({sequence.tokens.begin(), sequence.tokens.begin() + sequence.read});
    }
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
