// A batch of sequences: rows of all of them one after another, no padding. First on the host, then where the model reads it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/nn/demand.hpp"
#include "deltatune/ops/cross_entropy.hpp"
#include "deltatune/ops/embedding.hpp"
#include "deltatune/seam/input.hpp"
#include "deltatune/tensor/sequence.hpp"
#include "deltatune/tensor/tensor_trait.hpp"

namespace deltatune {

// On the host. Labels are one per sequence: a class, or a number for a model with a single output; or one per token for a language model, which
// learns to predict it from what stands before it. Any of them may be absent.
//
// Of an encoder-decoder that is a language model, `source` has what the encoder reads, and the sequences here are what the decoder reads: a start token and the
// target without its last token. A token label is then what its own row predicts: the target. A classifier's batches are as those of any other classifier: its
// decoder reads the same texts (DeviceBatch::upload()).
struct PackedBatch {
  std::vector<std::int32_t> ids;           // (N) tokens
  std::vector<std::int32_t> positions;     // (N) place in the sequence as the model counts it
  std::vector<std::int32_t> types;         // (N) token type (segment)
  std::vector<Index> offsets{0};           // (B + 1)
  std::vector<std::int32_t> labels;        // (B) or empty
  std::vector<float> targets;              // (B) or empty
  std::vector<std::int32_t> token_labels;  // (N) or empty: the token to predict in this place, or ops::kIgnoredLabel for none
  std::vector<std::int32_t> prompts;       // (B) or empty: which of a delta's prompts; empty: the first
  std::vector<std::string> adapters = {};  // (B) or empty: the routed attachment that a sequence goes through (Attachment::set_routed); "": none

  std::vector<PackedBatch> source = {};  // one, of as many sequences, or none

  std::vector<float> features = {};  // (B, C) or empty: what a classifier's output layer reads of each sequence, computed before (train/features.hpp)

  Index rows() const { return static_cast<Index>(ids.size()); }
  Index count() const { return static_cast<Index>(offsets.size()) - 1; }
  // Of sequence b: its number of tokens, and those.
  Index length(Index b) const { return offsets[static_cast<std::size_t>(b) + 1] - offsets[static_cast<std::size_t>(b)]; }
  std::span<const std::int32_t> tokens(Index b) const {
    return std::span<const std::int32_t>(ids).subspan(static_cast<std::size_t>(offsets[static_cast<std::size_t>(b)]), static_cast<std::size_t>(length(b)));
  }

  // Adds one sequence; its positions count from 0 and all its tokens have type 0.
  void add(std::span<const std::int32_t> tokens) {
    if (tokens.empty()) throw Error("batch", "a sequence without tokens", {.remedy = "a tokenizer adds at least its special tokens"});
    ids.insert(ids.end(), tokens.begin(), tokens.end());
    for (std::size_t t = 0; t < tokens.size(); ++t) positions.push_back(static_cast<std::int32_t>(t));
    types.resize(ids.size(), 0);
    offsets.push_back(rows());
  }
};

namespace detail {

// How many tokens of a sequence are laid out: where a classifier reads the last token, none behind the one it reads, which is, as in
// GPT2ForSequenceClassification of transformers, the last that is not padding, or the first token where all are. Behind rows of a prompt transformers does
// not see the ids and reads the last token of all.
DELTATUNE_FUNCTION Index tokens_read(std::span<const std::int32_t> ids, const InputLayout& layout) {
  std::size_t count = ids.size();
  while (layout.pad_id >= 0 && layout.rows() == 0 && count > 1 && ids[count - 1] == layout.pad_id) --count;
  return static_cast<Index>(count);
}
DELTATUNE_FUNCTION Index tokens_read(const PackedBatch& batch, Index b, const InputLayout& layout) { return tokens_read(batch.tokens(b), layout); }

// Texts of a classifier with a decoder, as BartForSequenceClassification of transformers reads them: the encoder all of a text, the decoder the text behind a
// start token, up to the row of its last end-of-text token, behind which nobody reads. Throws Error for a text without that token, or with a gap before it.
DELTATUNE_FUNCTION PackedBatch read_twice(const PackedBatch& texts, const InputLayout& layout) {
  PackedBatch batch;
  batch.labels = texts.labels;
  batch.targets = texts.targets;
  batch.adapters = texts.adapters;
  batch.features = texts.features;
  for (Index b = 0; b < texts.count(); ++b) {
    const std::span<const std::int32_t> tokens = texts.tokens(b);
    const auto last = std::find(tokens.rbegin(), tokens.rend(), layout.end_id);
    const std::string where = "batch: sequence " + std::to_string(b);
    if (last == tokens.rend())
      throw Error(where, "has no end-of-text token, where the classifier reads its decoder",
                  {.expected = "token " + std::to_string(layout.end_id), .remedy = "encode it with the special tokens that the tokenizer adds"});
    const std::size_t end = static_cast<std::size_t>(tokens.rend() - last) - 1;
    if (texts.positions[static_cast<std::size_t>(texts.offsets[static_cast<std::size_t>(b)]) + end] != static_cast<std::int32_t>(end))
      throw Error(where, "has a gap, which a decoder would read", {.remedy = "leave out padding alone, behind the text"});
    std::vector<std::int32_t> read{layout.start_id >= 0 ? layout.start_id : tokens.back()};
    read.insert(read.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(end));
    batch.add(read);
  }
  batch.source.push_back(texts);
  return batch;
}

// Whether the layout leaves a batch as it is.
DELTATUNE_FUNCTION bool is_laid_out(const PackedBatch& batch, const InputLayout& layout) {
  if (layout.moves_tokens() || layout.first_position > 0) return false;
  for (Index b = 0; layout.pad_id >= 0 && b < batch.count(); ++b)
    if (tokens_read(batch, b, layout) < batch.length(b)) return false;
  return true;
}

// The batch with room for the rows of input deltas, whose ids are -1, and without the tokens that are not read.
DELTATUNE_FUNCTION PackedBatch arranged(const PackedBatch& batch, const InputLayout& layout) {
  PackedBatch result;
  result.labels = batch.labels;
  result.targets = batch.targets;
  result.prompts = batch.prompts;
  const bool has_token_labels = !batch.token_labels.empty();
  // What has positions is in front: prompts like words behind the first token are not there.
  const auto add_rows = [&](Index count, Index first_position) {
    for (Index i = 0; i < count; ++i) {
      result.ids.push_back(-1);
      result.positions.push_back(static_cast<std::int32_t>(i < layout.counted ? layout.first_position + first_position + i : 0));
      result.types.push_back(0);
      if (has_token_labels) result.token_labels.push_back(ops::kIgnoredLabel);
    }
  };
  for (Index b = 0; b < batch.count(); ++b) {
    const Index first = batch.offsets[static_cast<std::size_t>(b)], last = first + tokens_read(batch, b, layout);
    add_rows(layout.front, layout.shift);
    Index skipped = 0;  // before this token
    for (Index i = first; i < last; ++i) {
      if (i == first + 1) add_rows(layout.after_first, 0);
      const std::size_t row = static_cast<std::size_t>(i);
      result.ids.push_back(batch.ids[row]);
      const bool skips = layout.skipped_id >= 0 && layout.counted == 0 && batch.ids[row] == layout.skipped_id;
      if (skips) ++skipped;
      result.positions.push_back(skips ? layout.skipped_id
                                       : static_cast<std::int32_t>(batch.positions[row] - skipped + layout.first_position + layout.shift + layout.counted));
      result.types.push_back(batch.types[row]);
      if (has_token_labels) result.token_labels.push_back(batch.token_labels[row]);
    }
    if (last == first + 1) add_rows(layout.after_first, 0);
    result.offsets.push_back(result.rows());
  }
  return result;
}

// f(row, label) for each row that predicts a token: of an encoder-decoder, which has a source, each with a label; of a language model each behind which stands
// a token with one.
template <class F>
void visit_predictions(const PackedBatch& batch, bool has_source, const F& f) {
  if (batch.token_labels.empty()) return;
  if (batch.token_labels.size() != batch.ids.size())
    throw Error("batch", "needs one label per token", {.expected = std::to_string(batch.ids.size()), .got = std::to_string(batch.token_labels.size())});
  const Index behind = has_source ? 0 : 1;
  for (Index b = 0; b < batch.count(); ++b)
    for (Index row = batch.offsets[static_cast<std::size_t>(b)]; row + behind < batch.offsets[static_cast<std::size_t>(b) + 1]; ++row) {
      const std::int32_t label = batch.token_labels[static_cast<std::size_t>(row + behind)];
      if (label != ops::kIgnoredLabel) f(row, label);
    }
}

}  // namespace detail

// Where the model reads it. Buffers grow to the largest batch seen (or planned for) and are used again.
template <class X>
class DeviceBatch {
 public:
  using B = backend_of<X>;
  using Context = context_of<X>;

  explicit DeviceBatch(Context& ctx) : ctx_(&ctx) {}

  // grouped: also groups the rows by token, position and type, which the gradients of embeddings need. model_layout: for the rows and positions of the model's
  // deltas; of an encoder-decoder those of the source. A classifier with a decoder reads a batch without a source twice: see detail::read_twice().
  void upload(const PackedBatch& tokens, bool grouped, const InputLayout& model_layout = {}) {
    if (model_layout.end_id < 0 || !tokens.source.empty()) return place(tokens, grouped, model_layout);
    place(detail::read_twice(tokens, model_layout), grouped, model_layout);
  }

  // What the encoder of an encoder-decoder reads; null: the batch has none.
  const DeviceBatch* source() const { return has_source_ ? source_.get() : nullptr; }
  const Sequences& sequences() const { return sequences_; }
  // Rows of each sequence (B), on the host.
  const std::vector<Index>& lengths() const { return lengths_; }
  const Routes& routes() const { return routes_; }
  const InputLayout& layout() const { return layout_; }
  // (B, C), or empty: the tokens are read.
  View<const scalar_of<X>> features() const {
    const Index count = sequences_.count;
    return {features_.data(), count, count > 0 ? static_cast<Index>(host_features_.size()) / count : 0};
  }
  Index last_position() const { return last_position_; }
  // Rows that are tokens, and where they are; nullptr: all rows.
  Index token_count() const { return token_count_; }
  const Index* token_rows() const { return token_rows_.data(); }
  const std::int32_t* ids() const { return ids_.data(); }
  const std::int32_t* positions() const { return positions_.data(); }
  const std::int32_t* types() const { return types_.data(); }
  const std::int32_t* labels() const { return labels_.data(); }  // nullptr when there are none
  const float* targets() const { return targets_.data(); }       // nullptr when there are none
  // What a classifier reads: one row of each sequence.
  Demand first_rows() const { return one_each_.demand(offsets_.data(), true); }
  Demand last_rows() const { return one_each_.demand(last_rows_.data()); }
  // What a language model learns: the rows that predict a token, and those tokens.
  Index prediction_count() const { return static_cast<Index>(host_predicting_rows_.size()); }
  // How many of them each sequence has (B), on the host; they stand in the order of the sequences.
  const std::vector<Index>& predictions() const { return predictions_; }
  const Index* predicting_rows() const { return predicting_rows_.data(); }
  const std::int32_t* predicted() const { return predicted_.data(); }
  RowGroups id_groups() const { return id_groups_.groups(); }
  RowGroups position_groups() const { return position_groups_.groups(); }
  RowGroups type_groups() const { return type_groups_.groups(); }

 private:
  void place(const PackedBatch& tokens, bool grouped, const InputLayout& model_layout) {
    upload_source(tokens, grouped, model_layout);
    const InputLayout layout = has_source_ ? model_layout.of_target() : model_layout;
    const bool plain = detail::is_laid_out(tokens, layout);
    const PackedBatch with_rows = plain ? PackedBatch() : detail::arranged(tokens, layout);
    const PackedBatch& batch = plain ? tokens : with_rows;
    check_prompts(batch, layout);
    layout_ = layout;
    last_position_ = batch.positions.empty() ? 0 : *std::max_element(batch.positions.begin(), batch.positions.end());
    host_token_rows_.clear();
    for (std::size_t i = 0; layout.rows() > 0 && i < batch.ids.size(); ++i)
      if (batch.ids[i] >= 0) host_token_rows_.push_back(static_cast<Index>(i));
    token_rows_.assign(*ctx_, host_token_rows_);
    token_count_ = tokens.rows();
    const Index rows = batch.rows();
    std::vector<std::int32_t>& row_sequence = host_row_sequence_;
    row_sequence.resize(batch.ids.size());
    Index longest = 0;
    host_last_rows_.clear();
    lengths_.clear();
    for (Index b = 0; b < batch.count(); ++b) {
      const Index first = batch.offsets[static_cast<std::size_t>(b)];
      const Index last = batch.offsets[static_cast<std::size_t>(b) + 1];
      longest = std::max(longest, last - first);
      host_last_rows_.push_back(last - 1);
      lengths_.push_back(last - first);
      std::fill(row_sequence.begin() + first, row_sequence.begin() + last, static_cast<std::int32_t>(b));
    }
    host_features_.clear();
    for (const float x : tokens.features) host_features_.push_back(scalar_of<X>(x));
    features_.assign(*ctx_, host_features_);
    ids_.assign(*ctx_, batch.ids);
    positions_.assign(*ctx_, batch.positions);
    types_.assign(*ctx_, batch.types);
    offsets_.assign(*ctx_, batch.offsets);
    row_sequence_.assign(*ctx_, row_sequence);
    labels_.assign(*ctx_, batch.labels);
    targets_.assign(*ctx_, batch.targets);
    prompts_.assign(*ctx_, batch.prompts);
    last_rows_.assign(*ctx_, host_last_rows_);
    host_predicting_rows_.clear();
    host_predicted_.clear();
    predictions_.assign(lengths_.size(), 0);
    detail::visit_predictions(batch, has_source_, [&](Index row, std::int32_t label) {
      host_predicting_rows_.push_back(row);
      host_predicted_.push_back(label);
      ++predictions_[static_cast<std::size_t>(row_sequence[static_cast<std::size_t>(row)])];
    });
    predicting_rows_.assign(*ctx_, host_predicting_rows_);
    predicted_.assign(*ctx_, host_predicted_);
    sequences_ = {offsets_.data(), row_sequence_.data(), batch.count(), rows, longest, prompts_.data()};
    check_adapters(tokens);
    routes_ = routes_of(tokens.adapters, batch.offsets);
    one_each_.assign(*ctx_, batch.count(), prompts_.data(), tokens.adapters);
    if (grouped) {
      id_groups_.assign(*ctx_, batch.ids);
      position_groups_.assign(*ctx_, batch.positions);
      type_groups_.assign(*ctx_, batch.types);
    }
  }
  void upload_source(const PackedBatch& tokens, bool grouped, const InputLayout& layout) {
    has_source_ = !tokens.source.empty();
    if (!has_source_) return;
    const PackedBatch& source = tokens.source.front();
    if (source.count() != tokens.count())
      throw Error("batch: source", "needs one source per target", {.expected = std::to_string(tokens.count()), .got = std::to_string(source.count())});
    if (!source_) source_ = std::make_unique<DeviceBatch>(*ctx_);
    source_->place(source, grouped, layout);
  }
  static void check_prompts(const PackedBatch& batch, const InputLayout& layout) {
    if (!batch.prompts.empty() && static_cast<Index>(batch.prompts.size()) != batch.count())
      throw Error("batch: prompts", "must be one per sequence", {.expected = std::to_string(batch.count()), .got = std::to_string(batch.prompts.size())});
    for (const std::int32_t prompt : batch.prompts)
      if (prompt < 0 || prompt >= layout.prompts)
        throw Error("batch: prompts", "the model has no such prompt",
                    {.expected = "0 to " + std::to_string(layout.prompts - 1), .got = std::to_string(prompt), .remedy = "prompts are counted from 0"});
  }

  static void check_adapters(const PackedBatch& batch) {
    if (!batch.adapters.empty() && static_cast<Index>(batch.adapters.size()) != batch.count())
      throw Error("batch: adapters", "must be one per sequence", {.expected = std::to_string(batch.count()), .got = std::to_string(batch.adapters.size())});
  }

  // An array whose capacity only grows.
  template <class E>
  class Buffer {
   public:
    void assign(Context& ctx, const std::vector<E>& host) {
      size_ = static_cast<Index>(host.size());
      if (size_ > storage_.size()) storage_ = Tensor<E, B>(ctx, {size_});
      B::copy_in(ctx, host.data(), storage_.view().data, size_ * static_cast<Index>(sizeof(E)));
    }
    const E* data() const { return size_ == 0 ? nullptr : storage_.view().data; }

   private:
    Tensor<E, B> storage_;
    Index size_ = 0;
  };

  // B sequences of one row each.
  class OneEach {
   public:
    void assign(Context& ctx, Index count, const std::int32_t* prompts, const std::vector<std::string>& adapters) {
      std::vector<Index> offsets(static_cast<std::size_t>(count) + 1);
      std::iota(offsets.begin(), offsets.end(), Index{0});
      offsets_.assign(ctx, offsets);
      row_sequence_.assign(ctx, std::vector<std::int32_t>(offsets.begin(), offsets.end() - 1));
      sequences_ = {offsets_.data(), row_sequence_.data(), count, count, 1, prompts};
      routes_ = routes_of(adapters, offsets);
    }
    Demand demand(const Index* rows, bool first = false) const { return {rows, sequences_, &routes_, first}; }

   private:
    Buffer<Index> offsets_;
    Buffer<std::int32_t> row_sequence_;
    Sequences sequences_;
    Routes routes_;
  };

  class Groups {
   public:
    void assign(Context& ctx, const std::vector<std::int32_t>& ids) {
      order_.resize(ids.size());
      std::iota(order_.begin(), order_.end(), Index{0});
      std::sort(order_.begin(), order_.end(),
                [&](Index a, Index b) { return std::pair(ids[static_cast<std::size_t>(a)], a) < std::pair(ids[static_cast<std::size_t>(b)], b); });
      starts_.clear();
      group_ids_.clear();
      for (std::size_t i = 0; i < order_.size(); ++i) {
        const std::int32_t id = ids[static_cast<std::size_t>(order_[i])];
        if (group_ids_.empty() || group_ids_.back() != id) {
          group_ids_.push_back(id);
          starts_.push_back(static_cast<Index>(i));
        }
      }
      const Index count = static_cast<Index>(starts_.size());
      starts_.push_back(static_cast<Index>(ids.size()));
      // Room for the worst case, every row another id, so that a later batch of this size fits.
      starts_.resize(ids.size() + 1, static_cast<Index>(ids.size()));
      group_ids_.resize(ids.size(), 0);
      device_starts_.assign(ctx, starts_);
      device_order_.assign(ctx, order_);
      device_ids_.assign(ctx, group_ids_);
      groups_ = {device_starts_.data(), device_order_.data(), device_ids_.data(), count};
    }
    RowGroups groups() const { return groups_; }

   private:
    std::vector<Index> starts_, order_;
    std::vector<std::int32_t> group_ids_;
    Buffer<Index> device_starts_, device_order_;
    Buffer<std::int32_t> device_ids_;
    RowGroups groups_;
  };

  Context* ctx_;
  std::unique_ptr<DeviceBatch> source_;
  bool has_source_ = false;
  InputLayout layout_;
  std::vector<scalar_of<X>> host_features_;
  Buffer<scalar_of<X>> features_;
  Index last_position_ = 0;
  Index token_count_ = 0;
  std::vector<std::int32_t> host_row_sequence_;
  std::vector<Index> host_token_rows_, host_last_rows_, host_predicting_rows_, lengths_, predictions_;
  std::vector<std::int32_t> host_predicted_;
  Buffer<std::int32_t> ids_, positions_, types_, row_sequence_, labels_, predicted_, prompts_;
  Buffer<Index> offsets_, token_rows_, last_rows_, predicting_rows_;
  Buffer<float> targets_;
  OneEach one_each_;
  Groups id_groups_, position_groups_, type_groups_;
  Sequences sequences_;
  Routes routes_;
};

// Throws Error unless a batch of features fits a model whose lowest part that trains is `lowest`, of `layers` blocks.
template <class X>
void check_features(const DeviceBatch<X>& batch, Index width, Index lowest, Index layers) {
  if (batch.features().cols != width)
    throw Error("batch: features", "wrong width", {.expected = std::to_string(width), .got = std::to_string(batch.features().cols)});
  if (lowest < layers)
    throw Error("batch: features", "were computed before, but what computes them trains", {.remedy = "train the output layer alone, or give tokens"});
}

// Throws Error unless the batch was laid out for the deltas at a model's input and fits its positions.
template <class X>
void check_layout(const DeviceBatch<X>& batch, const InputLayout& layout, Index positions) {
  if (!(batch.layout() == layout))
    throw Error("batch", "was not laid out for the deltas at the model's input", {.remedy = "pass the model's layout() to DeviceBatch::upload()"});
  if (batch.last_position() >= positions)
    throw Error("batch", "a sequence is longer than the model's positions",
                {.expected = "at most " + std::to_string(positions - layout.counted - layout.shift - layout.first_position) + " tokens",
                 .got = std::to_string(batch.last_position() + 1 - layout.counted - layout.shift - layout.first_position),
                 .remedy = "encode with a smaller max_length"});
}

}  // namespace deltatune
