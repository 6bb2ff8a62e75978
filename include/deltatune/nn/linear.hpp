// A linear layer, y = x·Wᵀ + b, whose weight may hold several sites: parts with paths, parameters and deltas of their own that run in one product.
//
// BERT's query, key and value are three sites of one Linear: one (3C, C) weight, one GEMM. How a checkpoint cuts its weights does not decide
// how many products run.
//   forward   y_s = delta_s(x·W_sᵀ) + b_s
//   backward  db_s += Σ_rows dy_s;  deltas;  dW_s += dy_sᵀ·x (only where W_s trains);  dx += dy·W in one product (only where wanted)
//
// Low-rank deltas give their A to the layer (seam/weight.hpp), which keeps all of them under its weight: with an output matrix that has columns
// for them, [y | u] = x·[W; A]ᵀ and dx = [dy | du]·[W; A] are one product each, and x and dx are read and written once.
//
// The weight may be a table that another layer owns: the head of a language model that reads the word embeddings. It may part from it and join it again.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/nn/base_matrix.hpp"
#include "deltatune/ops/reduce.hpp"
#include "deltatune/param/parameter.hpp"
#include "deltatune/seam/weight.hpp"

namespace deltatune {

// One site: some rows of the weight, with the name they have in the checkpoint.
template <class X>
struct LinearSite {
  std::string path;     // "bert.encoder.layer.0.attention.self.query"
  Index first = 0;      // first output column
  Index width = 0;      // output columns
  Parameter<X> weight;  // (width, in)
  Parameter<X> bias;    // (width), or without a path where the layer has none
  WeightSlot<X> deltas;
  bool shared = false;  // the weight is another layer's: it is read and never changed here
};

struct LinearOptions {
  bool bias = true;
  bool transposed_in_file = false;  // checkpoints hold the weight as (in, out)
  bool rounded = false;             // the weight is held in bfloat16 from the start: it is read from a file, and never trained or changed
  bool shared = false;              // without a weight of its own until share() names one or own() makes one; for a layer with one site
};

template <class X>
class Linear {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  // What backward needs besides x and dy: what the deltas of each site kept.
  struct Saved {
    std::vector<typename WeightSlot<X>::Saved> sites;
    bool low_rank = false;  // the layer has multiplied with the placed A
    bool apart = false;     // each site read an input of its own
  };

  Linear() = default;
  // Sites as (path, outputs), all reading `in` inputs; values are zero until loaded or initialised.
  Linear(context_of<X>& ctx, Index in, const std::vector<std::pair<std::string, Index>>& sites, LinearOptions options = {}) : in_(in) {
    for (const auto& [path, width] : sites) out_ += width;
    if (options.rounded) {
      weight_ = X(ctx, {0, in});
      rounded_ = Tensor<Bfloat16, B>(ctx, {out_, in});
    } else if (!options.shared) {
      weight_ = X(ctx, {out_, in});
    }
    if (options.bias) bias_ = X(ctx, {out_});
    Index first = 0;
    for (const auto& [path, width] : sites) {
      LinearSite<X> site;
      site.path = path;
      site.first = first;
      site.width = width;
      site.weight =
          Parameter<X>(path + ".weight", Role::weight, {width, in}, options.shared || options.rounded ? View<T>() : weight_.view().row_range(first, width));
      if (options.rounded) site.weight.set_rounded(rounded_.view().row_range(first, width));
      if (options.transposed_in_file) site.weight.set_transposed_in_file();
      if (options.bias) site.bias = Parameter<X>(path + ".bias", Role::bias, {width}, bias_.view().column_range(first, width));
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
      if (!site.shared) f(site.weight);
      if (bias_) f(site.bias);
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

  // Whether a delta stands at a site. Without any, forward can add to what y holds, and backward leaves dy as it is.
  bool has_deltas() const {
    return std::any_of(sites_.begin(), sites_.end(), [](const LinearSite<X>& site) { return !site.deltas.empty(); });
  }

  // Whether a delta reads other rows of its row's sequence.
  bool mixes_rows() const {
    return std::any_of(sites_.begin(), sites_.end(), [](const LinearSite<X>& site) { return site.deltas.mixes_rows(); });
  }

  // Repacks the weight as [W; A1; A2; ...], the A of deltas that take part first, so that one product gives y and every x·Aᵀ, and the others cost
  // nothing but their memory. An Attachment calls it whenever its state changes; without it every delta runs products of its own.
  void arrange(context_of<X>& ctx) {
    const Index active = low_rank(true), rank = active + low_rank(false);
    Index first = 0;
    bool placed = true;
    for (const bool taking_part : {true, false})
      for (const LinearSite<X>& site : sites_) placed = site.deltas.placed(taking_part, first) && placed;
    if (rank != rank_) {
      lay_out(ctx, own_base(), rank);
    } else if (!placed) {
      X between(ctx, {rank, in_});  // rows change places
      place(ctx, between.view());
      place(ctx, weight_.view().row_range(own_base().rows, rank));
    }
    active_rank_ = active;
  }

  // Reads `table`, (out, in), from now on, which another layer owns and which stays where it is; a weight of its own is given back.
  void share(context_of<X>& ctx, const BaseMatrix<X>& table, View<T> values) {
    shared_ = table;
    lay_out(ctx, {}, rank_);
    sites_[0].shared = true;
    sites_[0].weight = Parameter<X>(sites_[0].path + ".weight", Role::weight, {out_, in_}, values);
    if (!values) sites_[0].weight.set_rounded();
  }
  // Has a weight of its own from now on, equal to the table that it has read.
  void own(context_of<X>& ctx) {
    const View<const T> table = sites_[0].weight.value();
    shared_ = {};
    sites_[0].shared = false;
    lay_out(ctx, table, rank_);
  }
  bool shares() const { return shared_.rows() > 0; }
  // (width, in), of the site of that number.
  View<const T> weight_of(std::size_t site) const { return sites_.at(site).weight.value(); }

  // Rounds the weight to bfloat16 for good (nn/base_matrix.hpp). A layer whose weight trains is left as it is.
  void cast_base_to_bf16(context_of<X>& ctx) requires kRounds<X> {
    if (rounded_ || shares() || std::any_of(sites_.begin(), sites_.end(), [](const LinearSite<X>& site) { return site.weight.trains(); })) return;
    Tensor<Bfloat16, B> rounded(ctx, {out_, in_});
    ops::round_to_bfloat16<B, T>(ctx, weight_.view().row_range(0, out_), rounded.view());
    lay_out(ctx, {}, rank_);
    rounded_ = std::move(rounded);
    for (LinearSite<X>& site : sites_) site.weight.set_rounded();
  }

  // Output matrices (N, out + rank) for forward to write, kept or scratch, and for the gradients of backward: with the columns of u.
  View<T> keep_output(Pass<X>& pass, Index rows) const { return pass.keep(rows, stride()).column_range(0, out_ + active_rank_); }
  View<T> take_output(Pass<X>& pass, Index rows) const { return pass.take(rows, stride()).column_range(0, out_ + active_rank_); }

  // x (N, in) -> y (N, out). A y from keep_output() also holds u and must then live until backward. accumulate: y is added to; only without deltas.
  void forward(Pass<X>& pass, View<const T> x, View<T> y, Saved& saved, bool accumulate = false) const {
    saved.sites.resize(sites_.size());
    saved.apart = std::any_of(sites_.begin(), sites_.end(), [](const LinearSite<X>& site) { return site.deltas.changes_input(); });
    saved.low_rank = !saved.apart && multiplies_low_rank();
    if (saved.apart) return forward_apart(pass, x, y, saved);
    View<T> u;
    if (saved.low_rank && y.cols > out_ && stacked()) {
      B::gemm(pass.ctx, Gemm<T>{.a = x, .b = packed(), .c = y, .transpose_b = true});
      u = y.column_range(out_, active_rank_);
    } else {
      base().multiply(pass, x, true, y.column_range(0, out_), accumulate ? T(1) : T(0));
      if (saved.low_rank) {
        u = y.cols > out_ ? y.column_range(out_, active_rank_) : pass.keep(x.rows, active_rank_);
        B::gemm(pass.ctx, Gemm<T>{.a = x, .b = factors(), .c = u, .transpose_b = true});
      }
    }
    for (std::size_t s = 0; s < sites_.size(); ++s) {
      const LinearSite<X>& site = sites_[s];
      if (!site.deltas.empty()) site.deltas.forward(pass, x, u, y.column_range(site.first, site.width), saved.sites[s]);
    }
    finish(pass, y, saved);
  }

  // dy_io (N, out), or from take_output(): holds dy, is used up. x (N, in): empty unless needs_input(). dx (N, in) through the sink.
  // d_shared (out, in): accumulates the gradient of a shared table; empty where it does not train.
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T> dx, View<T> d_shared = {}) {
    const auto scope = pass.scope();
    const bool together = saved.low_rank && dy_io.cols > out_ && stacked();
    View<T> du;
    if (saved.low_rank) du = dy_io.cols > out_ ? dy_io.column_range(out_, active_rank_) : pass.take(dy_io.rows, active_rank_);
    for (std::size_t s = sites_.size(); s-- > 0;) {
      LinearSite<X>& site = sites_[s];
      const View<T> dy = dy_io.column_range(site.first, site.width);
      if (!site.deltas.empty()) site.deltas.after_backward(pass, saved.sites[s], dy);
      if (site.bias.trains()) ops::column_sum<B, T>(pass.ctx, dy, site.bias.gradient());
      if (saved.apart) {
        site_backward(pass, site, saved.sites[s], x, dy, dx, d_shared);
        continue;
      }
      if (!site.deltas.empty()) site.deltas.backward(pass, saved.sites[s], x, dy, du, dx);
      if (const View<T> dw = site.shared ? d_shared : site.weight.gradient())
        B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = x, .c = dw, .transpose_a = true, .beta = T(1)});  // accumulates
    }
    if (!dx.wanted() || saved.apart) return;
    if (together) return B::gemm(pass.ctx, Gemm<T>{.a = dy_io, .b = packed(), .c = dx.view(), .beta = dx.next_beta()});
    base().multiply(pass, dy_io.column_range(0, out_), false, dx.view(), dx.next_beta());
    if (saved.low_rank) B::gemm(pass.ctx, Gemm<T>{.a = du, .b = factors(), .c = dx.view(), .beta = dx.next_beta()});
  }

 private:
  // The bias, and what deltas do after it.
  void finish(Pass<X>& pass, View<T> y, Saved& saved) const {
    if (bias_) ops::add_bias<B, T>(pass.ctx, bias_.view(), y.column_range(0, out_));
    for (std::size_t s = 0; s < sites_.size(); ++s) {
      const LinearSite<X>& site = sites_[s];
      if (!site.deltas.empty()) site.deltas.after(pass, y.column_range(site.first, site.width), saved.sites[s]);
    }
  }

  // Where a delta changes what a site reads, every site runs a product of its own.
  void forward_apart(Pass<X>& pass, View<const T> x, View<T> y, Saved& saved) const {
    for (std::size_t s = 0; s < sites_.size(); ++s) {
      const LinearSite<X>& site = sites_[s];
      const auto scope = pass.scope();
      const View<const T> x_site = input_of(pass, site, x);
      const View<T> y_site = y.column_range(site.first, site.width);
      base(site).multiply(pass, x_site, true, y_site);
      if (!site.deltas.empty()) site.deltas.forward(pass, x_site, {}, y_site, saved.sites[s]);
    }
    finish(pass, y, saved);
  }
  void site_backward(Pass<X>& pass, LinearSite<X>& site, const typename WeightSlot<X>::Saved& saved, View<const T> x, View<T> dy, GradientSink<T>& dx,
                     View<T> d_shared) {
    const auto scope = pass.scope();
    const bool changed = site.deltas.changes_input();
    const View<const T> x_site = needs_input() || d_shared ? input_of(pass, site, x) : x;
    // The deltas in front of the product have parameters that want their gradient even where nothing below does.
    const bool wanted = dx.wanted() || (changed && needs_input());
    const View<T> dx_site = changed && wanted ? pass.take(dy.rows, in_) : dx.view();
    GradientSink<T> sink = !wanted ? GradientSink<T>::none() : changed ? GradientSink<T>::fresh(dx_site) : dx;
    if (!site.deltas.empty()) site.deltas.backward(pass, saved, x_site, dy, {}, sink);
    if (const View<T> dw = site.shared ? d_shared : site.weight.gradient())
      B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = x_site, .c = dw, .transpose_a = true, .beta = T(1)});  // accumulates
    if (wanted) base(site).multiply(pass, dy, false, sink.view(), sink.next_beta());
    if (!changed) {
      dx = sink;
      return;
    }
    if (!wanted) return;
    site.deltas.before_backward(pass, x, dx_site);
    if (!dx.wanted()) return;
    if (dx.next_beta() == T(0)) {
      ops::copy<B, T>(pass.ctx, dx_site, dx.view());
    } else {
      ops::axpy<B, T>(pass.ctx, T(1), dx_site, dx.view());
    }
  }
  // In scratch, or x itself.
  View<const T> input_of(Pass<X>& pass, const LinearSite<X>& site, View<const T> x) const {
    if (!site.deltas.changes_input()) return x;
    const View<T> changed = pass.take(x.rows, x.cols);
    site.deltas.before(pass, x, changed);
    return changed;
  }

  // W stands above the A of the deltas, in one matrix with them.
  bool stacked() const { return !rounded_ && !shares(); }
  View<const T> own_base() const { return stacked() ? View<const T>(weight_.view().row_range(0, out_)) : View<const T>(); }
  BaseMatrix<X> base() const {
    if (shares()) return shared_;
    return rounded_ ? BaseMatrix<X>{{}, rounded_.view()} : BaseMatrix<X>{weight_.view().row_range(0, out_), {}};
  }
  BaseMatrix<X> base(const LinearSite<X>& site) const { return base().row_range(site.first, site.width); }
  View<const T> factors() const { return weight_.view().row_range(own_base().rows, active_rank_); }
  View<const T> packed() const { return weight_.view().row_range(0, out_ + active_rank_); }

  Index low_rank(bool taking_part) const {
    Index rows = 0;
    for (const LinearSite<X>& site : sites_) rows += site.deltas.low_rank(taking_part);
    return rows;
  }
  // Moves every A to its row of `factors` (rank, in).
  void place(context_of<X>& ctx, View<T> factors) {
    Index first = 0;
    for (const bool taking_part : {true, false})
      for (LinearSite<X>& site : sites_) first = site.deltas.place(ctx, factors, taking_part, first);
  }

  // A new matrix of `kept`, which are W or nothing, and `rank` rows for the deltas.
  void lay_out(context_of<X>& ctx, View<const T> kept, Index rank) {
    X weight(ctx, {kept.rows + rank, in_});
    if (kept) ops::copy<B, T>(ctx, kept, weight.view().row_range(0, kept.rows));
    for (LinearSite<X>& site : sites_)
      if (!site.shared) site.weight.set_value(kept ? weight.view().row_range(site.first, site.width) : View<T>());
    place(ctx, weight.view().row_range(kept.rows, rank));
    weight_ = std::move(weight);
    rank_ = rank;
  }

  // Whole cache lines where there are columns of u, so that rows stay as aligned as without.
  Index stride() const { return active_rank_ == 0 ? out_ : (out_ + active_rank_ + 15) / 16 * 16; }
  // The packed A are those of the deltas that take part, unless a slot was changed without arrange().
  bool multiplies_low_rank() const {
    Index first = 0;
    bool placed = active_rank_ > 0;
    for (const LinearSite<X>& site : sites_) placed = placed && site.deltas.placed(true, first);
    return placed && first == active_rank_;
  }

  Index in_ = 0;
  Index out_ = 0;
  Index rank_ = 0;               // rows of A under the weight
  Index active_rank_ = 0;        // of these the first, which belong to deltas that take part
  X weight_;                     // (out + rank, in): the sites one after another, then the A that low-rank deltas gave away; (rank, in) where W is rounded
  Tensor<Bfloat16, B> rounded_;  // (out, in), or empty
  BaseMatrix<X> shared_;         // (out, in) of another layer, or empty; weight_ holds the A alone then, as where W is rounded
  X bias_;                       // (out), or empty
  std::vector<LinearSite<X>> sites_;
};

}  // namespace deltatune
