// Sequences that a language model reads and writes with a key-value cache, many at once: passes of packed rows without padding. All prompts are read first, in
// pieces where they are long; then each pass has one row per sequence. What is done with the scores is the caller's: model/generate.hpp, model/beam_search.hpp.
//
// An encoder reads each source text once, with the first row of its decoder; the keys and values of cross-attention are kept.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
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
  double score = 0;                       // of beam search: the log-probability of the tokens, divided by their number to the power length_penalty
};

namespace detail {

// A sequence on its way.
struct RunningSequence {
  Index number = 0;                       // of its prompt
  Index slot = 0;                         // of the cache
  Index source_slot = 0;                  // of the cache of cross-attention
  Index source_rows = 0;                  // that the encoder reads with the first row
  Index read = 0;                         // tokens that the cache holds
  std::vector<std::int32_t> tokens = {};  // of prompt and text
  double score = 0;                       // of beam search: the log-probability of the text

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
    const bool whole = first == 0 && sequence.source_rows > 0;  // an encoder reads a text at once
    const Index most = !whole ? room : room >= sequence.source_rows || room == prefill_rows ? sequence.unread() : 0;
    rows.push_back(stage(sequence) == first ? std::min(sequence.unread(), most) : 0);
    if (rows.back() > 0) room = std::max(room - (whole ? sequence.source_rows : rows.back()), Index{0});
  }
  return rows;
}

// Throws Error unless the model has positions for all of them. room: for tokens of a sequence that are read.
DELTATUNE_FUNCTION Index longest_read(const PackedBatch& prompts, const GenerationConfig& config, Index room) {
  Index longest = 0;
  for (Index b = 0; b < prompts.count(); ++b) {
    const Index tokens = prompts.length(b) + config.max_new_tokens;
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
    const Index tokens = prompts.length(b);
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

DELTATUNE_FUNCTION void check_token(std::int32_t token, const char* field, const Architecture& architecture) {
  if (token >= architecture.vocab_size)
    throw Error(std::string("generation: ") + field, "is no token of the model",
                {.expected = "below " + std::to_string(architecture.vocab_size), .got = std::to_string(token)});
}

// What a decoder goes on with: the prompts, or of an encoder-decoder, which reads them, its start token each. Throws Error where there is none.
DELTATUNE_FUNCTION PackedBatch decoder_prompts(const Architecture& architecture, const PackedBatch& prompts, const GenerationConfig& config) {
  if (!architecture.encoder || !prompts.source.empty()) return prompts;
  const std::int32_t start = config.decoder_start_token_id >= 0 ? config.decoder_start_token_id : architecture.start_id;
  if (start < 0)
    throw Error(architecture.title, "has no token that its decoder starts with",
                {.remedy = "set decoder_start_token_id in config.json, or in the GenerationConfig; of mBART it is the code of the target's language"});
  check_token(start, "decoder_start_token_id", architecture);
  PackedBatch starts;
  for (Index b = 0; b < prompts.count(); ++b) starts.add({&start, 1});
  starts.adapters = prompts.adapters;
  starts.source = {prompts};
  return starts;
}

// The passes of one generation, with their buffers.
template <class Model>
class Reading {
 public:
  using X = typename Model::Tensor;
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = typename Model::Context;
  using Cache = typename Model::Cache;

  // given: texts to go on with, or of an encoder-decoder its source texts; or a batch with a source, whose own rows its decoder begins with. Throws Error
  // for what the model cannot read or write.
  Reading(Context& ctx, Model& model, const PackedBatch& given, const GenerationConfig& config)
      : ctx_(ctx), model_(model), prompts_(decoder_prompts(model.architecture(), given, config)), config_(config), saved_(ctx), scratch_(ctx), device_(ctx) {
    config_.validate();
    const Architecture& a = model.architecture();
    if (config_.end_ids.empty()) config_.end_ids = a.eos_ids;
    for (const std::int32_t end : config_.end_ids) check_token(end, "end_ids", a);
    check_token(config_.forced_bos_token_id, "forced_bos_token_id", a);
    check_token(config_.forced_eos_token_id, "forced_eos_token_id", a);
    longest_ = longest_read(prompts_, config_, room());
    prefill_rows_ = prefill_rows_of(a, prompts_, config_);
    if (!a.encoder) return;
    const PackedBatch& source = prompts_.source.front();
    if (source.count() != prompts_.count())
      throw Error("generation: source", "needs one source text per sequence",
                  {.expected = std::to_string(prompts_.count()), .got = std::to_string(source.count())});
    for (Index b = 0; b < source.count(); ++b) longest_source_ = std::max(longest_source_, source.length(b));
  }

  const PackedBatch& prompts() const { return prompts_; }
  // With the end-of-text tokens that hold.
  const GenerationConfig& config() const { return config_; }
  bool is_end(std::int32_t token) const {
    return config_.stops_at_end && std::find(config_.end_ids.begin(), config_.end_ids.end(), token) != config_.end_ids.end();
  }
  // Tokens of a sequence that the model can read, and that the longest of these reads.
  Index room() const {
    const Architecture& a = model_.architecture();
    return a.encoder ? a.longest() : a.max_position_embeddings - model_.layout().counted - model_.layout().shift;
  }
  Index longest() const { return longest_; }
  Cache make_cache(Index slots, Index source_slots) const { return model_.make_cache(ctx_, slots, longest_, source_slots, longest_source_); }

  // The sequence with this number, which begins in these slots, behind so many tokens that the cache knows.
  RunningSequence begin(Cache& cache, Index number, Index slot, Index source_slot, Index known = 0) const {
    if (known == 0) cache.text.clear(slot);
    if (longest_source_ > 0) cache.source.clear(source_slot);
    const std::span<const std::int32_t> tokens = prompts_.tokens(number);
    return {.number = number,
            .slot = slot,
            .source_slot = source_slot,
            .source_rows = longest_source_ > 0 ? prompts_.source.front().length(number) : 0,
            .read = known,
            .tokens = {tokens.begin(), tokens.end()}};
  }

  // Reads the next tokens of some sequences. f(sequence, scores): for each whose tokens are now all read, in order; scores (V) may be changed.
  template <class F>
  void step(std::vector<RunningSequence>& running, Cache& cache, const F& f) {
    const std::vector<Index> rows = next_rows(running, prefill_rows_);
    PackedBatch batch;
    slots_.clear();
    source_slots_.clear();
    batched_.clear();
    const bool has_source = longest_source_ > 0;
    bool begins = false;
    for (std::size_t i = 0; i < running.size(); ++i) {
      if (rows[i] == 0) continue;
      RunningSequence& sequence = running[i];
      begins = sequence.read == 0;
      add(batch, sequence, rows[i]);
      slots_.push_back(sequence.slot);
      if (has_source) source_slots_.push_back(sequence.source_slot);
      batched_.push_back(&sequence);
      sequence.read += rows[i];
    }
    device_.upload(batch, false, begins ? model_.layout() : model_.layout_behind());
    {
      const WorkspaceScope<B> all(saved_);
      Pass<X> pass{ctx_, saved_, scratch_};
      const View<T> logits = pass.keep(batch.count(), model_.architecture().vocab_size);
      model_.continue_sequences(pass, device_, slots_, logits, kept_, cache, source_slots_);
      host_.resize(static_cast<std::size_t>(logits.size()));
      B::copy_out(ctx_, logits.data, host_.data(), logits.size() * static_cast<Index>(sizeof(T)));
      B::synchronize(ctx_);
    }
    const std::size_t words = static_cast<std::size_t>(model_.architecture().vocab_size);
    for (std::size_t b = 0; b < batched_.size(); ++b)
      if (batched_[b]->unread() == 0) f(*batched_[b], std::span<T>(host_).subspan(b * words, words));
  }

  // What the configuration says of the scores of a sequence's next token.
  template <std::floating_point F>
  void process(std::span<F> scores_io, const RunningSequence& sequence) const {
    const Index new_tokens = static_cast<Index>(sequence.tokens.size()) - prompts_.length(sequence.number);
    process_logits<F>(scores_io, sequence.tokens, new_tokens, config_, config_.end_ids);
  }

 private:
  void add(PackedBatch& batch_io, const RunningSequence& sequence, Index rows) const {
    const std::size_t row = batch_io.ids.size(), number = static_cast<std::size_t>(sequence.number);
    batch_io.add(std::span<const std::int32_t>(sequence.tokens).subspan(static_cast<std::size_t>(sequence.read), static_cast<std::size_t>(rows)));
    for (std::size_t r = row; r < batch_io.positions.size(); ++r) batch_io.positions[r] += static_cast<std::int32_t>(sequence.read);
    const bool begins = sequence.read == 0;
    if (begins && !prompts_.prompts.empty()) batch_io.prompts.push_back(prompts_.prompts.at(number));
    if (!prompts_.adapters.empty()) batch_io.adapters.push_back(prompts_.adapters.at(number));
    if (!begins || longest_source_ == 0) return;
    const PackedBatch& given = prompts_.source.front();
    batch_io.source.resize(1);
    PackedBatch& source = batch_io.source.front();
    source.add(given.tokens(sequence.number));
    if (!given.prompts.empty()) source.prompts.push_back(given.prompts.at(number));
    if (!given.adapters.empty()) source.adapters.push_back(given.adapters.at(number));
  }

  Context& ctx_;
  Model& model_;
  PackedBatch prompts_;  // of the decoder, with the source where there is one
  GenerationConfig config_;
  Index longest_ = 0, longest_source_ = 0, prefill_rows_ = 0;
  Workspace<B> saved_, scratch_;
  DeviceBatch<X> device_;
  typename Model::Activations kept_;
  std::vector<T> host_;
  std::vector<Index> slots_, source_slots_;
  std::vector<RunningSequence*> batched_;
};

}  // namespace detail

}  // namespace deltatune
