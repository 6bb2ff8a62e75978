// Bottleneck adapters: two small layers with a nonlinearity between, after attention or after the feed-forward part. One body for the forms of the
// literature, as AdapterHub arranges them:
//   Houlsby et al. 2019, arXiv 1902.00751; Pfeiffer et al. 2020, arXiv 2005.00247; parallel: He et al. 2021, arXiv 2110.04366;
//   Compacter (PHM layers): Mahabadi et al. 2021, arXiv 2106.04647; Adapter+ (a scale for each channel): Steitz and Roth 2024, arXiv 2406.06820.
//
//   h: the sublayer's output after dropout, r: the residual, LN: the norm after their sum (none in GPT-2: LN(x) is x below)
//   x = h,   or with original_ln_before  x = LN(h + r);   parallel: x = r
//   v = s·dropout(W_up·f(W_down·x' + b_down) + b_up),   x' = x or LN_before(x);   gated: v·g, g = mean over the sequence of σ(w·x + c)
//   k = h, x, or h + r ("post_add");   parallel: k = h
//   u = LN_after(v) + k,  or  LN_after(v + k) with residual_before_ln;   LN_after only where configured
//   handed on: u, to which the block adds r and its norm; without original_ln_after u itself is the sublayer's result
//   backward follows the same lines upwards; gradients of LN's own parameters include their second use here
//
// Shapes      W_down (d, C), b_down (d), W_up (C, d), b_up (C); d = C / reduction factor. As PHM layers: see delta/phm.hpp
// Start       "bert": normal with deviation 0.02 (not 0 at the start, but close); "mam_adapter": W_down as PyTorch's Linear, W_up = 0 (0 at the start);
//             "houlsby": normal with deviation 0.01, cut at two deviations; biases 0
// Parameters  d·(2C + 1) + C a site; + 2C a norm, + C + 1 gated, + 1 or C for a learnt scale
// Seam        sublayer; Houlsby and Compacter after both, Pfeiffer and parallel after the feed-forward part
// Merge       none: a layer with a nonlinearity is no change of a weight
// Files       AdapterHub: <place>.adapters.NAME.adapter_down.0.weight, .adapter_up.weight, ...
// Gates take the mean over the tokens of a sequence; AdapterHub's batches take their padding in, which is not there here.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/delta/phm.hpp"
#include "deltatune/ops/activation.hpp"
#include "deltatune/ops/layer_norm.hpp"
#include "deltatune/ops/scale.hpp"
#include "deltatune/seam/sublayer.hpp"

namespace deltatune {

struct BottleneckConfig {
  enum class Residual { before_ln, after_ln, post_add };
  enum class Scaling { constant, learned, channel };
  enum class Start { bert, mam_adapter, houlsby };

  Index bottleneck = 16;  // d
  ops::Activation activation = ops::Activation::relu;
  bool parallel = false;
  bool original_ln_before = false;
  bool original_ln_after = true;
  bool ln_before = false;
  bool ln_after = false;
  Residual residual = Residual::before_ln;
  bool residual_before_ln_after = false;  // AdapterHub's adapter_residual_before_ln
  Scaling scaling = Scaling::constant;
  double scale = 1;
  bool gated = false;
  double dropout = 0;
  double stochastic_depth = 0;  // probability that a sequence goes without, in training
  Start start = Start::bert;
  std::optional<PhmConfig> phm = std::nullopt;

  void validate(const std::string& where, Index width) const {
    if (bottleneck < 1) throw Error(where + ": bottleneck", "is not a size", {.expected = "at least 1", .got = std::to_string(bottleneck)});
    if (!(dropout >= 0 && dropout < 1)) throw Error(where + ": dropout", "is not a probability", {.expected = "0 <= p < 1", .got = std::to_string(dropout)});
    if (!(stochastic_depth >= 0 && stochastic_depth < 1))
      throw Error(where + ": stochastic_depth", "is not a probability", {.expected = "0 <= p < 1", .got = std::to_string(stochastic_depth)});
    if (residual == Residual::post_add && (!original_ln_before || parallel))
      throw Error(where + ": residual_before_ln", "\"post_add\" needs original_ln_before", {.expected = "original_ln_before: true, is_parallel: false"});
    if (!phm) return;
    phm->validate(where);
    if (width % phm->dim != 0 || bottleneck % phm->dim != 0)
      throw Error(where + ": phm_dim", "does not divide the widths",
                  {.expected = "a divisor of " + std::to_string(width) + " and " + std::to_string(bottleneck), .got = std::to_string(phm->dim)});
    if (start == Start::mam_adapter) throw Error(where + ": init_weights", "\"mam_adapter\" is not for PHM layers", {.expected = "bert"});
  }
};

namespace detail {

// σ(z + bias), in place: one column.
template <class T>
struct GateSigmoid {
  const T* bias;
  T* z;
  DELTATUNE_HD void operator()(Index i) const { z[i] = ops::detail::Sigmoid::value(z[i] + bias[0]); }
};

// Row i times the factor of its sequence.
template <class T>
struct SequenceScaleRow {
  const std::int32_t* row_sequence;
  const T* factors;
  View<T> x_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const T factor = factors[row_sequence[i]];
    team.each(x_io.cols, [=, row = x_io.row(i)](Index j) { row[j] = row[j] * factor; });
  }
};

// d_factor of sequence b: Σ over its rows of a ∘ b.
template <class T>
struct SequenceDotRow {
  const Index* offsets;
  View<const T> a, b;
  T* sums;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index s) const {
    const Index first = offsets[s] * a.cols, count = (offsets[s + 1] - offsets[s]) * a.cols;
    const T sum = team.sum(count, [=, p = a.data + first, q = b.data + first](Index j) { return p[j] * q[j]; });
    team.each(1, [=, to = sums](Index) { to[s] = sum; });
  }
};

// Through the mean of σ: dz_i = d_gate of the sequence / its length · s_i (1 − s_i).
template <class T>
struct GateBackward {
  Sequences sequences;
  const T* d_gates;
  const T* opened;
  T* dz;
  DELTATUNE_HD void operator()(Index i) const {
    const Index s = sequences.row_sequence[i];
    const T share = T(1.0 / static_cast<double>(sequences.length(s)));
    dz[i] = d_gates[s] * share * opened[i] * (T(1) - opened[i]);
  }
};

// Factors of stochastic depth: 0 for a sequence that goes without, 1/(1 − p) for one that doesn't.
template <class T>
struct DepthFactor {
  DropoutMask mask;
  T* factors;
  DELTATUNE_HD void operator()(Index s) const { factors[s] = mask.template factor<T>(static_cast<std::uint64_t>(s)); }
};

// A norm of an adapter.
template <class X>
class OwnNorm {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    View<const T> normalized, inverse_std;
  };

  OwnNorm() = default;
  OwnNorm(context_of<X>& ctx, const std::string& path, Index width)
      : scale_(ctx, path + ".weight", {width}, [](Index) { return 1.0; }), shift_(ctx, path + ".bias", {width}) {}
  explicit operator bool() const { return static_cast<bool>(scale_); }
  template <class F>
  void visit(const F& f) {
    if (!scale_) return;
    f(*scale_);
    f(*shift_);
  }
  void forward(Pass<X>& pass, View<const T> x, View<T> y, Saved& saved) const {
    const View<T> normalized = pass.keep(x.rows, x.cols), inverse_std = pass.keep(x.rows, 1);
    ops::layer_norm_forward<B, T>(pass.ctx, x, {}, {}, scale_->value(), shift_->value(), 1e-5, y, normalized, inverse_std);
    saved = {normalized, inverse_std};
  }
  // y again.
  void rebuild(Pass<X>& pass, const Saved& saved, View<T> y) const {
    ops::scale_shift<B, T>(pass.ctx, saved.normalized, scale_->value(), shift_->value(), {}, y);
  }
  void backward(Pass<X>& pass, const Saved& saved, View<T> dy_io) {
    ops::layer_norm_parameter_backward<B, T>(pass.ctx, dy_io, saved.normalized, scale_->gradient(), shift_->gradient());
    ops::layer_norm_backward<B, T>(pass.ctx, dy_io, saved.normalized, saved.inverse_std, scale_->value(), {}, dy_io, {});
  }

 private:
  OwnParameter<X> scale_, shift_;
};

// y = x·Wᵀ + b, dense or as a PHM product.
template <class X>
class AdapterLinear {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  AdapterLinear() = default;
  AdapterLinear(context_of<X>& ctx, const std::string& path, Index in, Index out, const BottleneckConfig& config, bool is_up, RandomKey key,
                const PhmParameters<X>& shared)
      : in_(in), out_(out) {
    if (config.phm) {
      make_phm(ctx, path, *config.phm, key, shared);
      return;
    }
    using Start = BottleneckConfig::Start;
    const RandomKey k = key;
    const double bound = 1.0 / std::sqrt(static_cast<double>(in));
    const auto value = [&](Index i) -> double {
      if (config.start == Start::bert) return 0.02 * normal(k, static_cast<std::uint64_t>(i));
      if (config.start == Start::mam_adapter) return is_up ? 0.0 : uniform_start(k, bound)(i);
      // Drawn again until it lies within two deviations.
      for (std::uint64_t attempt = 0;; ++attempt) {
        const double draw = normal(derive(k.a, k.b, attempt), static_cast<std::uint64_t>(i));
        if (std::fabs(draw) <= 2) return 0.01 * draw;
      }
    };
    weight_ = {ctx, path + ".weight", {out, in}, value};
    bias_ = {ctx, path + ".bias", {out}};
  }

  template <class F>
  void visit(const F& f) {
    for (OwnParameter<X>* each : {&weight_, &rule_, &rule_left_, &rule_right_, &left_, &right_, &whole_, &bias_})
      if (*each) f(**each);
  }
  bool needs_input() const { return weight_ ? weight_->trains() : product().trains(); }

  void forward(Pass<X>& pass, View<const T> x, View<T> y) const {
    const auto scope = pass.scope();
    B::gemm(pass.ctx, Gemm<T>{.a = x, .b = matrix(pass), .c = y, .transpose_b = static_cast<bool>(weight_)});
    if (bias_) ops::add_bias<B, T>(pass.ctx, bias_->value(), y);
  }
  void backward(Pass<X>& pass, View<const T> x, View<const T> dy, GradientSink<T> dx) {
    const auto scope = pass.scope();
    if (bias_ && bias_->trains()) ops::column_sum<B, T>(pass.ctx, dy, bias_->gradient());
    if (weight_) {
      if (weight_->trains()) B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = x, .c = weight_->gradient(), .transpose_a = true, .beta = T(1)});
    } else if (product().trains()) {
      const View<T> dh = pass.take(in_, out_);
      B::gemm(pass.ctx, Gemm<T>{.a = x, .b = dy, .c = dh, .transpose_a = true});
      product().backward(pass, dh);
    }
    if (dx.wanted()) B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = matrix(pass), .c = dx.view(), .transpose_b = !weight_, .beta = dx.next_beta()});
  }

 private:
  void make_phm(context_of<X>& ctx, const std::string& path, const PhmConfig& config, RandomKey key, const PhmParameters<X>& shared) {
    phm_ = config;
    shared_ = shared;
    const Index n = config.dim, rows = in_ / n, cols = out_ / n;
    const auto xavier = [&](Index fan_in, Index fan_out, std::uint64_t stream) {
      return normal_start(derive(key.a, key.b, stream), std::sqrt(2.0 / static_cast<double>(fan_in + fan_out)));
    };
    if (!config.shared_rule) {
      const auto rule = [&](std::uint64_t stream) {
        return [=, k = derive(key.a, key.b, stream)](Index i) { return config.uniform_rule ? uniform_start(k, 0.01)(i) : normal_start(k, 0.01)(i); };
      };
      if (config.factorised_rule) {
        rule_left_ = {ctx, path + ".phm_rule_left", {n, n, 1}, rule(0)};
        rule_right_ = {ctx, path + ".phm_rule_right", {n, 1, n}, rule(1)};
      } else {
        rule_ = {ctx, path + ".phm_rule", {n, n, n}, rule(0)};
      }
      if (!config.learn_rule)
        for (OwnParameter<X>* each : {&rule_, &rule_left_, &rule_right_})
          if (*each) (*each)->set_mask(FreezeMask::frozen());
    }
    if (!config.shared_weight) {
      if (config.factorised_weight) {
        left_ = {ctx, path + ".W_left", {n, rows, config.rank}, xavier(rows, config.rank, 2)};
        right_ = {ctx, path + ".W_right", {n, config.rank, cols}, xavier(config.rank, cols, 3)};
      } else {
        whole_ = {ctx, path + ".W", {n, rows, cols}, xavier(rows, cols, 2)};
      }
    }
    if (config.bias) bias_ = {ctx, path + ".b", {out_}};
  }
  // Of its own parameters and the shared ones; made anew each time, since this object may have moved.
  PhmProduct<X> product() const {
    PhmParameters<X> all = shared_;
    const auto own = [](const OwnParameter<X>& parameter, Parameter<X>*& to) {
      if (parameter) to = const_cast<Parameter<X>*>(&*parameter);
    };
    own(rule_, all.rule);
    own(rule_left_, all.rule_left);
    own(rule_right_, all.rule_right);
    own(left_, all.left);
    own(right_, all.right);
    own(whole_, all.whole);
    return PhmProduct<X>(in_, out_, phm_, all);
  }
  // W (out, in), or H (in, out) in scratch.
  View<const T> matrix(Pass<X>& pass) const {
    if (weight_) return weight_->value();
    const View<T> h = pass.take(in_, out_);
    product().forward(pass.ctx, h);
    return h;
  }

  Index in_ = 0, out_ = 0;
  OwnParameter<X> weight_, bias_;
  PhmConfig phm_;
  PhmParameters<X> shared_;
  OwnParameter<X> rule_, rule_left_, rule_right_, left_, right_, whole_;
};

}  // namespace detail

// What the PHM layers of a model share, by direction.
template <class X>
struct SharedPhm {
  PhmParameters<X> down, up;
};

template <class X>
class Bottleneck {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  struct Saved {
    View<const T> x;        // (N, C), or empty: it is the residual
    View<const T> pre;      // (N, d) before the nonlinearity
    View<const T> opened;   // (N, 1) gates of the tokens
    View<const T> gates;    // (B, 1)
    View<const T> depth;    // (B, 1)
    typename detail::OwnNorm<X>::Saved norm, before, after;  // norm: the block's
    DropoutMask dropout;
  };

  // path: of the place. shared: where the configuration says that PHM layers share.
  Bottleneck(Context& ctx, const std::string& path, Index width, const BottleneckConfig& config, RandomKey key, const SharedPhm<X>& shared = {})
      : config_(config), width_(width) {
    const std::string index = config.ln_before ? ".1" : ".0";
    if (config.ln_before) norm_before_ = {ctx, path + ".adapter_norm_before", width};
    down_ = {ctx, path + ".adapter_down" + index, width, config.bottleneck, config, false, derive(key.a, key.b, 0), shared.down};
    up_ = {ctx, path + ".adapter_up", config.bottleneck, width, config, true, derive(key.a, key.b, 1), shared.up};
    if (config.ln_after) norm_after_ = {ctx, path + ".adapter_norm_after", width};
    if (config.gated) {
      gate_weight_ = {ctx, path + ".gate.weight", {1, width}, detail::normal_start(derive(key.a, key.b, 2), 0.02)};
      gate_bias_ = {ctx, path + ".gate.bias", {1}};
    }
    if (config.scaling != BottleneckConfig::Scaling::constant)
      scale_ = {ctx, path + ".scaling", {config.scaling == BottleneckConfig::Scaling::learned ? 1 : width}, [](Index) { return 1.0; }};
  }

  const BottleneckConfig& config() const { return config_; }

  template <class F>
  void visit(const F& f) {
    norm_before_.visit(f);
    down_.visit(f);
    up_.visit(f);
    norm_after_.visit(f);
    for (detail::OwnParameter<X>* each : {&gate_weight_, &gate_bias_, &scale_})
      if (*each) f(**each);
  }

  bool needs_residual() const { return config_.parallel; }
  bool completes() const { return !config_.original_ln_after; }

  void forward(Pass<X>& pass, const ResidualNorm<X>& norm, View<const T> residual, View<T> h_io, Saved& saved) const {
    const auto scope = pass.scope();
    const View<const T> x = input(pass, norm, residual, h_io, saved);
    const View<T> v = pass.take(h_io.rows, width_);
    saved.pre = core(pass, x, v, saved);
    scale_and_drop(pass, v, saved);
    if (config_.gated) {
      const View<T> opened = pass.keep(x.rows, 1), gates = pass.keep(pass.sequences->count, 1);
      B::gemm(pass.ctx, Gemm<T>{.a = x, .b = gate_weight_->value(), .c = opened, .transpose_b = true});
      B::for_each(pass.ctx, opened.rows, detail::GateSigmoid<T>{gate_bias_->value().data, opened.data});
      ops::mean_rows<B, T>(pass.ctx, opened, pass.sequences->offsets, gates);
      saved.opened = opened;
      saved.gates = gates;
      by_sequence(pass, saved.gates, v);
    }
    const View<const T> k = kept(pass, residual, h_io, x);
    if (norm_after_) {
      if (adds_before_norm()) ops::axpy<B, T>(pass.ctx, T(1), k, v);
      norm_after_.forward(pass, v, v, saved.after);
      if (adds_before_norm()) return ops::copy<B, T>(pass.ctx, v, h_io);
    }
    if (k.data != h_io.data) ops::copy<B, T>(pass.ctx, k, h_io);
    ops::axpy<B, T>(pass.ctx, T(1), v, h_io);
  }

  void backward(Pass<X>& pass, const ResidualNorm<X>& norm, const Saved& saved, View<const T> residual, View<T> dh_io, GradientSink<T>& d_residual) {
    const auto scope = pass.scope();
    const View<T> dv = pass.take(dh_io.rows, width_), dx = pass.take(dh_io.rows, width_);
    ops::copy<B, T>(pass.ctx, dh_io, dv);
    if (norm_after_) norm_after_.backward(pass, saved.after, dv);
    if (adds_before_norm() && norm_after_) ops::copy<B, T>(pass.ctx, dv, dh_io);  // from here on dh_io holds dk
    View<const T> x = config_.parallel ? residual : saved.x;
    core_backward(pass, saved, x, dv, dx);
    // Where x and k came from.
    const bool from_sum = config_.original_ln_before && !config_.parallel;
    if (config_.parallel) return add(pass, dx, d_residual);
    if (!from_sum) return ops::axpy<B, T>(pass.ctx, T(1), dx, dh_io);
    if (config_.residual == BottleneckConfig::Residual::after_ln) {
      ops::axpy<B, T>(pass.ctx, T(1), dh_io, dx);
      B::fill(pass.ctx, dh_io, T(0));
    }
    if (norm) {
      ops::layer_norm_parameter_backward<B, T>(pass.ctx, dx, saved.norm.normalized, norm.d_scale, norm.d_shift);
      ops::layer_norm_backward<B, T>(pass.ctx, dx, saved.norm.normalized, saved.norm.inverse_std, norm.scale, {}, dx, {});
    }
    if (config_.residual == BottleneckConfig::Residual::post_add) {
      ops::axpy<B, T>(pass.ctx, T(1), dh_io, dx);
      B::fill(pass.ctx, dh_io, T(0));
    }
    ops::axpy<B, T>(pass.ctx, T(1), dx, dh_io);
    add(pass, dx, d_residual);
  }

 private:
  bool adds_before_norm() const { return config_.residual_before_ln_after && !config_.parallel; }

  // x, kept where backward will read it and cannot have it again.
  View<const T> input(Pass<X>& pass, const ResidualNorm<X>& norm, View<const T> residual, View<const T> h, Saved& saved) const {
    if (config_.parallel) return residual;
    const View<T> x = pass.keep(h.rows, width_);
    saved.x = x;
    ops::copy<B, T>(pass.ctx, h, x);
    if (!config_.original_ln_before) return x;
    ops::axpy<B, T>(pass.ctx, T(1), residual, x);
    if (!norm) return x;
    const View<T> normalized = pass.keep(h.rows, width_), inverse_std = pass.keep(h.rows, 1);
    ops::layer_norm_forward<B, T>(pass.ctx, x, {}, {}, norm.scale, norm.shift, norm.epsilon, x, normalized, inverse_std);
    saved.norm = {normalized, inverse_std};
    return x;
  }
  // k; h itself, x, or their sum, which then stands in scratch.
  View<const T> kept(Pass<X>& pass, View<const T> residual, View<const T> h, View<const T> x) const {
    using Residual = BottleneckConfig::Residual;
    if (config_.parallel || config_.residual == Residual::before_ln) return h;
    if (config_.residual == Residual::after_ln) return x;
    const View<T> sum = pass.take(h.rows, width_);
    ops::copy<B, T>(pass.ctx, h, sum);
    ops::axpy<B, T>(pass.ctx, T(1), residual, sum);
    return sum;
  }

  // v = W_up·f(W_down·x' + b) + b; returns what stands before f.
  View<const T> core(Pass<X>& pass, View<const T> x, View<T> v, Saved& saved) const {
    const View<T> pre = pass.keep(x.rows, config_.bottleneck);
    const auto scope = pass.scope();
    View<const T> from = x;
    if (norm_before_) {
      const View<T> normed = pass.take(x.rows, width_);
      norm_before_.forward(pass, x, normed, saved.before);
      from = normed;
    }
    down_.forward(pass, from, pre);
    up_of(pass, pre, v);
    return pre;
  }
  void up_of(Pass<X>& pass, View<const T> pre, View<T> v) const {
    const auto scope = pass.scope();
    const View<T> active = pass.take(pre.rows, config_.bottleneck);
    ops::activation_forward<B, T>(pass.ctx, config_.activation, pre, active);
    up_.forward(pass, active, v);
  }
  void scale_and_drop(Pass<X>& pass, View<T> v, Saved& saved) const {
    const DropoutMask depth = pass.dropout(config_.parallel ? 0.0 : config_.stochastic_depth);
    if (depth.active()) {
      const View<T> factors = pass.keep(pass.sequences->count, 1);
      B::for_each(pass.ctx, factors.rows, detail::DepthFactor<T>{depth, factors.data});
      saved.depth = factors;
      by_sequence(pass, saved.depth, v);
    }
    apply_scale(pass, v);
    saved.dropout = pass.dropout(config_.dropout);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, v, v);
  }
  void apply_scale(Pass<X>& pass, View<T> v_io) const {
    using Scaling = BottleneckConfig::Scaling;
    if (config_.scaling == Scaling::constant && config_.scale == 1.0) return;
    if (config_.scaling == Scaling::channel) return ops::scale_columns<B, T>(pass.ctx, v_io, scale_->value(), v_io);
    B::for_each_row(pass.ctx, v_io.rows, v_io.cols, ScaleRow{config_.scaling == Scaling::learned ? scale_->value().data : nullptr, T(config_.scale), v_io});
  }
  void by_sequence(Pass<X>& pass, View<const T> factors, View<T> v_io) const {
    B::for_each_row(pass.ctx, v_io.rows, v_io.cols, detail::SequenceScaleRow<T>{pass.sequences->row_sequence, factors.data, v_io});
  }

  // dv_io: gradient of v, used up. dx: written.
  void core_backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dv_io, View<T> dx) {
    const auto scope = pass.scope();
    const bool scale_trains = scale_ && scale_->trains();
    View<T> raw;  // v before what comes after W_up, where something's gradient needs it
    if (config_.gated || scale_trains) {
      raw = pass.take(dv_io.rows, width_);
      up_of(pass, saved.pre, raw);
      if (saved.depth) by_sequence(pass, saved.depth, raw);
    }
    GradientSink<T> into_x = GradientSink<T>::fresh(dx);
    if (config_.gated) {
      const auto inner = pass.scope();
      const View<T> ungated = pass.take(raw.rows, width_), d_gates = pass.take(saved.gates.rows, 1), dz = pass.take(raw.rows, 1);
      ops::copy<B, T>(pass.ctx, raw, ungated);
      apply_scale(pass, ungated);
      if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, ungated, ungated);
      B::for_each_row(pass.ctx, d_gates.rows, pass.sequences->max_length * width_,
                      detail::SequenceDotRow<T>{pass.sequences->offsets, dv_io, ungated, d_gates.data});
      B::for_each(pass.ctx, dz.rows, detail::GateBackward<T>{*pass.sequences, d_gates.data, saved.opened.data, dz.data});
      if (gate_weight_->trains()) B::gemm(pass.ctx, Gemm<T>{.a = dz, .b = x, .c = gate_weight_->gradient(), .transpose_a = true, .beta = T(1)});
      if (gate_bias_->trains()) ops::column_sum<B, T>(pass.ctx, dz, gate_bias_->gradient());
      B::gemm(pass.ctx, Gemm<T>{.a = dz, .b = gate_weight_->value(), .c = dx, .beta = into_x.next_beta()});
      by_sequence(pass, saved.gates, dv_io);
    }
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, dv_io, dv_io);
    if (scale_trains) {
      if (config_.scaling == BottleneckConfig::Scaling::channel) {
        ops::column_dot<B, T>(pass.ctx, dv_io, raw, scale_->gradient());
      } else {
        const View<T> columns = pass.take(1, width_);
        B::fill(pass.ctx, columns, T(0));
        ops::column_dot<B, T>(pass.ctx, dv_io, raw, columns);
        ops::total<B, T>(pass.ctx, columns, scale_->gradient());
      }
    }
    apply_scale(pass, dv_io);
    if (saved.depth) by_sequence(pass, saved.depth, dv_io);

    const View<T> d_pre = pass.take(dv_io.rows, config_.bottleneck), active = pass.take(dv_io.rows, config_.bottleneck);
    ops::activation_forward<B, T>(pass.ctx, config_.activation, saved.pre, active);
    up_.backward(pass, active, dv_io, GradientSink<T>::fresh(d_pre));
    ops::activation_backward<B, T>(pass.ctx, config_.activation, saved.pre, d_pre);
    if (!norm_before_) return down_.backward(pass, x, d_pre, into_x);
    const View<T> normed = pass.take(dv_io.rows, width_), d_normed = pass.take(dv_io.rows, width_);
    norm_before_.rebuild(pass, saved.before, normed);
    down_.backward(pass, normed, d_pre, GradientSink<T>::fresh(d_normed));
    norm_before_.backward(pass, saved.before, d_normed);
    add(pass, d_normed, into_x);
  }

  static void add(Pass<X>& pass, View<const T> d, GradientSink<T>& sink) {
    if (!sink.wanted()) return;
    if (sink.next_beta() == T(0)) return ops::copy<B, T>(pass.ctx, d, sink.view());
    ops::axpy<B, T>(pass.ctx, T(1), d, sink.view());
  }

  // One factor for all: learnt, which lies on the device, or constant.
  struct ScaleRow {
    const T* learned;
    T constant;
    View<T> x_io;
    template <class Team>
    DELTATUNE_HD void operator()(const Team& team, Index i) const {
      const T factor = learned == nullptr ? constant : *learned;
      team.each(x_io.cols, [=, row = x_io.row(i)](Index j) { row[j] = row[j] * factor; });
    }
  };

  BottleneckConfig config_;
  Index width_ = 0;
  detail::OwnNorm<X> norm_before_, norm_after_;
  detail::AdapterLinear<X> down_, up_;
  detail::OwnParameter<X> gate_weight_, gate_bias_, scale_;
};

}  // namespace deltatune
