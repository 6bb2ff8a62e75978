// Any Transformer that an Architecture describes, with the names, defaults and arithmetic of Hugging Face's models: an encoder or decoder alone, a classifier
// of sequences, or a language model. nn/model.hpp says what trainers, methods and formats ask of it.
//
// A classifier that reads the last token reads the last that isn't pad_id, as Hugging Face's does: a text that ends in the padding token is read in front of
// it. Without a padding token it reads the last one; Hugging Face's then takes one sequence at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/model/check_routes.hpp"
#include "deltatune/model/families.hpp"
#include "deltatune/model/head.hpp"
#include "deltatune/model/load_parameters.hpp"
#include "deltatune/model/load_report.hpp"
#include "deltatune/model/stack.hpp"
#include "deltatune/nn/head.hpp"
#include "deltatune/nn/input_embeddings.hpp"
#include "deltatune/nn/logits_bias.hpp"
#include "deltatune/nn/loss.hpp"
#include "deltatune/ops/pool.hpp"
#include "deltatune/seam/parameter.hpp"

namespace deltatune {

template <class X>
class Transformer {
 public:
  using Tensor = X;
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;
  using Cache = typename Stack<X>::Cache;

  // What backward reads, apart from the saved arena. One object serves any number of steps.
  struct Activations {
    typename InputEmbeddings<X>::Saved embeddings;
    typename Stack<X>::Saved stack;
    typename InputEmbeddings<X>::Saved source_embeddings;  // of an encoder-decoder
    typename Stack<X>::Saved source_stack;
    typename Norm<X>::Saved source_norm;
    DropoutMask source_dropout, dropout;  // behind the last norms
    Source<X> source;
    typename Norm<X>::Saved norm;  // of the rows that the head reads
    typename ClassificationHead<X>::Saved head;
    typename Linear<X>::Saved lm_head;
    View<T> dlogits;  // (B, K) of a classifier's loss()
    View<T> d_rows;   // (M, C) of a language model's loss(): of the normalised rows that predict; empty where nobody wants it
  };

  // A model of this shape with all values 0 and everything frozen; load() or initialise() fill it. with_pooler: one without a head may or may not have the
  // pooler's weights. rounds_layers: see load(). Throws Error for what no layer computes, and for a head that the family does not have.
  Transformer(Context& ctx, Architecture architecture, Head head, bool with_pooler = true, bool rounds_layers = false);

  // From a Hugging Face folder (config.json, model.safetensors or shards), by the model_type of its configuration, or of a family of your own. Weights of
  // the head that are missing are drawn with `seed` and reported; any other missing, unknown or misshapen tensor is an Error.
  // rounds_layers: the weights of linear layers within the stack are rounded to bfloat16 as they are read, and never lie in memory otherwise. The same numbers
  // as by cast_base_to_bf16(), which is still to be called for the rest, but no method can start from these weights or train them.
  static Transformer load(Context& ctx, const std::filesystem::path& folder, Head head, std::uint64_t seed = 0, bool rounds_layers = false) {
    return load(ctx, folder, architecture_of, head, seed, rounds_layers);
  }
  static Transformer load(Context& ctx, const std::filesystem::path& folder, ArchitectureOf family, Head head, std::uint64_t seed = 0,
                          bool rounds_layers = false);

  const Architecture& architecture() const { return architecture_; }
  Architecture& architecture() { return architecture_; }
  const LoadReport& load_report() const { return report_; }
  // As PEFT names it.
  const char* task_type() const { return has_classifier() ? "SEQ_CLS" : !is_language_model() ? "FEATURE_EXTRACTION" : encoder_ ? "SEQ_2_SEQ_LM" : "CAUSAL_LM"; }
  // Whether it reads a source text besides the text that it goes on with.
  bool is_encoder_decoder() const { return encoder_.has_value(); }
  bool has_classifier() const { return head_.num_labels > 0; }
  bool is_language_model() const { return head_.next_token; }
  Index num_labels() const { return head_.num_labels; }
  Index layers() const { return architecture_.layers(); }
  // Hugging Face's name for this model with this head.
  std::string class_name() const {
    if (is_language_model()) return architecture_.head.language_model_class;
    return architecture_.class_name + (has_classifier() ? "ForSequenceClassification" : "Model");
  }
  // Throws Error unless loss() can learn from the batch.
  void check_labels(const PackedBatch& batch) const {
    if (is_language_model()) return check_token_labels(batch, architecture_.vocab_size);
    deltatune::check_labels(batch, num_labels());
  }

  template <class F>
  void visit(const F& f) {
    visit_parameters(ParameterVisitor<X>(f));
  }
  // f(Linear<X>&) for every linear layer.
  template <class F>
  void visit_linears(const F& f) {
    if (encoder_) encoder_->embeddings.visit_linears(f);
    embeddings_.visit_linears(f);
    visit_parts([&f](ResidualSublayer<X>& part) { part.visit_linears(f); });
    classifier_.visit_linears(f);
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
    if (encoder_) encoder_->embeddings.visit_lookups(f);
  }
  // f(SublayerSite<X>&), after attention, cross-attention and the feed-forward part of each layer.
  template <class F>
  void visit_sublayers(const F& f) {
    visit_parts([&f](ResidualSublayer<X>& part) { f(part.site()); });
  }
  // f(KvSite<X>&) for every layer of self-attention and cross-attention, an encoder's first.
  template <class F>
  void visit_attentions(const F& f) {
    visit_parts([&f](ResidualSublayer<X>& part) {
      if (KvSite<X>* const site = part.kv_site()) f(*site);
    });
  }
  // Of an encoder-decoder: that of the encoder.
  InputSite<X>& input() { return encoder_ ? encoder_->embeddings.input() : embeddings_.input(); }
  ParameterSlot<X>& derived() { return derived_; }
  Parameter<X>& word_table() { return embeddings_.word().table(); }

  // The head of a language model may read the table of word embeddings, as transformers ties them, or have one of its own.
  bool tied() const { return lm_head_ && lm_head_.shares(); }
  // Whether a site has a weight that another one reads, or could: the table and the head.
  bool shares_table(const std::string& path) { return lm_head_ && (path == architecture_.head.lm_head || path == embeddings_.word().site().path); }
  // The head's weight where it is the table, which visit() gives under the table's name alone; else null.
  Parameter<X>* tied_head() { return tied() ? &head_site().weight : nullptr; }
  // Gives the head a table of its own, equal to the other, until tie() has been called as often: before one of the two changes.
  void untie(Context& ctx) {
    if (untied_++ == 0) lm_head_.own(ctx);
  }
  void tie(Context& ctx) {
    if (--untied_ == 0) share_table(ctx);
  }
  // Another number of words: the first rows of all tables stay, new ones are 0.
  void resize_vocabulary(Context& ctx, Index words);

  // How batches have to be laid out for the family and for the deltas at the input: DeviceBatch::upload() takes it.
  InputLayout layout() const {
    InputLayout layout = (encoder_ ? encoder_->embeddings : embeddings_).input().deltas.layout();
    (encoder_ ? layout.target_shift : layout.shift) = derived_.position_shift();
    layout.first_position = (encoder_ ? architecture_.encoder->input : architecture_.input).first_position;
    if (encoder_) layout.target_first_position = architecture_.input.first_position;
    if (architecture_.input.skips_padding_id) layout.skipped_id = static_cast<std::int32_t>(architecture_.pad_id);
    if (has_classifier() && architecture_.head.pool == HeadSpec::Pool::last_row) layout.pad_id = static_cast<std::int32_t>(architecture_.pad_id);
    if (has_classifier() && architecture_.head.pool == HeadSpec::Pool::last_end) {
      layout.end_id = architecture_.eos_ids.front();
      layout.start_id = architecture_.starts_with_last ? -1 : architecture_.start_id;
    }
    return layout;
  }
  // And where they go on with sequences that a cache holds the beginning of.
  InputLayout layout_behind() const {
    const InputLayout whole = layout();
    if (encoder_) return whole.of_target();
    return {.counted = whole.counted, .shift = whole.shift, .first_position = whole.first_position, .skipped_id = whole.skipped_id};
  }

  // Holds the weights of linear layers and the tables of embeddings in bfloat16 from now on, but for those that train (nn/base_matrix.hpp).
  void cast_base_to_bf16(Context& ctx) requires kRounds<X> {
    embeddings_.cast_base_to_bf16(ctx);
    if (encoder_) encoder_->embeddings.cast_base_to_bf16(ctx);
    if (tied()) share_table(ctx);
    visit_linears([&ctx](Linear<X>& layer) { layer.cast_base_to_bf16(ctx); });
  }
  // Whether backward computes the inner values of feed-forward layers again instead of keeping them: less than half of the activations' memory,
  // for about a sixth more time.
  void recompute_feed_forward(bool on) {
    visit_parts([on](ResidualSublayer<X>& part) {
      if (part.feed_forward() != nullptr) part.feed_forward()->set_recompute(on);
    });
  }
  // Whether gradients of embedding tables will be wanted (DeviceBatch::upload groups rows for them).
  bool embeddings_train() { return embeddings_.tables_train() || (encoder_ && encoder_->embeddings.tables_train()); }

  // Random values as Hugging Face initialises: normal weights, zero biases, unit norms.
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

  // Slots for so many sequences of at most `tokens` tokens each, and what deltas put in front of them; of an encoder-decoder also for source texts.
  Cache make_cache(Context& ctx, Index slots, Index tokens, Index source_slots = 0, Index source_tokens = 0) const {
    if (!encoder_) return stack_.make_cache(ctx, slots, tokens + layout().rows());
    return stack_.make_cache(ctx, slots, tokens, source_slots, source_tokens + layout().rows());
  }
  // Evaluation of the next rows of the sequences in slots[b], which are distinct. All of them begin, laid out with layout(), or all go on, laid out with
  // layout_behind(). Of an encoder-decoder their source texts, which the batch has where they begin, are in source_slots[b], which may repeat where they go on;
  // empty: in slots[b]. Language model: its scores after the last row of each, logits (B, V). Throws Error where the cache has no room for the rows.
  void continue_sequences(Pass<X>& pass, const DeviceBatch<X>& batch, std::span<const Index> slots, View<T> logits, Activations& kept, Cache& cache,
                          std::span<const Index> source_slots = {});

 private:
  // What reads the source text.
  struct Encoder {
    InputEmbeddings<X> embeddings;
    Stack<X> stack;
    std::optional<Norm<X>> norm;
  };

  void visit_parameters(const ParameterVisitor<X>& f);
  template <class F>
  void visit_parts(const F& f) {
    if (encoder_)
      for (ResidualSublayer<X>& part : encoder_->stack.parts()) f(part);
    for (ResidualSublayer<X>& part : stack_.parts()) f(part);
  }
  static InputEmbeddings<X> make_embeddings(Context& ctx, const Architecture& a, const InputSpec& spec, const StackSpec& stack, const std::string& prefix,
                                            std::shared_ptr<Embedding<X>> words);
  // Layers see these rows from here on.
  static void enter(Pass<X>& pass, const DeviceBatch<X>& batch) {
    pass.sequences = &batch.sequences();
    pass.routes = &batch.routes();
    pass.positions = batch.positions();
    pass.last_position = batch.last_position();
  }
  // Throws Error unless the batch has a source where the model reads one.
  void check_source(const DeviceBatch<X>& batch) const;
  // The encoder's output, which pass.source gives to the decoder's layers; it stays there while pass.source_is_read.
  void read_source(Pass<X>& pass, const DeviceBatch<X>& batch, Activations& kept);
  bool source_trains(const Pass<X>& pass) {
    return pass.mode != Mode::evaluate && encoder_ &&
           (encoder_->embeddings.any_trains() || trains(encoder_->stack) || (encoder_->norm && trains(*encoder_->norm)));
  }
  bool pools_mean() const { return architecture_.head.pool == HeadSpec::Pool::mean; }
  // The rows that the classifier reads, where it reads one per sequence.
  Demand read_rows(const DeviceBatch<X>& batch) const {
    return pools_mean() ? Demand() : architecture_.head.pool == HeadSpec::Pool::first_row ? batch.first_rows() : batch.last_rows();
  }
  // One row of each sequence, for deltas of the head.
  Demand one_each(const DeviceBatch<X>& batch) const { return pools_mean() ? batch.first_rows() : read_rows(batch); }

  LinearSite<X>& head_site() {
    LinearSite<X>* found = nullptr;
    lm_head_.visit_sites([&](LinearSite<X>& site) { found = &site; });
    return *found;
  }
  void share_table(Context& ctx) { lm_head_.share(ctx, embeddings_.word().matrix(), embeddings_.word().values()); }
  void make_lm_head(Context& ctx) {
    lm_head_ = Linear<X>(ctx, architecture_.hidden_size, {{architecture_.head.lm_head, architecture_.vocab_size}}, {.bias = false, .shared = untied_ == 0});
    head_site().deltas.forbid_routes();
    if (untied_ == 0) share_table(ctx);
  }
  // Scores of all words after rows (M, C): logits (M, V). For values alone.
  void score_words(Pass<X>& pass, View<const T> rows, View<T> logits, Activations& kept) {
    run_keeping(pass, false, [&](Pass<X>& p) { lm_head_.forward(p, rows, logits, kept.lm_head); });
    if (const View<const T> bias = logits_bias_.values()) ops::add_bias<B, T>(pass.ctx, bias, logits);
    ops::shape_logits<B, T>(pass.ctx, logit_shape(), logits);
  }

  ops::LogitShape logit_shape() const { return {architecture_.head.logit_scale, architecture_.head.logit_cap}; }

  bool stack_trains(const Activations& kept) const { return kept.stack.lowest < stack_.count(); }
  bool below_head(const Pass<X>& pass, const Activations& kept) { return pass.mode != Mode::evaluate && (stack_trains(kept) || (norm_ && trains(*norm_))); }
  // Everything below the last norm: h (N, C) used up -> out (M, C), the demanded rows, or h itself.
  void run_stack(Pass<X>& pass, const DeviceBatch<X>& batch, const Demand& demand, View<T> h, View<T> out, Activations& kept, Cache* cache = nullptr);
  // d_out_io (M, C): used up. dh (N, C): scratch for what lies below, d_out_io itself where all rows were demanded.
  void stack_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> d_out_io, View<T> dh);
  // d_rows (Ns, C): the gradient of the encoder's output, used up.
  void source_backward(Pass<X>& pass, const DeviceBatch<X>& source, const Activations& kept, View<T> d_rows);
  // The last norm, in place, where there is one, and a dropout behind it.
  void normalise(Pass<X>& pass, View<T> rows_io, Activations& kept) {
    if (norm_) run_keeping(pass, below_head(pass, kept), [&](Pass<X>& p) { norm_->forward(p, rows_io, {}, {}, rows_io, kept.norm); });
    kept.dropout = architecture_.stack.final_dropout > 0 ? pass.dropout(architecture_.stack.final_dropout) : DropoutMask();
    if (kept.dropout.active()) ops::dropout<B, T>(pass.ctx, kept.dropout, rows_io, rows_io);
  }
  // From some normalised rows of h, which rows `index` names, or from all where it is null, down: d_rows (M, C), used up.
  void rows_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, const Index* index, View<T> d_rows);

  Architecture architecture_;
  Head head_;
  std::string prefix_;  // of the base: architecture_.prefix, or "" without a head
  InputEmbeddings<X> embeddings_;
  Stack<X> stack_;
  std::optional<Norm<X>> norm_;
  std::optional<Encoder> encoder_;
  ClassificationHead<X> classifier_;  // without a head: the pooler's weights, if any
  Linear<X> lm_head_;                 // of a language model; shares the table of word embeddings where the two are tied
  LogitsBias<X> logits_bias_;
  Index untied_ = 0;  // reasons for a table of its own
  ParameterSlot<X> derived_;
  LoadReport report_;
};

// ---- implementation ----

template <class X>
Transformer<X>::Transformer(Context& ctx, Architecture architecture, Head head, bool with_pooler, bool rounds_layers)
    : architecture_(std::move(architecture)), head_(head) {
  if (has_classifier() && !architecture_.classifier_prefix.empty()) architecture_.prefix = architecture_.classifier_prefix;
  if (has_classifier() || is_language_model()) prefix_ = architecture_.prefix;
  const Architecture& a = architecture_;
  check_supported(a);
  if (rounds_layers && !kRounds<X>) throw Error(a.title, "cannot be held in bfloat16 on this backend");
  if (head.next_token && a.head.lm_head.empty()) throw Error(a.title, "has no head that predicts the next token", {.expected = "a classifier, or no head"});
  if (has_classifier() && a.head.classifier.empty()) throw Error(a.title, "has no classifier", {.remedy = "use another head"});
  if (a.encoder && !has_classifier() && !is_language_model())
    throw Error(a.title, "is an encoder-decoder, which runs with a head alone", {.remedy = "use Head::language_model() or Head::classifier()"});
  if (has_classifier() && a.head.pool == HeadSpec::Pool::last_end) check_reads_twice(a);
  embeddings_ = make_embeddings(ctx, a, a.input, a.stack, prefix_, {});
  const auto last_norm = [&](const StackSpec& stack) {
    return stack.final_norm.empty() ? std::optional<Norm<X>>() : Norm<X>(ctx, prefix_ + stack.final_norm, a.hidden_size, stack.norm);
  };
  stack_ = Stack<X>(ctx, a, a.stack, a.encoder_layers(), prefix_, rounds_layers);
  norm_ = last_norm(a.stack);
  if (a.encoder)
    encoder_.emplace(Encoder{make_embeddings(ctx, a, a.encoder->input, a.encoder->stack, prefix_, embeddings_.shared_word()),
                             Stack<X>(ctx, a, a.encoder->stack, 0, prefix_, rounds_layers), last_norm(a.encoder->stack)});
  if (encoder_)
    for (ResidualSublayer<X>& part : encoder_->stack.parts())
      if (KvSite<X>* const site = part.kv_site()) site->kind = AttentionKind::encoder_self;
  HeadParts<X> parts{.activation = a.head.activation, .dropout = a.head.dropout, .drops_input = a.head.drops_pooled};
  if (has_classifier()) {
    const std::string dense = !a.head.dense.empty() ? a.head.dense : a.head.pooler.empty() ? "" : prefix_ + a.head.pooler;
    if (!dense.empty()) parts.dense = Linear<X>(ctx, a.hidden_size, {{dense, a.hidden_size}}, {.bias = a.head.dense_bias});
    if (!a.head.norm.empty()) parts.norm = Norm<X>(ctx, a.head.norm, a.hidden_size, a.stack.norm);
    parts.classifier = Linear<X>(ctx, a.hidden_size, {{a.head.classifier, num_labels()}}, {.bias = a.head.classifier_bias});
  } else if (!is_language_model() && with_pooler && !a.head.pooler.empty()) {
    parts.dense = Linear<X>(ctx, a.hidden_size, {{prefix_ + a.head.pooler, a.hidden_size}});
  }
  classifier_ = ClassificationHead<X>(std::move(parts));
  untied_ = a.head.tied ? 0 : 1;
  if (!is_language_model()) return;
  make_lm_head(ctx);
  if (!a.head.logits_bias.empty()) logits_bias_ = LogitsBias<X>(ctx, a.head.logits_bias, a.vocab_size);
}

template <class X>
InputEmbeddings<X> Transformer<X>::make_embeddings(Context& ctx, const Architecture& a, const InputSpec& spec, const StackSpec& stack,
                                                   const std::string& prefix, std::shared_ptr<Embedding<X>> words) {
  const Index width = spec.embedding_size > 0 ? spec.embedding_size : a.hidden_size;
  EmbeddingParts<X> parts{.word = words, .has_word = !words};
  if (!words) parts.word = std::make_shared<Embedding<X>>(ctx, prefix + spec.words, a.vocab_size, width, spec.padding_row_learns ? -1 : a.pad_id);
  if (!spec.positions.empty())
    parts.position = Embedding<X>(ctx, prefix + spec.positions, a.max_position_embeddings, width, spec.skips_padding_id ? a.pad_id : -1);
  if (!spec.types.empty()) parts.type = Embedding<X>(ctx, prefix + spec.types, a.type_vocab_size, width);
  if (!spec.norm.empty()) parts.norm = Norm<X>(ctx, prefix + spec.norm, width, stack.norm);
  if (!spec.projection.empty()) parts.projection = Linear<X>(ctx, width, {{prefix + spec.projection, a.hidden_size}});
  return InputEmbeddings<X>(prefix + spec.module, std::move(parts), spec.dropout, spec.scale, spec.scales_prompts);
}

template <class X>
void Transformer<X>::resize_vocabulary(Context& ctx, Index words) {
  if (lm_head_ && !head_site().deltas.empty())
    throw Error(architecture_.head.lm_head, "has deltas for " + std::to_string(architecture_.vocab_size) + " words", {.got = std::to_string(words) + " words"});
  embeddings_.word().resize(ctx, words);
  const Index kept = std::min(words, std::exchange(architecture_.vocab_size, words));
  if (!lm_head_) return;
  logits_bias_.resize(ctx, words);
  const Linear<X> old = std::exchange(lm_head_, Linear<X>());
  make_lm_head(ctx);
  if (tied()) return;
  const View<T> table = head_site().weight.value();
  B::fill(ctx, table, T(0));
  ops::copy<B, T>(ctx, old.weight_of(0).row_range(0, kept), table.row_range(0, kept));
}

template <class X>
void Transformer<X>::visit_parameters(const ParameterVisitor<X>& f) {
  embeddings_.visit(f);
  if (encoder_) {
    encoder_->embeddings.visit(f);
    encoder_->stack.visit(f);
    if (encoder_->norm) encoder_->norm->visit(f);
  }
  stack_.visit(f);
  if (norm_) norm_->visit(f);
  classifier_.visit(f);
  lm_head_.visit(f);
  logits_bias_.visit(f);
  derived_.visit(f);
}

template <class X>
void Transformer<X>::initialise(Context& ctx, std::uint64_t seed) {
  std::uint64_t stream = 0;
  const StackNames& names = architecture_.stack.names;
  visit([&](Parameter<X>& parameter) {
    if (parameter.role() == Role::delta) return;
    const bool ends_branch = architecture_.smaller_branch_ends && (parameter.path().ends_with(names.attention.output + ".weight") ||
                                                                   parameter.path().ends_with(names.feed_forward.down + ".weight"));
    const double spread = architecture_.initializer_range / (ends_branch ? std::sqrt(2.0 * static_cast<double>(layers())) : 1.0);
    detail::draw_parameter(ctx, parameter, spread, seed, stream++, 1 - architecture_.stack.norm.weight_offset);
  });
}

template <class X>
Transformer<X> Transformer<X>::load(Context& ctx, const std::filesystem::path& folder, ArchitectureOf family, Head head, std::uint64_t seed,
                                    bool rounds_layers) {
  const HfCheckpoint checkpoint = HfCheckpoint::open(folder);
  const Architecture architecture = family(checkpoint.config());
  const std::string pooler = architecture.head.pooler + ".weight";
  const bool has_pooler = checkpoint.tensors().contains(pooler) || checkpoint.tensors().contains(architecture.prefix + pooler);
  Transformer model(ctx, architecture, head, has_pooler, rounds_layers);
  model.report_ = detail::load_parameters(ctx, checkpoint, model, {model.architecture_, head, model.prefix_}, seed);
  return model;
}

template <class X>
void Transformer<X>::run_stack(Pass<X>& pass, const DeviceBatch<X>& batch, const Demand& demand, View<T> h, View<T> out, Activations& kept, Cache* cache) {
  const bool begins = cache == nullptr || cache->text.begins();
  check_layout(batch, begins && !encoder_ ? layout() : layout_behind(), architecture_.max_position_embeddings);
  detail::check_routes(*this, batch.routes());
  derived_.forward(pass);
  if (begins) check_source(batch);
  if (!pass.source_is_read || pass.source != &kept.source) {
    pass.source = nullptr;
    if (encoder_ && begins) read_source(pass, batch, kept);
  }
  enter(pass, batch);
  stack_.reserve_positions(pass.ctx, batch.last_position() + 1);
  const bool below_trains = pass.mode != Mode::evaluate && embeddings_.any_trains();
  run_keeping(pass, below_trains, [&](Pass<X>& p) { embeddings_.forward(p, batch, h, kept.embeddings); });
  stack_.forward(pass, batch.sequences(), demand, {below_trains, embeddings_.can_rebuild_output(), source_trains(pass)}, h, out, kept.stack, cache);
}

template <class X>
void Transformer<X>::check_source(const DeviceBatch<X>& batch) const {
  if ((batch.source() != nullptr) == encoder_.has_value()) return;
  throw Error("batch: source",
              architecture_.title + (encoder_ ? " is an encoder-decoder and needs a source text per sequence" : " has no encoder to read source texts with"),
              {.remedy = !encoder_          ? "leave PackedBatch::source empty"
                         : has_classifier() ? "pass the model's layout() to DeviceBatch::upload(), which makes it of the text"
                                            : "put one batch of them into PackedBatch::source"});
}

template <class X>
void Transformer<X>::read_source(Pass<X>& pass, const DeviceBatch<X>& batch, Activations& kept) {
  const DeviceBatch<X>& source = *batch.source();
  check_layout(source, layout(), architecture_.max_position_embeddings);
  detail::check_routes(*this, source.routes());
  enter(pass, source);
  encoder_->stack.reserve_positions(pass.ctx, source.last_position() + 1);
  const View<T> h = pass.keep(source.sequences().rows, architecture_.hidden_size);
  const bool below_trains = pass.mode != Mode::evaluate && encoder_->embeddings.any_trains();
  run_keeping(pass, below_trains, [&](Pass<X>& p) { encoder_->embeddings.forward(p, source, h, kept.source_embeddings); });
  encoder_->stack.forward(pass, source.sequences(), {}, {below_trains, encoder_->embeddings.can_rebuild_output()}, h, h, kept.source_stack);
  if (encoder_->norm) run_keeping(pass, source_trains(pass), [&](Pass<X>& p) { encoder_->norm->forward(p, h, {}, {}, h, kept.source_norm); });
  kept.source_dropout = pass.dropout(architecture_.encoder->stack.final_dropout);
  if (kept.source_dropout.active()) ops::dropout<B, T>(pass.ctx, kept.source_dropout, h, h);
  kept.source = {.rows = h, .sequences = source.sequences(), .routes = &source.routes()};
  pass.source = &kept.source;
}

template <class X>
void Transformer<X>::stack_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> d_out_io, View<T> dh) {
  const auto scope = pass.scope();
  Source<X> source = kept.source;
  if (source_trains(pass)) {
    source.gradient = pass.take(source.rows.rows, source.rows.cols);
    B::fill(pass.ctx, source.gradient, T(0));
  }
  pass.source = &source;
  stack_.backward(pass, kept.stack, d_out_io, dh, [&](View<T> h) { embeddings_.rebuild_output(pass, kept.embeddings, h); });
  if (kept.stack.lowest < 0) embeddings_.backward(pass, batch, kept.embeddings, dh);
  pass.source = nullptr;
  if (source.gradient) source_backward(pass, *batch.source(), kept, source.gradient);
  derived_.backward(pass);
}

template <class X>
void Transformer<X>::source_backward(Pass<X>& pass, const DeviceBatch<X>& source, const Activations& kept, View<T> d_rows) {
  enter(pass, source);
  if (kept.source_dropout.active()) ops::dropout<B, T>(pass.ctx, kept.source_dropout, d_rows, d_rows);
  const bool below = kept.source_stack.lowest < encoder_->stack.count();
  if (encoder_->norm && !below) return encoder_->norm->parameter_backward(pass, kept.source_norm, d_rows);
  if (encoder_->norm) encoder_->norm->backward(pass, kept.source_norm, d_rows, {});
  encoder_->stack.backward(pass, kept.source_stack, d_rows, d_rows, [&](View<T> h) { encoder_->embeddings.rebuild_output(pass, kept.source_embeddings, h); });
  if (kept.source_stack.lowest < 0) encoder_->embeddings.backward(pass, source, kept.source_embeddings, d_rows);
}

template <class X>
void Transformer<X>::rows_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, const Index* index, View<T> d_rows) {
  if (kept.dropout.active()) ops::dropout<B, T>(pass.ctx, kept.dropout, d_rows, d_rows);
  if (!stack_trains(kept)) {
    if (norm_) norm_->parameter_backward(pass, kept.norm, d_rows);
    return derived_.backward(pass);
  }
  if (norm_) norm_->backward(pass, kept.norm, d_rows, {});
  if (index == nullptr) return stack_backward(pass, batch, kept, d_rows, d_rows);
  const auto scope = pass.scope();
  const View<T> dh = pass.take(batch.sequences().rows, architecture_.hidden_size);
  if (kept.stack.narrow < stack_.count()) return stack_backward(pass, batch, kept, d_rows, dh);
  ops::scatter_rows<B, T>(pass.ctx, d_rows, index, dh);
  stack_backward(pass, batch, kept, dh, dh);
}

template <class X>
void Transformer<X>::encode(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> h, Activations& kept) {
  run_stack(pass, batch, {}, h, h, kept);
  normalise(pass, h, kept);
}

template <class X>
void Transformer<X>::encode_backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dh_io) {
  rows_backward(pass, batch, kept, nullptr, dh_io);
}

template <class X>
void Transformer<X>::features(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> rows, Activations& kept) {
  const auto scope = pass.scope();
  const View<T> h = pass.take(batch.sequences().rows, architecture_.hidden_size);
  if (!pools_mean()) return run_stack(pass, batch, read_rows(batch), h, rows, kept);
  encode(pass, batch, h, kept);
  ops::mean_rows<B, T>(pass.ctx, h, batch.sequences().offsets, rows);
}

template <class X>
void Transformer<X>::forward(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> logits, Activations& kept) {
  if (!has_classifier() && !is_language_model()) throw Error(architecture_.title, "has no head to compute scores with", {.remedy = "call encode()"});
  if (has_classifier()) {
    const View<T> rows = pass.keep(batch.sequences().count, architecture_.hidden_size);
    if (batch.features()) {
      kept.stack.lowest = stack_.frontier(pass, pass.mode != Mode::evaluate && embeddings_.any_trains());
      check_features(batch, architecture_.hidden_size, kept.stack.lowest, stack_.count());
      ops::copy<B, T>(pass.ctx, batch.features(), rows);
    } else {
      features(pass, batch, rows, kept);
    }
    if (!pools_mean()) normalise(pass, rows, kept);
    const Demand read = one_each(batch);
    const DemandScope<X> scope(pass, read);
    return classifier_.forward(pass, rows, logits, kept.head);
  }
  const auto scope = pass.scope();
  const View<T> h = pass.take(batch.sequences().rows, architecture_.hidden_size);
  run_stack(pass, batch, {}, h, h, kept);
  View<T> rows = h;
  if (batch.token_rows() != nullptr) {  // rows of a prompt have no logits
    rows = pass.take(batch.token_count(), architecture_.hidden_size);
    ops::gather_rows<B, T>(pass.ctx, h, batch.token_rows(), rows);
  }
  normalise(pass, rows, kept);
  score_words(pass, rows, logits, kept);
}

template <class X>
void Transformer<X>::backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept, View<T> dlogits_io) {
  if (!has_classifier()) throw Error(architecture_.title, "has no classifier", {.remedy = "a language model's gradients begin with loss()"});
  const auto scope = pass.scope();
  const View<T> d_rows = below_head(pass, kept) ? pass.take(dlogits_io.rows, architecture_.hidden_size) : View<T>();
  {
    const Demand read = one_each(batch);
    const DemandScope<X> rows(pass, read);
    classifier_.backward(pass, kept.head, dlogits_io, d_rows);
  }
  if (!d_rows) return derived_.backward(pass);
  if (!pools_mean()) return rows_backward(pass, batch, kept, read_rows(batch).rows, d_rows);
  const View<T> dh = pass.take(batch.sequences().rows, architecture_.hidden_size);
  ops::mean_rows_backward<B, T>(pass.ctx, d_rows, batch.sequences(), dh);
  rows_backward(pass, batch, kept, nullptr, dh);
}

template <class X>
void Transformer<X>::loss(Pass<X>& pass, const DeviceBatch<X>& batch, const Objective<X>& objective, View<T> loss_io, Activations& kept) {
  if (!is_language_model()) {
    const View<T> logits = pass.keep(batch.sequences().count, num_labels());
    kept.dlogits = logits;
    forward(pass, batch, logits, kept);
    return classification_loss<X>(pass, batch, logits, objective, kept.dlogits, loss_io);
  }
  const Index count = batch.prediction_count();
  const auto scope = pass.scope();
  const View<T> rows = pass.take(count, architecture_.hidden_size);
  {
    const auto inner = pass.scope();
    const View<T> h = pass.take(batch.sequences().rows, architecture_.hidden_size);
    run_stack(pass, batch, {}, h, h, kept);
    ops::gather_rows<B, T>(pass.ctx, h, batch.predicting_rows(), rows);
  }
  normalise(pass, rows, kept);
  kept.d_rows = below_head(pass, kept) ? pass.keep(count, architecture_.hidden_size) : View<T>();
  const View<T> d_table = tied() && pass.mode != Mode::evaluate ? word_table().gradient() : View<T>();
  language_model_loss<X>(pass, rows, lm_head_, kept.lm_head, batch.predicted(), objective, kept.d_rows, d_table, loss_io, logit_shape(),
                         logits_rows<T>(lm_head_.out()), logits_bias_.values());
}

template <class X>
void Transformer<X>::backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Activations& kept) {
  if (!is_language_model()) return backward(pass, batch, kept, kept.dlogits);
  if (!kept.d_rows) return derived_.backward(pass);
  rows_backward(pass, batch, kept, batch.predicting_rows(), kept.d_rows);
}

template <class X>
void Transformer<X>::continue_sequences(Pass<X>& pass, const DeviceBatch<X>& batch, std::span<const Index> slots, View<T> logits, Activations& kept,
                                        Cache& cache, std::span<const Index> source_slots) {
  if (!is_language_model()) throw Error(architecture_.title, "has no language model head", {.remedy = "load it with Head::language_model()"});
  cache.text.append(pass.ctx, slots, batch.lengths());
  if (encoder_) {
    if (cache.text.begins()) check_source(batch);
    const std::vector<Index> nothing(slots.size(), 0);
    cache.source.append(pass.ctx, source_slots.empty() ? slots : source_slots, cache.text.begins() ? batch.source()->lengths() : nothing);
  }
  const auto scope = pass.scope();
  const Sequences& sequences = batch.sequences();
  const View<T> h = pass.take(sequences.rows, architecture_.hidden_size);
  const bool narrows = sequences.rows > sequences.count;
  const View<T> last = narrows ? pass.take(sequences.count, architecture_.hidden_size) : h;
  run_stack(pass, batch, narrows ? batch.last_rows() : Demand(), h, last, kept, &cache);
  normalise(pass, last, kept);
  score_words(pass, last, logits, kept);
}

}  // namespace deltatune
