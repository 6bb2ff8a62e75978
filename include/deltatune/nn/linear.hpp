// A linear layer, y = x·Wᵀ + b, whose weight may hold several sites: parts with paths, parameters and deltas of their own that run in one product.
//
// BERT's query, key and value are three sites of one Linear: one (3C, C) weight, one GEMM. How a checkpoint cuts its weights does not decide
// how many products run.
//   forward   y_s = delta_s(x·W_sᵀ) + b_s
//   backward  db_s += Σ_rows dy_s;  deltas;  dW_s += dy_sᵀ·x (only where W_s trains);  dx += dy·W in one product (only where wanted)
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/backend/gemm.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/ops/reduce.hpp"
#include "deltatune/param/parameter.hpp"
#include "deltatune/seam/weight.hpp"

namespace deltatune {

// One site: some rows of the weight, with the name they have in the checkpoint.
template <class X>
struct LinearSite {
  std::string path;  // "bert.encoder.layer.0.attention.self.query"
  Index first = 0;   // first output column
  Index width = 0;   // output columns
  Parameter<X> weight;  // (width, in)
  Parameter<X> bias;    // (width)
  WeightSlot<X> deltas;
};

template <class X>
class Linear {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  // What backward needs besides x and dy: what the deltas of each site kept.
  struct Saved {
    std::vector<typename WeightSlot<X>::Saved> sites;
  };

  Linear() = default;
  // Sites as (path, outputs), all reading `in` inputs; values are zero until loaded or initialised.
  Linear(context_of<X>& ctx, Index in, const std::vector<std::pair<std::string, Index>>& sites) : in_(in) {
    for (const auto& [path, width] : sites) out_ += width;
    weight_ = X(ctx, {out_, in});
    bias_ = X(ctx, {out_});
    Index first = 0;
    for (const auto& [path, width] : sites) {
      LinearSite<X> site;
      site.path = path;
      site.first = first;
      site.width = width;
      site.weight = Parameter<X>(path + ".weight", Role::weight, {width, in}, weight_.view().row_range(first, width));
      site.bias = Parameter<X>(path + ".bias", Role::bias, {width}, bias_.view().column_range(first, width));
      sites_.push_back(std::move(site));
      first += width;
    }
  }

  Index in() const { return in_; }
  Index out() const { return out_; }
  explicit operator bool() const { return !sites_.empty(); }

  template <class F>
  void visit(const F& f) {
    for (LinearSite<X>& site : sites_) {
      f(site.weight);
      f(site.bias);
      site.deltas.visit(f);
    }
  }
  // f(LinearSite<X>&). A site keeps its address when the layer moves.
  template <class F>
  void visit_sites(const F& f) {
    for (LinearSite<X>& site : sites_) f(site);
  }

  // Whether backward reads x.
  bool needs_input() const {
    return std::any_of(sites_.begin(), sites_.end(), [](const LinearSite<X>& site) { return site.weight.trains() || site.deltas.needs_input(); });
  }

  // x (N, in) -> y (N, out).
  void forward(Pass<X>& pass, View<const T> x, View<T> y, Saved& saved) const {
    B::gemm(pass.ctx, Gemm<T>{.a = x, .b = weight_.view(), .c = y, .transpose_b = true});
    saved.sites.resize(sites_.size());
    for (std::size_t s = 0; s < sites_.size(); ++s) {
      if (!sites_[s].deltas.empty()) sites_[s].deltas.forward(pass, x, y.column_range(sites_[s].first, sites_[s].width), saved.sites[s]);
    }
    ops::add_bias<B, T>(pass.ctx, bias_.view(), y);
  }

  // dy_io (N, out): holds dy, is used up. x (N, in): empty unless needs_input(). dx (N, in) through the sink.
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T> dx) {
    for (std::size_t s = sites_.size(); s-- > 0;) {
      LinearSite<X>& site = sites_[s];
      const View<T> dy = dy_io.column_range(site.first, site.width);
      if (site.bias.trains()) ops::column_sum<B, T>(pass.ctx, dy, site.bias.gradient());
      if (!site.deltas.empty()) site.deltas.backward(pass, saved.sites[s], x, dy, dx);
      if (site.weight.trains())
        B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = x, .c = site.weight.gradient(), .transpose_a = true, .beta = T(1)});  // accumulates
    }
    if (dx.wanted()) B::gemm(pass.ctx, Gemm<T>{.a = dy_io, .b = weight_.view(), .c = dx.view(), .beta = dx.next_beta()});
  }

 private:
  Index in_ = 0;
  Index out_ = 0;
  X weight_;  // (out, in): the sites one after another
  X bias_;    // (out)
  std::vector<LinearSite<X>> sites_;
};

}  // namespace deltatune
