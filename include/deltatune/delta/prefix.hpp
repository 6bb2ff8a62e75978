// Prefix tuning: keys and values that every query of a sequence sees before those of its tokens. Li and Liang 2021, arXiv 2101.00190; flat, in all
// layers of an encoder: P-tuning v2, Liu et al. 2021, arXiv 2110.07602; gates: UniPELT, Mao et al. 2022, arXiv 2110.07577. In an encoder-decoder there is one
// for each kind of attention (attach/prefix_plan.hpp).
//
//   [K | V] of layer l, the same for all sequences:  E[:, l],   E (P, L·2C) the prompt embeddings
//   flat: E is the parameter.  With an encoder (hidden > 0):  E = a(W·Wᵢₙᵀ + b₁)·Wₒᵤₜᵀ + b₂,   a: tanh
//   gated, for sequence b with layer inputs x_t:  K·g_K, V·g_V,   (g_K, g_V) = mean over t of σ(x_t·W_gᵀ + b_g); shared: g_K = g_V
//   backward:  dE[:, l] += the sum of d[K | V] over the sequences, then through the encoder;  dg: the sum of d[K | V]∘[K | V], which goes on to x
//
// Shapes      E (P, L·2C), row p: key and value of layer 0, of layer 1, ...; W (P, C), Wᵢₙ (hidden, C), Wₒᵤₜ (L·2C, hidden); W_g (1 or 2, C)
// Start       flat: E normal. Encoder: W normal, W and b uniform in ±1/√columns. W_g normal · 0.02. The delta isn't 0 at the start.
// Parameters  flat P·L·2C;  encoder P·C + hidden·(C + 1) + L·2C·(hidden + 1);  gates L·(1 or 2)·(C + 1)
// Seam        kv: the rows of each layer, derived parameters; parameter: E, which they are slices of
// Merge       none: it adds keys and values
// Files       PEFT: prompt_embeddings (P, L·2C), computed where there is an encoder, which is not in the file; positions of tokens begin at P.
//             AdapterHub: ....{wte.weight, control_trans.0.*, control_trans.2.*}, flat: ....control_trans (P·L·2C); positions begin at 0.
#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/delta/check_settings.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/delta/sequence_gate.hpp"
#include "deltatune/ops/activation.hpp"
#include "deltatune/ops/prefix.hpp"
#include "deltatune/seam/kv.hpp"
#include "deltatune/seam/parameter.hpp"

namespace deltatune {

struct PrefixConfig {
  enum class Gates { none, shared, separate };  // separate: one for the keys, one for the values

  Index rows = 20;      // P
  Index hidden = 0;     // of the encoder; 0: none, flat
  Index embedding = 0;  // columns of W; 0: as many as the model's width
  ops::Activation activation = ops::Activation::tanh;
  bool shifts_positions = true;                 // positions of the tokens begin at P (PEFT); false: at 0 (AdapterHub)
  RowDistances distances = RowDistances::none;  // where scores have a bias by distance
  double dropout = 0;                           // of keys and values, for each sequence
  Gates gates = Gates::none;

  Index gate_count() const { return gates == Gates::none ? 0 : gates == Gates::shared ? 1 : 2; }

  // Throws Error; `where` names the place the numbers come from.
  void validate(const std::string& where) const {
    if (rows < 1) throw Error(where + ": num_virtual_tokens", "is not a number of rows", {.expected = "at least 1", .got = std::to_string(rows)});
    if (hidden < 0)
      throw Error(where + ": encoder_hidden_size", "is not a size", {.expected = "at least 1, or 0 for a flat prefix", .got = std::to_string(hidden)});
    detail::check_dropout(where + ": dropout", dropout);
  }
};

namespace detail {

// Keys by the first gate of their sequence, values by the last.
template <class T>
struct ApplyGatesRow {
  View<const T> gates;  // (B, G)
  Index prefix;
  View<T> kv_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const T* g = gates.row(i / prefix);
    const T key = g[0], value = g[gates.cols - 1];
    team.each(kv_io.cols, [=, width = kv_io.cols / 2, row = kv_io.row(i)](Index j) { row[j] = row[j] * (j < width ? key : value); });
  }
};

// The rows of a prefix, of which every sequence has as many.
struct PrefixOfSequence {
  Index rows;
  DELTATUNE_HD Index first(Index b) const { return b * rows; }
  DELTATUNE_HD Index length(Index) const { return rows; }
};

}  // namespace detail

// The rows of one attention layer. What they hold, Prefix below computes.
template <class X>
class PrefixRows {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  struct Saved {
    DropoutMask dropout;
    typename detail::SequenceGate<X>::Saved gate;
  };

  // site: path of a layer with inputs of input_width columns, and keys of `width`.
  PrefixRows(Context& ctx, const std::string& site, Index input_width, Index width, PrefixConfig config, RandomKey key)
      : config_(config), kv_(ctx, site + ".prefix", {config.rows, 2 * width}) {
    kv_->set_derived(true);
    if (config.gate_count() > 0)
      gate_ = {ctx,
               site + ".prefix_gate",
               input_width,
               config.gate_count(),
               detail::normal_start(derive(key, 0), 0.02),
               detail::uniform_start(derive(key, 1), 1.0 / std::sqrt(static_cast<double>(input_width)))};
  }

  Parameter<X>& kv() { return *kv_; }  // (P, 2C), derived

  template <class F>
  void visit(const F& f) {
    f(*kv_);
    gate_.visit(f);
  }

  Index rows() const { return config_.rows; }
  RowDistances distances() const { return config_.distances; }
  bool needs_input() const { return gate_.needs_input(); }

  void forward(Pass<X>& pass, View<const T> x, View<T> kv, Saved& saved) const {
    saved = {pass.dropout(config_.dropout), {}};
    spread(pass, saved, kv);
    if (!gate_) return;
    saved.gate = gate_.forward(pass, x);
    apply(pass, saved, kv);
  }

  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<const T> dkv, GradientSink<T>& dx) {
    const auto scope = pass.scope();
    if (gate_) gates_backward(pass, saved, x, dkv, dx);
    if (!kv_->trains()) return;
    if (!gate_ && !saved.dropout.active()) return ops::broadcast_rows_backward<B, T>(pass.ctx, dkv, kv_->gradient());
    const View<T> d = pass.take(dkv.rows, dkv.cols);
    ops::copy<B, T>(pass.ctx, dkv, d);
    if (gate_) apply(pass, saved, d);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, d, d);
    ops::broadcast_rows_backward<B, T>(pass.ctx, d, kv_->gradient());
  }

 private:
  // kv (B·P, 2C): the rows for each sequence, before gates.
  void spread(Pass<X>& pass, const Saved& saved, View<T> kv) const {
    ops::broadcast_rows<B, T>(pass.ctx, kv_->value(), kv);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, kv, kv);
  }
  void apply(Pass<X>& pass, const Saved& saved, View<T> kv_io) const {
    B::for_each_row(pass.ctx, kv_io.rows, kv_io.cols, detail::ApplyGatesRow<T>{saved.gate.gates, config_.rows, kv_io});
  }
  void gates_backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<const T> dkv, GradientSink<T>& dx) {
    if (!gate_.wants_gradient(dx)) return;
    const auto scope = pass.scope();
    const View<T> kv = pass.take(dkv.rows, dkv.cols), d_gates = pass.take(saved.gate.gates.rows, saved.gate.gates.cols);
    spread(pass, saved, kv);
    B::for_each_row(pass.ctx, d_gates.rows, config_.rows * kv.cols, detail::GateGradientRow<T, detail::PrefixOfSequence>{{config_.rows}, kv, dkv, d_gates});
    gate_.backward(pass, saved.gate, x, d_gates, dx);
  }

  PrefixConfig config_;
  detail::OwnParameter<X> kv_;
  detail::SequenceGate<X> gate_;  // or none
};

// Where the layers of a prefix lie in its parameter, and what stands in front of the names of all of its parameters.
struct PrefixSlots {
  std::string names = {};
  std::vector<Index> of_layer = {};  // of the 2C columns each, which one a layer reads; empty: the first layer the first, ...
  Index count = 0;                   // of all, read or not; 0: as many as layers
};

// The rows of all layers of one kind: one parameter, or what computes it.
template <class X>
class Prefix {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  // layers: kv() of each layer's PrefixRows, which stay where they are. width: C, columns of the encoder's input.
  Prefix(Context& ctx, std::vector<Parameter<X>*> layers, Index width, PrefixConfig config, RandomKey key, PrefixSlots slots = {})
      : config_(config), layers_(std::move(layers)), slots_(std::move(slots.of_layer)) {
    if (slots_.empty())
      for (std::size_t l = 0; l < layers_.size(); ++l) slots_.push_back(static_cast<Index>(l));
    const Index count = slots.count > 0 ? slots.count : static_cast<Index>(layers_.size());
    const Index columns = count * layers_.at(0)->shape().at(1);
    const Shape shape{config.rows, columns};
    if (config.hidden == 0) {
      prompt_ = {ctx, slots.names + "prompt_embeddings", shape, detail::normal_start(derive(key, 0), 1.0)};
      return;
    }
    prompt_ = {ctx, slots.names + "prompt_embeddings", shape};
    prompt_->set_derived(true);
    start_ = {ctx, slots.names + "prompt_encoder.embedding.weight", {config.rows, width}, detail::normal_start(derive(key, 1), 1.0)};
    in_ = {ctx, slots.names + "prompt_encoder.transform.0", width, config.hidden, derive(key, 2), derive(key, 3)};
    out_ = {ctx, slots.names + "prompt_encoder.transform.2", config.hidden, columns, derive(key, 4), derive(key, 5)};
  }

  Parameter<X>& prompt_embeddings() { return *prompt_; }  // (P, L·2C)

  template <class F>
  void visit(const F& f) {
    if (start_) {
      f(*start_);
      in_.visit(f);
      out_.visit(f);
    }
    f(*prompt_);
  }
  Index position_shift() const { return config_.shifts_positions ? config_.rows : 0; }

  void forward(Pass<X>& pass) {
    encode(pass);
    visit_slices(prompt_->value(), [&](Parameter<X>& layer, View<T> slice) { ops::copy<B, T>(pass.ctx, slice, layer.value()); });
  }

  void backward(Pass<X>& pass) {
    visit_slices(prompt_->gradient(), [&](Parameter<X>& layer, View<T> slice) {
      if (!layer.trains()) return;
      if (slice) ops::axpy<B, T>(pass.ctx, T(1), layer.gradient(), slice);
      B::fill(pass.ctx, layer.gradient(), T(0));
    });
    if (!start_ || !prompt_->trains()) return;
    const auto scope = pass.scope();
    const View<T> d_hidden = pass.take(config_.rows, config_.hidden);
    out_.backward(pass.ctx, active_, prompt_->gradient(), GradientSink<T>::fresh(d_hidden));
    ops::activation_backward<B, T>(pass.ctx, config_.activation, hidden_, d_hidden);
    in_.backward(pass.ctx, start_->value(), d_hidden, GradientSink<T>::accumulating(start_->gradient()));
    B::fill(pass.ctx, prompt_->gradient(), T(0));
  }

  // The prompt embeddings of the encoder as it is now.
  void evaluate(Context& ctx) {
    workspace_of<X> saved(ctx), scratch(ctx);
    Pass<X> pass{ctx, saved, scratch};
    encode(pass);
  }

 private:
  void encode(Pass<X>& pass) {
    if (!start_) return;
    hidden_ = pass.keep(config_.rows, config_.hidden);
    active_ = pass.keep(config_.rows, config_.hidden);
    in_.forward(pass.ctx, start_->value(), hidden_);
    ops::activation_forward<B, T>(pass.ctx, config_.activation, hidden_, active_);
    out_.forward(pass.ctx, active_, prompt_->value());
  }
  // f(layer, its columns of `rows`)
  template <class F>
  void visit_slices(View<T> rows, const F& f) {
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      const Index columns = layers_[l]->shape().at(1);
      f(*layers_[l], rows ? rows.column_range(slots_[l] * columns, columns) : View<T>());
    }
  }

  PrefixConfig config_;
  std::vector<Parameter<X>*> layers_;
  std::vector<Index> slots_;        // of the layers
  detail::OwnParameter<X> prompt_;  // (P, L·2C)
  detail::OwnParameter<X> start_;   // (P, C), with an encoder
  detail::OwnLinear<X> in_, out_;
  View<T> hidden_, active_;  // (P, hidden) of the last pass
};

// The prefixes of a method, one for each kind of attention.
template <class X>
class Prefixes {
 public:
  using Context = context_of<X>;

  void add(Prefix<X> prefix) { prefixes_.push_back(std::move(prefix)); }
  bool empty() const { return prefixes_.empty(); }

  template <class F>
  void visit(const F& f) {
    for (Prefix<X>& prefix : prefixes_) prefix.visit(f);
  }
  template <class F>
  void visit_prompts(const F& f) {
    for (Prefix<X>& prefix : prefixes_) f(prefix.prompt_embeddings());
  }

  Index position_shift() const {
    Index shift = 0;
    for (const Prefix<X>& prefix : prefixes_) shift += prefix.position_shift();
    return shift;
  }
  void forward(Pass<X>& pass) {
    for (Prefix<X>& prefix : prefixes_) prefix.forward(pass);
  }
  void backward(Pass<X>& pass) {
    for (Prefix<X>& prefix : prefixes_) prefix.backward(pass);
  }
  void evaluate(Context& ctx) {
    for (Prefix<X>& prefix : prefixes_) prefix.evaluate(ctx);
  }

 private:
  std::vector<Prefix<X>> prefixes_;
};

}  // namespace deltatune
