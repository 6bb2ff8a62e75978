// Bottleneck adapters: two small layers with a nonlinearity between, after attention or after the feed-forward part. One body for the forms of the
// literature, as AdapterHub arranges them:
//   Houlsby et al. 2019, arXiv 1902.00751; Pfeiffer et al. 2020, arXiv 2005.00247; parallel: He et al. 2021, arXiv 2110.04366;
//   Compacter (PHM layers): Mahabadi et al. 2021, arXiv 2106.04647; Adapter+ (a scale for each channel): Steitz and Roth 2024, arXiv 2406.06820.
//
//   h: the sublayer's output after dropout, r: the residual, LN: the norm after their sum (none in GPT-2: LN(x) is x below)
//   x = h,   or with original_ln_before  x = LN(h + r);   parallel: x = r
//   v = s·dropout(W_up·f(W_down·x' + b_down) + b_up),   x' = x or LN_before(x);   gated: v·g, g: delta/sequence_gate.hpp, of x
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
#include "deltatune/delta/adapter_linear.hpp"
#include "deltatune/delta/check_settings.hpp"
#include "deltatune/delta/own_norm.hpp"
#include "deltatune/delta/sequence_gate.hpp"
#include "deltatune/ops/activation.hpp"
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
    detail::check_dropout(where + ": dropout", dropout);
    detail::check_dropout(where + ": stochastic_depth", stochastic_depth);
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

// Factors of stochastic depth: 0 for a sequence that goes without, 1/(1 − p) for one that doesn't.
template <class T>
struct DepthFactor {
  DropoutMask mask;
  T* factors;
  DELTATUNE_HD void operator()(Index s) const { factors[s] = mask.template factor<T>(static_cast<std::uint64_t>(s)); }
};

// Every row times one factor: learnt, which lies on the device, or constant.
template <class T>
struct FactorRow {
  const T* learned;
  T constant;
  View<T> x_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const T factor = learned == nullptr ? constant : *learned;
    team.each(x_io.cols, [=, row = x_io.row(i)](Index j) { row[j] = row[j] * factor; });
  }
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
    View<const T> x;      // (N, C), or empty: it is the residual, or what the block's norm made
    View<const T> pre;    // (N, d) before the nonlinearity
    View<const T> depth;  // (B, 1)
    typename detail::SequenceGate<X>::Saved gate;
    typename detail::OwnNorm<X>::Saved norm, before, after;  // norm: the block's
    DropoutMask dropout;
  };

  // path: of the place. shared: where the configuration says that PHM layers share.
  Bottleneck(Context& ctx, const std::string& path, Index width, const BottleneckConfig& config, RandomKey key, const SharedPhm<X>& shared = {})
      : config_(config), width_(width) {
    const std::string index = config.ln_before ? ".1" : ".0";
    if (config.ln_before) norm_before_ = {ctx, path + ".adapter_norm_before", width};
    down_ = linear(ctx, path + ".adapter_down" + index, width, config.bottleneck, false, derive(key, 0), shared.down);
    up_ = linear(ctx, path + ".adapter_up", config.bottleneck, width, true, derive(key, 1), shared.up);
    if (config.ln_after) norm_after_ = {ctx, path + ".adapter_norm_after", width};
    if (config.gated) gate_ = {ctx, path + ".gate", width, 1, detail::normal_start(derive(key, 2), 0.02), [](Index) { return 0.0; }};
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
    gate_.visit(f);
    if (scale_) f(*scale_);
  }

  bool needs_residual() const { return config_.parallel; }
  bool mixes_rows() const { return config_.gated; }
  bool completes() const { return !config_.original_ln_after; }

  void forward(Pass<X>& pass, const ResidualNorm<X>& norm, View<const T> residual, View<T> h_io, Saved& saved) const {
    const auto scope = pass.scope();
    const View<const T> x = input(pass, norm, residual, h_io, saved);
    const View<T> v = pass.take(h_io.rows, width_);
    saved.pre = core(pass, x, v, saved);
    scale_and_drop(pass, v, saved);
    if (config_.gated) {
      saved.gate = gate_.forward(pass, x);
      by_sequence(pass, saved.gate.gates, v);
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
    const View<const T> x = config_.parallel ? residual : input_again(pass, norm, saved);
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
  detail::AdapterLinear<X> linear(Context& ctx, const std::string& path, Index in, Index out, bool is_up, RandomKey key, const PhmParameters<X>& shared) const {
    using Start = BottleneckConfig::Start;
    if (config_.phm) return {ctx, path, in, out, *config_.phm, shared, key};
    switch (config_.start) {
      case Start::bert:
        return {ctx, path, in, out, detail::normal_start(key, 0.02)};
      case Start::houlsby:
        return {ctx, path, in, out, detail::cut_normal_start(key, 0.01)};
      case Start::mam_adapter:
        break;
    }
    if (is_up) return {ctx, path, in, out, [](Index) { return 0.0; }};
    return {ctx, path, in, out, detail::uniform_start(key, 1.0 / std::sqrt(static_cast<double>(in)))};
  }
  bool adds_before_norm() const { return config_.residual_before_ln_after && !config_.parallel; }

  // x; kept, or what makes it again.
  View<const T> input(Pass<X>& pass, const ResidualNorm<X>& norm, View<const T> residual, View<const T> h, Saved& saved) const {
    if (config_.parallel) return residual;
    const bool normalises = config_.original_ln_before && norm;
    const View<T> x = normalises ? pass.take(h.rows, width_) : pass.keep(h.rows, width_);
    ops::copy<B, T>(pass.ctx, h, x);
    if (config_.original_ln_before) ops::axpy<B, T>(pass.ctx, T(1), residual, x);
    if (normalises) {
      const View<T> normalized = pass.keep(h.rows, width_), inverse_std = pass.keep(h.rows, 1);
      ops::layer_norm_forward<B, T>(pass.ctx, x, {}, {}, norm.scale, norm.shift, norm.epsilon, x, normalized, inverse_std);
      saved.norm = {normalized, inverse_std};
    } else {
      saved.x = x;
    }
    return x;
  }
  View<const T> input_again(Pass<X>& pass, const ResidualNorm<X>& norm, const Saved& saved) const {
    if (saved.x) return saved.x;
    const View<T> x = pass.take(saved.norm.normalized.rows, width_);
    ops::scale_shift<B, T>(pass.ctx, saved.norm.normalized, norm.scale, norm.shift, {}, x);
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
    B::for_each_row(pass.ctx, v_io.rows, v_io.cols,
                    detail::FactorRow<T>{config_.scaling == Scaling::learned ? scale_->value().data : nullptr, T(config_.scale), v_io});
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
      const View<T> ungated = pass.take(raw.rows, width_), d_gates = pass.take(saved.gate.gates.rows, 1);
      ops::copy<B, T>(pass.ctx, raw, ungated);
      apply_scale(pass, ungated);
      if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, ungated, ungated);
      B::for_each_row(pass.ctx, d_gates.rows, pass.sequences->max_length * width_,
                      detail::SequenceDotRow<T>{pass.sequences->offsets, dv_io, ungated, d_gates.data});
      gate_.backward(pass, saved.gate, x, d_gates, into_x);
      by_sequence(pass, saved.gate.gates, dv_io);
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

  BottleneckConfig config_;
  Index width_ = 0;
  detail::OwnNorm<X> norm_before_, norm_after_;
  detail::AdapterLinear<X> down_, up_;
  detail::SequenceGate<X> gate_;
  detail::OwnParameter<X> scale_;
};

}  // namespace deltatune
