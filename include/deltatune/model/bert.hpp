// BERT: Devlin et al. 2018, arXiv 1810.04805, with the names, defaults and arithmetic of Hugging Face's BertModel and
// BertForSequenceClassification.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/random.hpp"
#include "deltatune/io/hf_checkpoint.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/model/hf_names/bert.hpp"
#include "deltatune/model/load_report.hpp"
#include "deltatune/nn/block.hpp"
#include "deltatune/nn/embedding.hpp"
#include "deltatune/nn/head.hpp"

namespace deltatune {

// What stands on top of the encoder.
struct Head {
  Index classes = 0;  // 0: nothing, the encoder alone

  static Head none() { return {0}; }
  static Head classifier(Index classes) { return {classes}; }
};

struct BertConfig {
  Index vocab_size = 30522;
  Index width = 768;        // C
  Index layers = 12;        // L
  Index heads = 12;         // H
  Index inner_width = 3072;  // F
  Index positions = 512;
  Index types = 2;
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

  // What backward reads, apart from the saved arena. One object serves any number of steps.
  struct Activations {
    typename BertEmbeddings<X>::Saved embeddings;
    std::vector<typename PostNormBlock<X>::Saved> blocks;
    typename ClassificationHead<X>::Saved head;
    Index lowest = 0;  // gradient frontier: lowest block that trains; -1 the embeddings; layers() nothing below the head
    View<T> input;     // (N, C) input of that block, where it is read again and no norm below was kept
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
  bool has_classifier() const { return classes_ > 0; }
  Index classes() const { return classes_; }
  Index layers() const { return static_cast<Index>(blocks_.size()); }

  template <class F>
  void visit(const F& f) {
    embeddings_.visit(f);
    for (PostNormBlock<X>& block : blocks_) block.visit(f);
    head_.visit(f);
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
  // Holds the weights of linear layers in bfloat16 from now on, but for those that train: see Linear::round_base().
  void round_base(Context& ctx)
    requires Linear<X>::kRounds
  {
    visit_linears([&ctx](Linear<X>& layer) { layer.round_base(ctx); });
  }
  // Whether gradients of embedding tables will be wanted (DeviceBatch::upload groups rows for them).
  bool embeddings_train() const { return embeddings_.tables_train(); }

  // Random values as Hugging Face initialises: normal weights, zero biases, unit norms.
  void initialise(Context& ctx, std::uint64_t seed);

  // Hidden states of all rows: h (N, C).
  void encode(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> h, Activations& kept);
  // Classifier's scores: logits (B, K).
  void forward(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> logits, Activations& kept);
  // Gradients of everything that trains, added to what is there. dlogits_io (B, K): used up.
  void backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dlogits_io);
  // The same from the hidden states: dh_io (N, C), used up.
  void encode_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dh_io);

 private:
  Index frontier();
  void draw(Context& ctx, Parameter<X>& parameter, std::uint64_t seed, std::uint64_t stream);

  BertConfig config_;
  Index classes_ = 0;
  std::string prefix_;  // "bert." or ""
  BertEmbeddings<X> embeddings_;
  std::vector<PostNormBlock<X>> blocks_;
  ClassificationHead<X> head_;  // without a classifier: the pooler's weights, if any
  LoadReport report_;
};

// ---- implementation ----

inline BertConfig BertConfig::from_json(const JsonConfig& json) {
  const std::string type = json.get<std::string>("model_type");
  if (type != "bert")
    throw Error(json.name() + ": model_type", "unknown architecture", {.expected = "\"bert\"", .got = "\"" + type + "\""});
  const auto size = [&](const char* key) {
    const Index value = json.get<std::int64_t>(key);
    if (value < 1) throw Error(json.name() + ": " + key, "not a size", {.expected = "at least 1", .got = std::to_string(value)});
    return value;
  };
  const auto probability = [&](const char* key, double fallback) {
    const double value = json.get_or<double>(key, fallback);
    if (!(value >= 0.0 && value < 1.0)) throw Error(json.name() + ": " + key, "not a dropout probability", {.expected = "0 <= p < 1", .got = std::to_string(value)});
    return value;
  };
  BertConfig config;
  config.vocab_size = size("vocab_size");
  config.width = size("hidden_size");
  config.layers = size("num_hidden_layers");
  config.heads = size("num_attention_heads");
  config.inner_width = size("intermediate_size");
  config.positions = size("max_position_embeddings");
  config.types = size("type_vocab_size");
  config.pad_id = json.get_or<std::int64_t>("pad_token_id", -1);
  config.epsilon = json.get_or<double>("layer_norm_eps", 1e-12);
  config.hidden_dropout = probability("hidden_dropout_prob", 0.1);
  config.attention_dropout = probability("attention_probs_dropout_prob", 0.1);
  config.classifier_dropout = probability("classifier_dropout", config.hidden_dropout);
  config.initializer_range = json.get_or<double>("initializer_range", 0.02);
  if (config.width % config.heads != 0)
    throw Error(json.name() + ": hidden_size", "is not a multiple of num_attention_heads",
                {.expected = "a multiple of " + std::to_string(config.heads), .got = std::to_string(config.width)});
  const std::string activation = json.get_or<std::string>("hidden_act", "gelu");
  static const std::map<std::string, ops::Activation> kActivations{{"gelu", ops::Activation::gelu},
                                                                   {"gelu_new", ops::Activation::gelu_new},
                                                                   {"gelu_pytorch_tanh", ops::Activation::gelu_new},
                                                                   {"relu", ops::Activation::relu}};
  if (!kActivations.contains(activation))
    throw Error(json.name() + ": hidden_act", "unknown activation", {.expected = "gelu, gelu_new or relu", .got = "\"" + activation + "\""});
  config.activation = kActivations.at(activation);
  if (json.get_or<std::string>("position_embedding_type", "absolute") != "absolute")
    throw Error(json.name() + ": position_embedding_type", "is not supported",
                {.expected = "\"absolute\"", .got = "\"" + json.get<std::string>("position_embedding_type") + "\""});
  if (json.get_or<bool>("is_decoder", false)) throw Error(json.name() + ": is_decoder", "is not supported for BERT", {.expected = "false", .got = "true"});
  if (json.has("id2label")) {
    const JsonConfig names = json.object("id2label");
    for (Index id = 0; names.has(std::to_string(id)); ++id) config.labels.push_back(names.get<std::string>(std::to_string(id)));
  }
  return config;
}

template <class X>
Bert<X>::Bert(Context& ctx, BertConfig config, Head head, bool with_pooler)
    : config_(std::move(config)), classes_(head.classes), prefix_(head.classes > 0 ? "bert." : "") {
  const BertConfig& c = config_;
  const std::string embeddings = prefix_ + "embeddings.";
  embeddings_ = BertEmbeddings<X>(Embedding<X>(ctx, embeddings + "word_embeddings", c.vocab_size, c.width, c.pad_id),
                                  Embedding<X>(ctx, embeddings + "position_embeddings", c.positions, c.width),
                                  Embedding<X>(ctx, embeddings + "token_type_embeddings", c.types, c.width),
                                  LayerNorm<X>(ctx, embeddings + "LayerNorm", c.width, c.epsilon), c.hidden_dropout);
  for (Index l = 0; l < c.layers; ++l) {
    const std::string layer = prefix_ + "encoder.layer." + std::to_string(l) + ".";
    const std::string self = layer + "attention.self.";
    SelfAttention<X> attention(Linear<X>(ctx, c.width, {{self + "query", c.width}, {self + "key", c.width}, {self + "value", c.width}}),
                               Linear<X>(ctx, c.width, {{layer + "attention.output.dense", c.width}}), c.heads, c.attention_dropout);
    FeedForward<X> feed_forward(Linear<X>(ctx, c.width, {{layer + "intermediate.dense", c.inner_width}}),
                                Linear<X>(ctx, c.inner_width, {{layer + "output.dense", c.width}}), c.activation);
    blocks_.emplace_back(std::move(attention), LayerNorm<X>(ctx, layer + "attention.output.LayerNorm", c.width, c.epsilon), std::move(feed_forward),
                         LayerNorm<X>(ctx, layer + "output.LayerNorm", c.width, c.epsilon), c.hidden_dropout);
  }
  Linear<X> pooler;
  if (classes_ > 0 || with_pooler) pooler = Linear<X>(ctx, c.width, {{prefix_ + "pooler.dense", c.width}});
  Linear<X> classifier;
  if (classes_ > 0) classifier = Linear<X>(ctx, c.width, {{"classifier", classes_}});
  head_ = ClassificationHead<X>(std::move(pooler), std::move(classifier), c.classifier_dropout);
}

template <class X>
void Bert<X>::draw(Context& ctx, Parameter<X>& parameter, std::uint64_t seed, std::uint64_t stream) {
  const RandomKey key = derive(seed, stream);
  const bool is_drawn = parameter.role() == Role::weight || parameter.role() == Role::embedding;
  std::vector<float> values(static_cast<std::size_t>(parameter.size()), parameter.role() == Role::norm_scale ? 1.0F : 0.0F);
  if (is_drawn)
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(config_.initializer_range * normal(key, i));
  upload_values(ctx, std::span<const float>(values), parameter);
}

template <class X>
void Bert<X>::initialise(Context& ctx, std::uint64_t seed) {
  std::uint64_t stream = 0;
  visit([&](Parameter<X>& parameter) {
    if (parameter.role() != Role::delta) draw(ctx, parameter, seed, stream++);
  });
}

template <class X>
Bert<X> Bert<X>::load(Context& ctx, const std::filesystem::path& folder, Head head, std::uint64_t seed) {
  const HfCheckpoint checkpoint = HfCheckpoint::open(folder);
  const std::map<std::string, TensorInfo>& tensors = checkpoint.tensors();
  const bool has_pooler = tensors.contains("pooler.dense.weight") || tensors.contains("bert.pooler.dense.weight");
  Bert model(ctx, BertConfig::from_json(checkpoint.config()), head, has_pooler);
  std::set<std::string> used;
  std::uint64_t stream = 0;
  model.visit([&](Parameter<X>& parameter) {
    ++stream;
    for (const std::string& name : bert_names::candidates(parameter.path(), model.prefix_)) {
      const auto tensor = tensors.find(name);
      if (tensor == tensors.end()) continue;
      read_parameter(ctx, tensor->second, parameter);
      model.report_.names[parameter.path()] = name;
      used.insert(name);
      return;
    }
    const bool is_head = parameter.path().starts_with("classifier.") || parameter.path().starts_with(model.prefix_ + "pooler.");
    if (!is_head)
      throw Error(folder.string(), "has no tensor for " + parameter.path(),
                  {.expected = "shape " + to_string(parameter.shape()), .remedy = "is this a BERT checkpoint, and complete?"});
    model.draw(ctx, parameter, seed, stream);
    model.report_.initialised.push_back(parameter.path());
  });
  for (const auto& [name, tensor] : tensors) {
    if (used.contains(name)) continue;
    if (!bert_names::belongs_to_another_head(name))
      throw Error(tensor.file + ": " + name, "is no tensor of a BERT model with " + std::to_string(model.layers()) + " layers",
                  {.remedy = "does config.json belong to this file?"});
    model.report_.left_out.push_back(name);
  }
  return model;
}

template <class X>
Index Bert<X>::frontier() {
  if (trains(embeddings_)) return -1;
  for (Index l = 0; l < layers(); ++l)
    if (trains(blocks_[static_cast<std::size_t>(l)])) return l;
  return layers();
}

template <class X>
void Bert<X>::encode(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> h, Activations& kept) {
  if (batch.sequences().max_length > config_.positions)
    throw Error("batch", "a sequence is longer than the model's positions",
                {.expected = "at most " + std::to_string(config_.positions) + " tokens",
                 .got = std::to_string(batch.sequences().max_length),
                 .remedy = "encode with a smaller max_length"});
  kept.lowest = pass.mode == Mode::evaluate ? layers() : frontier();
  kept.blocks.resize(blocks_.size());
  kept.input = {};
  // Below the frontier nothing outlives the layer: what it would keep is scratch.
  const auto run = [&](bool keep, const auto& layer) {
    if (keep) return layer(pass);
    const auto scope = pass.scope();
    Pass<X> passing{pass.ctx, pass.scratch, pass.scratch, pass.mode, pass.seed, pass.step, pass.micro_step, pass.next_stream};
    layer(passing);
    pass.next_stream = passing.next_stream;
  };
  run(kept.lowest < 0, [&](Pass<X>& p) { embeddings_.forward(p, batch, h, kept.embeddings); });
  for (Index l = 0; l < layers(); ++l) {
    PostNormBlock<X>& block = blocks_[static_cast<std::size_t>(l)];
    if (l == kept.lowest && block.needs_input()) {
      kept.input = pass.keep(h.rows, h.cols);
      ops::copy<B, T>(pass.ctx, h, kept.input);
    }
    run(l >= kept.lowest, [&](Pass<X>& p) { block.forward(p, batch.sequences(), h, kept.blocks[static_cast<std::size_t>(l)]); });
  }
}

template <class X>
void Bert<X>::forward(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> logits, Activations& kept) {
  const auto scope = pass.scope();
  const View<T> h = pass.take(batch.sequences().rows, config_.width);
  encode(pass, batch, h, kept);
  head_.forward(pass, batch.sequences(), h, logits, kept.head);
}

template <class X>
void Bert<X>::backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dlogits_io) {
  const auto scope = pass.scope();
  const View<T> dh = kept.lowest < layers() ? pass.take(batch.sequences().rows, config_.width) : View<T>();
  head_.backward(pass, batch.sequences(), kept.head, dlogits_io, dh);
  if (dh) encode_backward(pass, batch, kept, dh);
}

template <class X>
void Bert<X>::encode_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dh_io) {
  for (Index l = layers() - 1; l >= 0 && l >= kept.lowest; --l) {
    const auto scope = pass.scope();
    PostNormBlock<X>& block = blocks_[static_cast<std::size_t>(l)];
    View<T> input = l == kept.lowest ? kept.input : View<T>();
    if (block.needs_input() && !input) {
      input = pass.take(dh_io.rows, dh_io.cols);
      if (l > 0) {
        blocks_[static_cast<std::size_t>(l) - 1].rebuild_output(pass, kept.blocks[static_cast<std::size_t>(l) - 1], input);
      } else {
        embeddings_.rebuild_output(pass, kept.embeddings, input);
      }
    }
    block.backward(pass, kept.blocks[static_cast<std::size_t>(l)], input, dh_io, l > kept.lowest);
  }
  if (kept.lowest < 0) embeddings_.backward(pass, batch, kept.embeddings, dh_io);
}

}  // namespace deltatune
