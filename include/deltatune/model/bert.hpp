// BERT: Devlin et al. 2018, arXiv 1810.04805, with the names, defaults and arithmetic of Hugging Face's BertModel and
// BertForSequenceClassification.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/model/check_routes.hpp"
#include "deltatune/model/config_fields.hpp"
#include "deltatune/model/frontier.hpp"
#include "deltatune/model/head.hpp"
#include "deltatune/model/hf_names/bert.hpp"
#include "deltatune/model/load_parameters.hpp"
#include "deltatune/model/load_report.hpp"
#include "deltatune/nn/block.hpp"
#include "deltatune/nn/embedding.hpp"
#include "deltatune/nn/head.hpp"
#include "deltatune/nn/loss.hpp"
#include "deltatune/seam/parameter.hpp"

namespace deltatune {

struct BertConfig {
  Index vocab_size = 30522;
  Index hidden_size = 768;         // C
  Index layers = 12;               // L
  Index heads = 12;                // H
  Index intermediate_size = 3072;  // F
  Index max_position_embeddings = 512;
  Index type_vocab_size = 2;
  Index pad_id = 0;
  ops::Activation activation = ops::Activation::gelu;
  double epsilon = 1e-12;
  double hidden_dropout = 0.1;
  double attention_dropout = 0.1;
  double classifier_dropout = 0.1;
  double initializer_range = 0.02;
  std::vector<std::string> labels;  // names of the classes, by number

  // From a config.json. Throws Error for another architecture, a missing size or a value that makes no sense.
  static BertConfig from_json(const JsonConfig& json);
};

template <class X>
class Bert {
 public:
  using Tensor = X;
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;
  using Config = BertConfig;

  // What backward reads, apart from the saved arena. One object serves any number of steps.
  struct Activations {
    typename BertEmbeddings<X>::Saved embeddings;
    std::vector<typename PostNormBlock<X>::Saved> blocks;
    typename ClassificationHead<X>::Saved head;
    Index lowest = 0;       // gradient frontier: lowest block that trains; -1 the embeddings; layers() nothing below the head
    bool demanded = false;  // the last block gave only what the classifier reads (nn/demand.hpp)
    View<T> input;          // (N, C) input of that block, where it is read again and no norm below was kept
    View<T> dlogits;        // (B, K) of loss()
  };

  // A model of this shape with all values 0 and everything frozen; load() or initialise() fill it.
  // with_pooler: an encoder alone may or may not have the pooler's weights.
  Bert(Context& ctx, BertConfig config, Head head, bool with_pooler = true);

  // From a Hugging Face folder (config.json, model.safetensors or shards). Weights of the head that are missing are drawn with `seed` and
  // reported; any other missing, unknown or misshapen tensor is an Error.
  static Bert load(Context& ctx, const std::filesystem::path& folder, Head head, std::uint64_t seed = 0);

  const BertConfig& config() const { return config_; }
  BertConfig& config() { return config_; }
  const LoadReport& load_report() const { return report_; }
  // As PEFT names them.
  static constexpr const char* kFamily = "bert";
  const char* task_type() const { return has_classifier() ? "SEQ_CLS" : "FEATURE_EXTRACTION"; }
  bool has_classifier() const { return num_labels_ > 0; }
  bool is_language_model() const { return false; }
  Index num_labels() const { return num_labels_; }
  Index layers() const { return static_cast<Index>(blocks_.size()); }
  // Hugging Face's name for this model with this head.
  std::string architecture() const { return has_classifier() ? "BertForSequenceClassification" : "BertModel"; }
  // Throws Error unless loss() can learn from the batch.
  void check_labels(const PackedBatch& batch) const { deltatune::check_labels(batch, num_labels_); }

  template <class F>
  void visit(const F& f) {
    visit_parameters(ParameterVisitor<X>(f));
  }
  // f(Linear<X>&) for every linear layer.
  template <class F>
  void visit_linears(const F& f) {
    for (PostNormBlock<X>& block : blocks_) block.visit_linears(f);
    head_.visit_linears(f);
  }
  // f(LinearSite<X>&) for every weight that a delta may be attached to.
  template <class F>
  void visit_sites(const F& f) {
    visit_linears([&f](Linear<X>& layer) { layer.visit_sites(f); });
  }
  // f(LookupSite<X>&) for every table of embeddings.
  template <class F>
  void visit_lookups(const F& f) {
    embeddings_.visit_lookups(f);
  }
  // f(SublayerSite<X>&), after attention and after the feed-forward part of each block.
  template <class F>
  void visit_sublayers(const F& f) {
    for (PostNormBlock<X>& block : blocks_) block.visit_sublayers(f);
  }
  // f(KvSite<X>&) for every attention layer.
  template <class F>
  void visit_attentions(const F& f) {
    for (PostNormBlock<X>& block : blocks_) f(block.attention().site());
  }
  InputSite<X>& input() { return embeddings_.input(); }
  ParameterSlot<X>& derived() { return derived_; }
  Parameter<X>& word_table() { return embeddings_.word_table(); }
  // Another number of words: the first rows of the table stay, new ones are 0.
  void resize_vocabulary(Context& ctx, Index words) {
    embeddings_.resize_vocabulary(ctx, words);
    config_.vocab_size = words;
  }

  // How batches have to be laid out for the deltas at the input: DeviceBatch::upload() takes it.
  InputLayout layout() const {
    InputLayout layout = embeddings_.input().deltas.layout();
    layout.shift = derived_.position_shift();
    return layout;
  }
  // Holds the weights of linear layers and the tables of embeddings in bfloat16 from now on, but for those that train (nn/base_matrix.hpp).
  void cast_base_to_bf16(Context& ctx) requires kRounds<X> {
    embeddings_.cast_base_to_bf16(ctx);
    visit_linears([&ctx](Linear<X>& layer) { layer.cast_base_to_bf16(ctx); });
  }
  // Whether backward computes the inner values of feed-forward layers again instead of keeping them: less than half of the activations' memory,
  // for about a sixth more time.
  void recompute_feed_forward(bool on) {
    for (PostNormBlock<X>& block : blocks_) block.feed_forward().set_recompute(on);
  }
  // Whether gradients of embedding tables will be wanted (DeviceBatch::upload groups rows for them).
  bool embeddings_train() { return embeddings_.tables_train(); }

  // Random values as Hugging Face initialises: normal weights, zero biases, unit norms.
  void initialise(Context& ctx, std::uint64_t seed);

  // Hidden states of all rows: h (N, C).
  void encode(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> h, Activations& kept);
  // Classifier's scores: logits (B, K).
  void forward(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> logits, Activations& kept);
  // What the classifier's output layers read of each sequence: rows (B, C).
  void features(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> rows, Activations& kept);
  // The objective over the labels of a batch: loss_io (1) += its value.
  void loss(Pass<X>& pass, const DeviceBatch<X>& batch, const Objective<X>& objective, View<T> loss_io, Activations& kept);
  // Accumulates the gradients of all trainable parameters; once after each loss().
  void backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept) { backward(pass, batch, kept, kept.dlogits); }
  // The same from the scores: dlogits_io (B, K), used up.
  void backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dlogits_io);
  // The same from the hidden states: dh_io (N, C), used up.
  void encode_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dh_io);

 private:
  void visit_parameters(const ParameterVisitor<X>& f);
  // Embeddings and blocks: h (N, C) used up -> out (M, C), the demanded rows, or h itself.
  void run_blocks(Pass<X>& pass, const DeviceBatch<X>& batch, const Demand& demand, View<T> h, View<T> out, Activations& kept);
  // d_out_io (M, C): used up. dh (N, C): scratch for what lies below, d_out_io itself where all rows were demanded.
  void blocks_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> d_out_io, View<T> dh);

  BertConfig config_;
  Index num_labels_ = 0;
  std::string prefix_;  // "bert." or ""
  BertEmbeddings<X> embeddings_;
  std::vector<PostNormBlock<X>> blocks_;
  ClassificationHead<X> head_;  // without a classifier: the pooler's weights, if any
  ParameterSlot<X> derived_;
  LoadReport report_;
};

// ---- implementation ----

DELTATUNE_FUNCTION BertConfig BertConfig::from_json(const JsonConfig& json) {
  detail::check_model_type(json, "bert");
  BertConfig config;
  config.vocab_size = detail::config_size(json, "vocab_size");
  config.hidden_size = detail::config_size(json, "hidden_size");
  config.layers = detail::config_size(json, "num_hidden_layers");
  config.heads = detail::config_size(json, "num_attention_heads");
  config.intermediate_size = detail::config_size(json, "intermediate_size");
  config.max_position_embeddings = detail::config_size(json, "max_position_embeddings");
  config.type_vocab_size = detail::config_size(json, "type_vocab_size");
  config.pad_id = json.get_or<std::int64_t>("pad_token_id", -1);
  config.epsilon = json.get_or<double>("layer_norm_eps", 1e-12);
  config.hidden_dropout = detail::config_dropout(json, "hidden_dropout_prob", 0.1);
  config.attention_dropout = detail::config_dropout(json, "attention_probs_dropout_prob", 0.1);
  config.classifier_dropout = detail::config_dropout(json, "classifier_dropout", config.hidden_dropout);
  config.initializer_range = json.get_or<double>("initializer_range", 0.02);
  config.activation = detail::config_activation(json, "hidden_act", "gelu");
  config.labels = detail::config_labels(json);
  detail::check_heads(json, "hidden_size", config.hidden_size, "num_attention_heads", config.heads);
  if (json.get_or<std::string>("position_embedding_type", "absolute") != "absolute")
    throw Error(json.name() + ": position_embedding_type", "is not supported",
                {.expected = "\"absolute\"", .got = "\"" + json.get<std::string>("position_embedding_type") + "\""});
  if (json.get_or<bool>("is_decoder", false)) throw Error(json.name() + ": is_decoder", "is not supported for BERT", {.expected = "false", .got = "true"});
  return config;
}

template <class X>
Bert<X>::Bert(Context& ctx, BertConfig config, Head head, bool with_pooler)
    : config_(std::move(config)), num_labels_(head.num_labels), prefix_(head.num_labels > 0 ? "bert." : "") {
  if (head.next_token) throw Error("BERT", "has no head that predicts the next token", {.expected = "a classifier, or no head"});
  const BertConfig& c = config_;
  const std::string embeddings = prefix_ + "embeddings.";
  embeddings_ = BertEmbeddings<X>(prefix_ + "embeddings", Embedding<X>(ctx, embeddings + "word_embeddings", c.vocab_size, c.hidden_size, c.pad_id),
                                  Embedding<X>(ctx, embeddings + "position_embeddings", c.max_position_embeddings, c.hidden_size),
                                  Embedding<X>(ctx, embeddings + "token_type_embeddings", c.type_vocab_size, c.hidden_size),
                                  LayerNorm<X>(ctx, embeddings + "LayerNorm", c.hidden_size, c.epsilon), c.hidden_dropout);
  for (Index l = 0; l < c.layers; ++l) {
    const std::string layer = prefix_ + "encoder.layer." + std::to_string(l) + ".";
    const std::string self = layer + "attention.self.";
    SelfAttention<X> attention(layer + "attention.self",
                               Linear<X>(ctx, c.hidden_size, {{self + "query", c.hidden_size}, {self + "key", c.hidden_size}, {self + "value", c.hidden_size}}),
                               Linear<X>(ctx, c.hidden_size, {{layer + "attention.output.dense", c.hidden_size}}),
                               {.heads = c.heads, .dropout = c.attention_dropout});
    FeedForward<X> feed_forward(Linear<X>(ctx, c.hidden_size, {{layer + "intermediate.dense", c.intermediate_size}}),
                                Linear<X>(ctx, c.intermediate_size, {{layer + "output.dense", c.hidden_size}}), c.activation);
    const auto end = [&](const std::string& module, Sublayer sublayer) {
      return PostNormResidual<X>({layer + module, l, sublayer, c.hidden_size, {}}, LayerNorm<X>(ctx, layer + module + ".LayerNorm", c.hidden_size, c.epsilon),
                                 c.hidden_dropout);
    };
    blocks_.emplace_back(std::move(attention), end("attention.output", Sublayer::attention), std::move(feed_forward), end("output", Sublayer::feed_forward));
  }
  Linear<X> pooler;
  if (num_labels_ > 0 || with_pooler) pooler = Linear<X>(ctx, c.hidden_size, {{prefix_ + "pooler.dense", c.hidden_size}});
  Linear<X> classifier;
  if (num_labels_ > 0) classifier = Linear<X>(ctx, c.hidden_size, {{"classifier", num_labels_}});
  head_ = ClassificationHead<X>(std::move(pooler), std::move(classifier), c.classifier_dropout);
}

template <class X>
void Bert<X>::visit_parameters(const ParameterVisitor<X>& f) {
  embeddings_.visit(f);
  for (PostNormBlock<X>& block : blocks_) block.visit(f);
  head_.visit(f);
  derived_.visit(f);
}

template <class X>
void Bert<X>::initialise(Context& ctx, std::uint64_t seed) {
  std::uint64_t stream = 0;
  visit([&](Parameter<X>& parameter) {
    if (parameter.role() != Role::delta) detail::draw_parameter(ctx, parameter, config_.initializer_range, seed, stream++);
  });
}

template <class X>
Bert<X> Bert<X>::load(Context& ctx, const std::filesystem::path& folder, Head head, std::uint64_t seed) {
  const HfCheckpoint checkpoint = HfCheckpoint::open(folder);
  const bool has_pooler = checkpoint.tensors().contains("pooler.dense.weight") || checkpoint.tensors().contains("bert.pooler.dense.weight");
  Bert model(ctx, BertConfig::from_json(checkpoint.config()), head, has_pooler);
  const std::string& prefix = model.prefix_;
  const detail::CheckpointNames names{
      "BERT",
      [&](const std::string& path) {
        return head.fresh && path.starts_with("classifier.") ? std::vector<std::string>{} : bert_names::candidates(path, prefix);
      },
      [&](const std::string& path) { return path.starts_with("classifier.") || path.starts_with(prefix + "pooler."); }, bert_names::belongs_to_another_head};
  model.report_ = detail::load_parameters(ctx, checkpoint, model, names, model.config_.initializer_range, seed);
  return model;
}

template <class X>
void Bert<X>::encode(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> h, Activations& kept) {
  run_blocks(pass, batch, {}, h, h, kept);
}

template <class X>
void Bert<X>::run_blocks(Pass<X>& pass, const DeviceBatch<X>& batch, const Demand& demand, View<T> h, View<T> out, Activations& kept) {
  check_layout(batch, layout(), config_.max_position_embeddings);
  detail::check_routes(*this, batch.routes());
  pass.sequences = &batch.sequences();
  pass.routes = &batch.routes();
  derived_.forward(pass);
  kept.lowest = pass.mode == Mode::evaluate ? layers() : detail::gradient_frontier(embeddings_, blocks_);
  kept.demanded = demand && !blocks_.back().mixes_rows();
  kept.blocks.resize(blocks_.size());
  kept.input = {};
  run_keeping(pass, kept.lowest < 0, [&](Pass<X>& p) { embeddings_.forward(p, batch, h, kept.embeddings); });
  for (Index l = 0; l < layers(); ++l) {
    PostNormBlock<X>& block = blocks_[static_cast<std::size_t>(l)];
    if (l == kept.lowest && block.needs_input()) {
      kept.input = pass.keep(h.rows, h.cols);
      ops::copy<B, T>(pass.ctx, h, kept.input);
    }
    const bool demanded = kept.demanded && l == layers() - 1;
    run_keeping(pass, l >= kept.lowest, [&](Pass<X>& p) {
      block.forward(p, batch.sequences(), demanded ? demand : Demand(), h, demanded ? out : h, kept.blocks[static_cast<std::size_t>(l)]);
    });
  }
  if (demand && !kept.demanded) ops::gather_rows<B, T>(pass.ctx, h, demand.rows, out);
}

template <class X>
void Bert<X>::forward(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> logits, Activations& kept) {
  if (batch.features()) {
    kept.lowest = pass.mode == Mode::evaluate ? layers() : detail::gradient_frontier(embeddings_, blocks_);
    check_features(batch, config_.hidden_size, kept.lowest, layers());
    const Demand read = batch.first_rows();
    const DemandScope<X> rows(pass, read);
    return head_.forward(pass, batch.features(), logits, kept.head);
  }
  const View<T> first_rows = pass.keep(batch.sequences().count, config_.hidden_size);
  features(pass, batch, first_rows, kept);
  const Demand read = batch.first_rows();
  const DemandScope<X> rows(pass, read);
  head_.forward(pass, first_rows, logits, kept.head);
}

template <class X>
void Bert<X>::features(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> rows, Activations& kept) {
  const auto scope = pass.scope();
  const View<T> h = pass.take(batch.sequences().rows, config_.hidden_size);
  run_blocks(pass, batch, batch.first_rows(), h, rows, kept);
}

template <class X>
void Bert<X>::loss(Pass<X>& pass, const DeviceBatch<X>& batch, const Objective<X>& objective, View<T> loss_io, Activations& kept) {
  const View<T> logits = pass.keep(batch.sequences().count, num_labels_);
  kept.dlogits = logits;
  forward(pass, batch, logits, kept);
  classification_loss<X>(pass, batch, logits, objective, kept.dlogits, loss_io);
}

template <class X>
void Bert<X>::backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dlogits_io) {
  const auto scope = pass.scope();
  const View<T> d_first = kept.lowest < layers() ? pass.take(batch.sequences().count, config_.hidden_size) : View<T>();
  {
    const Demand read = batch.first_rows();
    const DemandScope<X> rows(pass, read);
    head_.backward(pass, kept.head, dlogits_io, d_first);
  }
  if (!d_first) return derived_.backward(pass);
  const View<T> dh = pass.take(batch.sequences().rows, config_.hidden_size);
  if (kept.demanded) return blocks_backward(pass, batch, kept, d_first, dh);
  ops::scatter_rows<B, T>(pass.ctx, d_first, batch.first_rows().rows, dh);
  blocks_backward(pass, batch, kept, dh, dh);
}

template <class X>
void Bert<X>::encode_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dh_io) {
  blocks_backward(pass, batch, kept, dh_io, dh_io);
}

template <class X>
void Bert<X>::blocks_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> d_out_io, View<T> dh) {
  for (Index l = layers() - 1; l >= 0 && l >= kept.lowest; --l) {
    const auto scope = pass.scope();
    PostNormBlock<X>& block = blocks_[static_cast<std::size_t>(l)];
    View<T> input = l == kept.lowest ? kept.input : View<T>();
    if (block.needs_input() && !input) {
      input = pass.take(dh.rows, dh.cols);
      if (l > 0) {
        blocks_[static_cast<std::size_t>(l) - 1].rebuild_output(pass, kept.blocks[static_cast<std::size_t>(l) - 1], input);
      } else {
        embeddings_.rebuild_output(pass, kept.embeddings, input);
      }
    }
    block.backward(pass, kept.blocks[static_cast<std::size_t>(l)], input, l == layers() - 1 ? d_out_io : dh, dh, l > kept.lowest);
  }
  if (kept.lowest < 0) embeddings_.backward(pass, batch, kept.embeddings, dh);
  derived_.backward(pass);
}

}  // namespace deltatune
