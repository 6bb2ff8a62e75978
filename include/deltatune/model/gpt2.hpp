// GPT-2: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", with the names, defaults and arithmetic of Hugging Face's
// GPT2Model, GPT2LMHeadModel and GPT2ForSequenceClassification.
//
// The classifier reads the last token of each sequence that isn't config.pad_id, as Hugging Face's does: a text that ends in the padding token is
// read in front of it. Without a padding token it reads the last one; Hugging Face's then takes one sequence at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/model/check_routes.hpp"
#include "deltatune/model/config_fields.hpp"
#include "deltatune/model/frontier.hpp"
#include "deltatune/model/head.hpp"
#include "deltatune/model/hf_names/gpt2.hpp"
#include "deltatune/model/load_parameters.hpp"
#include "deltatune/model/load_report.hpp"
#include "deltatune/nn/gpt2_embeddings.hpp"
#include "deltatune/nn/loss.hpp"
#include "deltatune/nn/pre_norm_block.hpp"
#include "deltatune/seam/parameter.hpp"

namespace deltatune {

struct Gpt2Config {
  Index vocab_size = 50257;
  Index hidden_size = 768;         // C
  Index layers = 12;               // L
  Index heads = 12;                // H
  Index intermediate_size = 3072;  // F
  Index max_position_embeddings = 1024;
  Index pad_id = -1;  // -1: none
  Index eos_id = 50256;
  ops::Activation activation = ops::Activation::gelu_new;
  double epsilon = 1e-5;
  double residual_dropout = 0.1;
  double embedding_dropout = 0.1;
  double attention_dropout = 0.1;
  bool scales_attention = true;  // scores times 1/√D
  bool scales_by_layer = false;  // and by 1/(number of the layer, counted from 1)
  bool tied = true;              // the table of word embeddings is the head of the language model
  double initializer_range = 0.02;
  std::vector<std::string> labels;  // names of the classes, by number

  // From a config.json. Throws Error for another architecture, a missing size or a value that makes no sense.
  static Gpt2Config from_json(const JsonConfig& json);
};

template <class X>
class Gpt2 {
 public:
  using Tensor = X;
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;
  using Config = Gpt2Config;

  // What backward reads, apart from the saved arena. One object serves any number of steps.
  struct Activations {
    typename Gpt2Embeddings<X>::Saved embeddings;
    std::vector<typename PreNormBlock<X>::Saved> blocks;
    typename LayerNorm<X>::Saved norm;  // of the rows that the head reads
    View<T> rows;                       // (B, C) what the classifier reads
    typename Linear<X>::Saved score;
    typename Linear<X>::Saved lm_head;
    Index lowest = 0;       // gradient frontier: lowest block that trains; -1 the embeddings; layers() nothing below the last norm
    bool demanded = false;  // the last block gave only what the classifier reads (nn/demand.hpp)
    View<T> dlogits;        // (B, K) of a classifier's loss()
    View<T> d_rows;         // (M, C) of a language model's loss(): of the normalised rows that predict; empty where nobody wants it
  };
  // Keys and values of one sequence, layer by layer.
  using Cache = std::vector<KvCache<X>>;

  // A model of this shape with all values 0 and everything frozen; load() or initialise() fill it.
  Gpt2(Context& ctx, Gpt2Config config, Head head);

  // From a Hugging Face folder (config.json, model.safetensors or shards). Weights of the head that are missing are drawn with `seed` and
  // reported; any other missing, unknown or misshapen tensor is an Error.
  static Gpt2 load(Context& ctx, const std::filesystem::path& folder, Head head, std::uint64_t seed = 0);

  const Gpt2Config& config() const { return config_; }
  Gpt2Config& config() { return config_; }
  const LoadReport& load_report() const { return report_; }
  // As PEFT names them.
  static constexpr const char* kFamily = "gpt2";
  const char* task_type() const { return has_classifier() ? "SEQ_CLS" : is_language_model() ? "CAUSAL_LM" : "FEATURE_EXTRACTION"; }
  bool has_classifier() const { return head_.num_labels > 0; }
  bool is_language_model() const { return head_.next_token; }
  Index num_labels() const { return head_.num_labels; }
  Index layers() const { return static_cast<Index>(blocks_.size()); }
  // Hugging Face's name for this model with this head.
  std::string architecture() const { return has_classifier() ? "GPT2ForSequenceClassification" : is_language_model() ? "GPT2LMHeadModel" : "GPT2Model"; }
  // Throws Error unless loss() can learn from the batch.
  void check_labels(const PackedBatch& batch) const {
    if (is_language_model()) return check_token_labels(batch, config_.vocab_size);
    deltatune::check_labels(batch, num_labels());
  }

  template <class F>
  void visit(const F& f) {
    visit_parameters(ParameterVisitor<X>(f));
  }
  // f(Linear<X>&) for every linear layer.
  template <class F>
  void visit_linears(const F& f) {
    for (PreNormBlock<X>& block : blocks_) block.visit_linears(f);
    if (score_) f(score_);
    if (lm_head_) f(lm_head_);
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
    for (PreNormBlock<X>& block : blocks_) block.visit_sublayers(f);
  }
  // f(KvSite<X>&) for every attention layer.
  template <class F>
  void visit_attentions(const F& f) {
    for (PreNormBlock<X>& block : blocks_) f(block.attention().site());
  }
  InputSite<X>& input() { return embeddings_.input(); }
  ParameterSlot<X>& derived() { return derived_; }
  Parameter<X>& word_table() { return embeddings_.word_table(); }

  // The head of a language model may read the table of word embeddings, as transformers ties them, or have one of its own.
  bool tied() const { return lm_head_ && lm_head_.shares(); }
  // Whether a site has a weight that another one reads, or could: the table and the head.
  bool shares_table(const std::string& path) { return lm_head_ && (path == kHead || path == embeddings_.word_path()); }
  // The head's weight where it is the table, which visit() gives under the table's name alone; else null.
  Parameter<X>* tied_head() { return tied() ? &head_site().weight : nullptr; }
  // Gives the head a table of its own, equal to the other, until tie() has been called as often: before one of the two changes.
  void untie(Context& ctx) {
    if (untied_++ == 0) lm_head_.own(ctx);
  }
  void tie(Context& ctx) {
    if (--untied_ == 0) share_table(ctx);
  }
  // Another number of words: the first rows of both tables stay, new ones are 0.
  void resize_vocabulary(Context& ctx, Index words);

  // How batches have to be laid out for the deltas at the input: DeviceBatch::upload() takes it.
  InputLayout layout() const {
    InputLayout layout = embeddings_.input().deltas.layout();
    layout.shift = derived_.position_shift();
    if (has_classifier()) layout.pad_id = static_cast<std::int32_t>(config_.pad_id);
    return layout;
  }
  // And where they go on with sequences that a cache holds the beginning of.
  InputLayout layout_behind() const { return {.counted = layout().counted, .shift = layout().shift}; }

  // Holds the weights of linear layers and the tables of embeddings in bfloat16 from now on, but for those that train (nn/base_matrix.hpp).
  void cast_base_to_bf16(Context& ctx) requires kRounds<X> {
    embeddings_.cast_base_to_bf16(ctx);
    if (tied()) share_table(ctx);
    visit_linears([&ctx](Linear<X>& layer) { layer.cast_base_to_bf16(ctx); });
  }
  // Whether backward computes the inner values of feed-forward layers again instead of keeping them: less than half of the activations' memory,
  // for about a sixth more time.
  void recompute_feed_forward(bool on) {
    for (PreNormBlock<X>& block : blocks_) block.feed_forward().set_recompute(on);
  }
  // Whether gradients of embedding tables will be wanted (DeviceBatch::upload groups rows for them).
  bool embeddings_train() { return embeddings_.tables_train(); }

  // Random values as Hugging Face initialises: normal weights, those at the ends of branches smaller by √(2L), zero biases, unit norms.
  void initialise(Context& ctx, std::uint64_t seed);

  // Hidden states of all rows: h (N, C).
  void encode(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> h, Activations& kept);
  // Classifier: scores of the sequences, logits (B, K). Language model: scores of all tokens after each row, logits (N, V).
  void forward(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> logits, Activations& kept);
  // What the classifier's output layers read of each sequence: rows (B, C).
  void features(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> rows, Activations& kept);
  // The objective over the labels of a batch: loss_io (1) += its value. A language model scores the rows that predict a token alone, a few at a
  // time, and takes the gradient through its head at once.
  void loss(Pass<X>& pass, const DeviceBatch<X>& batch, const Objective<X>& objective, View<T> loss_io, Activations& kept);
  // Accumulates the gradients of all trainable parameters; once after each loss().
  void backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept);
  // The same from a classifier's scores: dlogits_io (B, K), used up.
  void backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dlogits_io);
  // The same from the hidden states: dh_io (N, C), used up.
  void encode_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dh_io);

  // Room for one sequence of so many tokens, and what deltas put in front of them.
  Cache make_cache(Context& ctx, Index tokens) const;
  // Evaluation of the next rows of one sequence, laid out with layout(), or layout_behind() where the cache holds its beginning: the language
  // model's scores after the last of them, logits (1, V).
  void continue_sequence(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> logits, Activations& kept, Cache& cache);

 private:
  void visit_parameters(const ParameterVisitor<X>& f);
  static constexpr const char* kHead = "lm_head";
  LinearSite<X>& head_site() {
    LinearSite<X>* found = nullptr;
    lm_head_.visit_sites([&](LinearSite<X>& site) { found = &site; });
    return *found;
  }
  void share_table(Context& ctx) { lm_head_.share(ctx, embeddings_.word_matrix(), embeddings_.word_values()); }
  void make_head(Context& ctx) {
    lm_head_ = Linear<X>(ctx, config_.hidden_size, {{kHead, config_.vocab_size}}, {.bias = false, .shared = untied_ == 0});
    head_site().deltas.forbid_routes();
    if (untied_ == 0) share_table(ctx);
  }
  // Scores of all words after rows (M, C): logits (M, V). For values alone.
  void score_words(Pass<X>& pass, View<const T> rows, View<T> logits, Activations& kept) {
    run_keeping(pass, false, [&](Pass<X>& p) { lm_head_.forward(p, rows, logits, kept.lm_head); });
  }
  bool below_head(const Pass<X>& pass, const Activations& kept) { return pass.mode != Mode::evaluate && (kept.lowest < layers() || trains(norm_)); }

  // Everything below the last norm: h (N, C) used up -> out (M, C), the demanded rows, or h itself.
  void run_blocks(Pass<X>& pass, const DeviceBatch<X>& batch, const Demand& demand, View<T> h, View<T> out, Activations& kept, Cache* cache = nullptr);
  // d_out_io (M, C): used up. dh (N, C): scratch for what lies below, d_out_io itself where all rows were demanded.
  void blocks_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> d_out_io, View<T> dh);
  // The last norm, in place.
  void normalise(Pass<X>& pass, View<T> rows_io, Activations& kept);
  // From some normalised rows of h, which rows `index` names, down: d_rows (M, C), used up.
  void rows_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, const Index* index, View<T> d_rows);

  Gpt2Config config_;
  Head head_;
  std::string prefix_;  // "transformer." or ""
  Gpt2Embeddings<X> embeddings_;
  std::vector<PreNormBlock<X>> blocks_;
  LayerNorm<X> norm_;
  Linear<X> score_;    // of a classifier
  Linear<X> lm_head_;  // of a language model; shares the table of word embeddings where the two are tied
  Index untied_ = 0;   // reasons for a table of its own
  ParameterSlot<X> derived_;
  LoadReport report_;
};

// ---- implementation ----

DELTATUNE_FUNCTION Gpt2Config Gpt2Config::from_json(const JsonConfig& json) {
  detail::check_model_type(json, "gpt2");
  Gpt2Config config;
  config.vocab_size = detail::config_size(json, "vocab_size");
  config.hidden_size = detail::config_size(json, "n_embd");
  config.layers = detail::config_size(json, "n_layer");
  config.heads = detail::config_size(json, "n_head");
  config.intermediate_size = json.has("n_inner") ? detail::config_size(json, "n_inner") : 4 * config.hidden_size;
  config.max_position_embeddings = detail::config_size(json, "n_positions");
  config.pad_id = json.get_or<std::int64_t>("pad_token_id", -1);
  config.eos_id = json.get_or<std::int64_t>("eos_token_id", -1);
  config.activation = detail::config_activation(json, "activation_function", "gelu_new");
  config.epsilon = json.get_or<double>("layer_norm_epsilon", 1e-5);
  config.residual_dropout = detail::config_dropout(json, "resid_pdrop", 0.1);
  config.embedding_dropout = detail::config_dropout(json, "embd_pdrop", 0.1);
  config.attention_dropout = detail::config_dropout(json, "attn_pdrop", 0.1);
  config.scales_attention = json.get_or<bool>("scale_attn_weights", true);
  config.scales_by_layer = json.get_or<bool>("scale_attn_by_inverse_layer_idx", false);
  config.tied = json.get_or<bool>("tie_word_embeddings", true);
  config.initializer_range = json.get_or<double>("initializer_range", 0.02);
  config.labels = detail::config_labels(json);
  detail::check_heads(json, "n_embd", config.hidden_size, "n_head", config.heads);
  if (json.get_or<bool>("add_cross_attention", false))
    throw Error(json.name() + ": add_cross_attention", "is not supported: there is no encoder to attend to", {.expected = "false", .got = "true"});
  return config;
}

template <class X>
Gpt2<X>::Gpt2(Context& ctx, Gpt2Config config, Head head)
    : config_(std::move(config)), head_(head), prefix_(head.num_labels > 0 || head.next_token ? gpt2_names::kPrefix : "") {
  const Gpt2Config& c = config_;
  constexpr LinearOptions kConv1d{.transposed_in_file = true};
  embeddings_ = Gpt2Embeddings<X>(prefix_ + "wte", Embedding<X>(ctx, prefix_ + "wte", c.vocab_size, c.hidden_size),
                                  Embedding<X>(ctx, prefix_ + "wpe", c.max_position_embeddings, c.hidden_size), c.embedding_dropout);
  for (Index l = 0; l < c.layers; ++l) {
    const std::string layer = prefix_ + "h." + std::to_string(l) + ".";
    const double scale =
        (c.scales_attention ? 1.0 / std::sqrt(static_cast<double>(c.hidden_size / c.heads)) : 1.0) / (c.scales_by_layer ? static_cast<double>(l + 1) : 1.0);
    SelfAttention<X> attention(layer + "attn", Linear<X>(ctx, c.hidden_size, {{layer + "attn.c_attn", 3 * c.hidden_size}}, kConv1d),
                               Linear<X>(ctx, c.hidden_size, {{layer + "attn.c_proj", c.hidden_size}}, kConv1d),
                               {.heads = c.heads, .dropout = c.attention_dropout, .causal = true, .scale = scale});
    FeedForward<X> feed_forward(Linear<X>(ctx, c.hidden_size, {{layer + "mlp.c_fc", c.intermediate_size}}, kConv1d),
                                Linear<X>(ctx, c.intermediate_size, {{layer + "mlp.c_proj", c.hidden_size}}, kConv1d), c.activation);
    blocks_.emplace_back(PreNormSublayer<X, SelfAttention<X>>(LayerNorm<X>(ctx, layer + "ln_1", c.hidden_size, c.epsilon), std::move(attention),
                                                              {layer + "attn", l, Sublayer::attention, c.hidden_size, {}}, c.residual_dropout),
                         PreNormSublayer<X, FeedForward<X>>(LayerNorm<X>(ctx, layer + "ln_2", c.hidden_size, c.epsilon), std::move(feed_forward),
                                                            {layer + "mlp", l, Sublayer::feed_forward, c.hidden_size, {}}, c.residual_dropout));
  }
  norm_ = LayerNorm<X>(ctx, prefix_ + "ln_f", c.hidden_size, c.epsilon);
  if (head_.num_labels > 0) score_ = Linear<X>(ctx, c.hidden_size, {{"score", head_.num_labels}}, {.bias = false});
  untied_ = c.tied ? 0 : 1;
  if (head_.next_token) make_head(ctx);
}

template <class X>
void Gpt2<X>::resize_vocabulary(Context& ctx, Index words) {
  if (!lm_head_) {
    embeddings_.resize_vocabulary(ctx, words);
    config_.vocab_size = words;
    return;
  }
  if (!head_site().deltas.empty())
    throw Error(kHead, "has deltas for " + std::to_string(config_.vocab_size) + " words", {.got = std::to_string(words) + " words"});
  embeddings_.resize_vocabulary(ctx, words);
  const Linear<X> old = std::exchange(lm_head_, Linear<X>());
  const Index kept = std::min(words, std::exchange(config_.vocab_size, words));
  make_head(ctx);
  if (tied()) return;
  const View<T> table = head_site().weight.value();
  B::fill(ctx, table, T(0));
  ops::copy<B, T>(ctx, old.weight_of(0).row_range(0, kept), table.row_range(0, kept));
}

template <class X>
void Gpt2<X>::visit_parameters(const ParameterVisitor<X>& f) {
  embeddings_.visit(f);
  for (PreNormBlock<X>& block : blocks_) block.visit(f);
  norm_.visit(f);
  score_.visit(f);
  lm_head_.visit(f);
  derived_.visit(f);
}

template <class X>
void Gpt2<X>::initialise(Context& ctx, std::uint64_t seed) {
  std::uint64_t stream = 0;
  visit([&](Parameter<X>& parameter) {
    if (parameter.role() == Role::delta) return;
    const bool ends_branch = parameter.path().ends_with("c_proj.weight");
    const double spread = config_.initializer_range / (ends_branch ? std::sqrt(2.0 * static_cast<double>(config_.layers)) : 1.0);
    detail::draw_parameter(ctx, parameter, spread, seed, stream++);
  });
}

template <class X>
Gpt2<X> Gpt2<X>::load(Context& ctx, const std::filesystem::path& folder, Head head, std::uint64_t seed) {
  const HfCheckpoint checkpoint = HfCheckpoint::open(folder);
  Gpt2 model(ctx, Gpt2Config::from_json(checkpoint.config()), head);
  const detail::CheckpointNames names{"GPT-2",
                                      [&](const std::string& path) {
                                        return head.fresh && path.starts_with("score.") ? std::vector<std::string>{}
                                                                                        : gpt2_names::candidates(path, model.prefix_);
                                      },
                                      gpt2_names::is_head, gpt2_names::belongs_to_another_head};
  model.report_ = detail::load_parameters(ctx, checkpoint, model, names, model.config_.initializer_range, seed);
  return model;
}

template <class X>
void Gpt2<X>::run_blocks(Pass<X>& pass, const DeviceBatch<X>& batch, const Demand& demand, View<T> h, View<T> out, Activations& kept, Cache* cache) {
  check_layout(batch, cache == nullptr || cache->front().empty() ? layout() : layout_behind(), config_.max_position_embeddings);
  detail::check_routes(*this, batch.routes());
  pass.sequences = &batch.sequences();
  pass.routes = &batch.routes();
  derived_.forward(pass);
  kept.lowest = pass.mode == Mode::evaluate ? layers() : detail::gradient_frontier(embeddings_, blocks_);
  kept.demanded = demand && !blocks_.back().mixes_rows();
  kept.blocks.resize(blocks_.size());
  run_keeping(pass, kept.lowest < 0, [&](Pass<X>& p) { embeddings_.forward(p, batch, h, kept.embeddings); });
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    const bool demanded = kept.demanded && l + 1 == blocks_.size();
    run_keeping(pass, static_cast<Index>(l) >= kept.lowest, [&](Pass<X>& p) {
      blocks_[l].forward(p, batch.sequences(), demanded ? demand : Demand(), h, demanded ? out : h, kept.blocks[l], cache == nullptr ? nullptr : &(*cache)[l]);
    });
  }
  if (demand && !kept.demanded) ops::gather_rows<B, T>(pass.ctx, h, demand.rows, out);
}

template <class X>
void Gpt2<X>::blocks_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> d_out_io, View<T> dh) {
  for (Index l = layers() - 1; l >= 0 && l >= kept.lowest; --l) {
    const std::size_t i = static_cast<std::size_t>(l);
    blocks_[i].backward(pass, kept.blocks[i], l == layers() - 1 ? d_out_io : dh, dh, l > kept.lowest);
  }
  if (kept.lowest < 0) embeddings_.backward(pass, batch, kept.embeddings, dh);
  derived_.backward(pass);
}

template <class X>
void Gpt2<X>::normalise(Pass<X>& pass, View<T> rows_io, Activations& kept) {
  run_keeping(pass, below_head(pass, kept), [&](Pass<X>& p) { norm_.forward(p, rows_io, {}, {}, rows_io, kept.norm); });
}

template <class X>
void Gpt2<X>::rows_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, const Index* index, View<T> d_rows) {
  if (kept.lowest == layers()) {
    norm_.parameter_backward(pass, kept.norm, d_rows);
    return derived_.backward(pass);
  }
  norm_.backward(pass, kept.norm, d_rows, {});
  const auto scope = pass.scope();
  const View<T> dh = pass.take(batch.sequences().rows, config_.hidden_size);
  if (kept.demanded) return blocks_backward(pass, batch, kept, d_rows, dh);
  ops::scatter_rows<B, T>(pass.ctx, d_rows, index, dh);
  blocks_backward(pass, batch, kept, dh, dh);
}

template <class X>
void Gpt2<X>::encode(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> h, Activations& kept) {
  run_blocks(pass, batch, {}, h, h, kept);
  normalise(pass, h, kept);
}

template <class X>
void Gpt2<X>::encode_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dh_io) {
  if (kept.lowest == layers()) {
    norm_.parameter_backward(pass, kept.norm, dh_io);
    return derived_.backward(pass);
  }
  norm_.backward(pass, kept.norm, dh_io, {});
  blocks_backward(pass, batch, kept, dh_io, dh_io);
}

template <class X>
void Gpt2<X>::forward(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> logits, Activations& kept) {
  if (!has_classifier() && !is_language_model()) throw Error("GPT-2", "has no head to compute scores with", {.remedy = "call encode()"});
  if (has_classifier()) {
    kept.rows = pass.keep(batch.sequences().count, config_.hidden_size);
    if (batch.features()) {
      kept.lowest = pass.mode == Mode::evaluate ? layers() : detail::gradient_frontier(embeddings_, blocks_);
      check_features(batch, config_.hidden_size, kept.lowest, layers());
      ops::copy<B, T>(pass.ctx, batch.features(), kept.rows);
    } else {
      features(pass, batch, kept.rows, kept);
    }
    normalise(pass, kept.rows, kept);
    const Demand read = batch.last_rows();
    const DemandScope<X> rows(pass, read);
    return score_.forward(pass, kept.rows, logits, kept.score);
  }
  const auto scope = pass.scope();
  const View<T> h = pass.take(batch.sequences().rows, config_.hidden_size);
  run_blocks(pass, batch, {}, h, h, kept);
  View<T> rows = h;
  if (batch.token_rows() != nullptr) {  // rows of a prompt have no logits
    rows = pass.take(batch.token_count(), config_.hidden_size);
    ops::gather_rows<B, T>(pass.ctx, h, batch.token_rows(), rows);
  }
  normalise(pass, rows, kept);
  score_words(pass, rows, logits, kept);
}

template <class X>
void Gpt2<X>::features(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> rows, Activations& kept) {
  const auto scope = pass.scope();
  const View<T> h = pass.take(batch.sequences().rows, config_.hidden_size);
  run_blocks(pass, batch, batch.last_rows(), h, rows, kept);
}

template <class X>
void Gpt2<X>::backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dlogits_io) {
  if (!has_classifier()) throw Error("GPT-2", "has no classifier", {.remedy = "a language model's gradients begin with loss()"});
  const auto scope = pass.scope();
  const bool below = below_head(pass, kept);
  const View<T> d_rows = below ? pass.take(dlogits_io.rows, config_.hidden_size) : View<T>();
  {
    const Demand read = batch.last_rows();
    const DemandScope<X> rows(pass, read);
    score_.backward(pass, kept.score, kept.rows, dlogits_io, below ? GradientSink<T>::fresh(d_rows) : GradientSink<T>::none());
  }
  if (!below) return derived_.backward(pass);
  rows_backward(pass, batch, kept, batch.last_rows().rows, d_rows);
}

template <class X>
void Gpt2<X>::loss(Pass<X>& pass, const DeviceBatch<X>& batch, const Objective<X>& objective, View<T> loss_io, Activations& kept) {
  if (!is_language_model()) {
    const View<T> logits = pass.keep(batch.sequences().count, num_labels());
    kept.dlogits = logits;
    forward(pass, batch, logits, kept);
    return classification_loss<X>(pass, batch, logits, objective, kept.dlogits, loss_io);
  }
  const Index count = batch.prediction_count();
  const auto scope = pass.scope();
  const View<T> rows = pass.take(count, config_.hidden_size);
  {
    const auto inner = pass.scope();
    const View<T> h = pass.take(batch.sequences().rows, config_.hidden_size);
    run_blocks(pass, batch, {}, h, h, kept);
    ops::gather_rows<B, T>(pass.ctx, h, batch.predicting_rows(), rows);
  }
  normalise(pass, rows, kept);
  kept.d_rows = below_head(pass, kept) ? pass.keep(count, config_.hidden_size) : View<T>();
  const View<T> d_table = tied() && pass.mode != Mode::evaluate ? word_table().gradient() : View<T>();
  language_model_loss<X>(pass, rows, lm_head_, kept.lm_head, batch.predicted(), objective, kept.d_rows, d_table, loss_io);
}

template <class X>
void Gpt2<X>::backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept) {
  if (!is_language_model()) return backward(pass, batch, kept, kept.dlogits);
  if (!kept.d_rows) return derived_.backward(pass);
  rows_backward(pass, batch, kept, batch.predicting_rows(), kept.d_rows);
}

template <class X>
typename Gpt2<X>::Cache Gpt2<X>::make_cache(Context& ctx, Index tokens) const {
  Cache cache;
  for (const PreNormBlock<X>& block : blocks_)
    cache.emplace_back(ctx, tokens + layout().rows() + block.attention().site().deltas.rows(), 2 * block.attention().site().width);
  return cache;
}

template <class X>
void Gpt2<X>::continue_sequence(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> logits, Activations& kept, Cache& cache) {
  if (!is_language_model()) throw Error("GPT-2", "has no language model head", {.remedy = "load it with Head::language_model()"});
  const auto scope = pass.scope();
  const View<T> h = pass.take(batch.sequences().rows, config_.hidden_size);
  run_blocks(pass, batch, {}, h, h, kept, &cache);
  const View<T> last = h.row_range(h.rows - 1, 1);
  normalise(pass, last, kept);
  score_words(pass, last, logits, kept);
}

}  // namespace deltatune
