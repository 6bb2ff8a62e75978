// A residual sublayer, attention, cross-attention or feed-forward, as every family has it:
//   h' = norm_sum(h + delta(dropout(s · norm_branch(branch(norm_before(h))))))
// with each norm there or not: norm_sum alone in BERT, norm_before alone in GPT-2, Llama and T5, norm_branch alone in OLMo 2, these two in Gemma 2. s is 1
// but in Granite. delta: seam/sublayer.hpp.
//
// Kept for backward, in units of N·C: x̂ of each norm 1; attention's qkv 3, or the feed-forward part's pre-activation F/C. What a norm handed on is
// rebuilt from its x̂ where a trainable part reads it. h itself is read again where no norm stands before the branch, and by deltas that ask for it.
#pragma once

#include <optional>
#include <utility>
#include <variant>

#include "deltatune/nn/attention.hpp"
#include "deltatune/nn/cross_attention.hpp"
#include "deltatune/nn/feed_forward.hpp"
#include "deltatune/nn/norm.hpp"
#include "deltatune/ops/scale.hpp"
#include "deltatune/param/visit.hpp"
#include "deltatune/seam/sublayer.hpp"

namespace deltatune {

template <class X>
struct SublayerNorms {
  std::optional<Norm<X>> before = {}, branch = {}, sum = {};
};

template <class X>
class ResidualSublayer {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Branch = std::variant<SelfAttention<X>, CrossAttention<X>, FeedForward<X>>;

  struct Saved {
    typename Norm<X>::Saved before, branch_norm, sum;
    std::variant<typename SelfAttention<X>::Saved, typename CrossAttention<X>::Saved, typename FeedForward<X>::Saved> branch;
    typename SublayerSlot<X>::Saved deltas;
    DropoutMask dropout;  // where norm_sum does not apply it
    Demand demand;
    View<T> residual;  // (M, C): h where a delta reads it again and a norm stands before the branch
    View<T> out;       // (M, C) where a delta takes norm_sum's place
  };

  // scale: s.
  ResidualSublayer(Branch branch, SublayerNorms<X> norms, SublayerSite<X> site, double dropout, double scale = 1)
      : branch_(std::move(branch)), norms_(std::move(norms)), site_(std::move(site)), dropout_(dropout), scale_(scale) {}

  template <class F>
  void visit(const F& f) {
    if (norms_.before) norms_.before->visit(f);
    std::visit([&](auto& branch) { branch.visit(f); }, branch_);
    if (norms_.branch) norms_.branch->visit(f);
    if (norms_.sum) norms_.sum->visit(f);
    site_.deltas.visit(f);
  }
  template <class F>
  void visit_linears(const F& f) {
    std::visit([&](auto& branch) { branch.visit_linears(f); }, branch_);
  }
  SublayerSite<X>& site() { return site_; }
  SelfAttention<X>* attention() { return std::get_if<SelfAttention<X>>(&branch_); }
  const SelfAttention<X>* attention() const { return std::get_if<SelfAttention<X>>(&branch_); }
  // Of attention and cross-attention; null: of neither.
  KvSite<X>* kv_site() {
    if (CrossAttention<X>* const cross = std::get_if<CrossAttention<X>>(&branch_)) return &cross->site();
    return attention() != nullptr ? &attention()->site() : nullptr;
  }
  // Whether its branch is cross-attention.
  bool reads_source() const { return cross_attention() != nullptr; }
  const CrossAttention<X>* cross_attention() const { return std::get_if<CrossAttention<X>>(&branch_); }
  FeedForward<X>* feed_forward() { return std::get_if<FeedForward<X>>(&branch_); }

  // Whether a table trains that an attention shares with other layers, which visit() does not give.
  bool shared_table_trains() const { return attention() != nullptr && attention()->bias_trains(); }
  // Whether backward reads h, which the caller then gives it again.
  bool needs_input() const {
    return !norms_.before && (std::visit([](const auto& branch) { return branch.needs_input(); }, branch_) || site_.deltas.needs_residual());
  }
  // Whether rebuild_output() can.
  bool can_rebuild_output() const { return norms_.sum.has_value(); }
  // Whether something behind an attention's queries reads other rows of its sequence: forward then takes no demand.
  bool mixes_rows() const {
    return std::visit([](const auto& branch) { return branch.mixes_rows(); }, branch_) || site_.deltas.mixes_rows();
  }

  // h (N, C) -> out (M, C): what is demanded of it; h itself where that is all. cache: of an attention, for the sequences whose next rows h holds, or
  // of a cross-attention, for their source texts; only in evaluation.
  void forward(Pass<X>& pass, const Sequences& sequences, const Demand& demand, View<const T> h, View<T> out, Saved& saved, KvCache<X>* cache = nullptr) const {
    const auto scope = pass.scope();
    View<const T> x = h;
    if (norms_.before) {
      const View<T> normalised = pass.take(h.rows, h.cols);
      norms_.before->forward(pass, h, {}, {}, normalised, saved.before);
      x = normalised;
    }
    if (demand) ops::gather_rows<B, T>(pass.ctx, h, demand.rows, out);
    const bool adds = branch_adds() && !(pass.mode == Mode::train && dropout_ > 0);
    const View<T> y = adds ? out : pass.take(out.rows, out.cols);
    if (const SelfAttention<X>* const attention = std::get_if<SelfAttention<X>>(&branch_)) {
      attention->forward(pass, sequences, demand, x, y, saved_of(*attention, saved), cache, adds);
    } else if (const CrossAttention<X>* const cross = std::get_if<CrossAttention<X>>(&branch_)) {
      cross->forward(pass, sequences, x, y, saved_of(*cross, saved), cache, adds);
    } else {
      const FeedForward<X>& feed_forward = std::get<FeedForward<X>>(branch_);
      feed_forward.forward(pass, x, y, saved_of(feed_forward, saved), adds);
    }
    const DemandScope<X> rows(pass, demand);
    saved.demand = demand;
    if (norms_.branch) norms_.branch->forward(pass, y, {}, {}, y, saved.branch_norm);
    if (scale_ != 1) ops::scale<B, T>(pass.ctx, T(scale_), y, y);
    finish(pass, y, out, saved, adds);
  }

  // The output again, from what norm_sum kept.
  void rebuild_output(Pass<X>& pass, const Saved& saved, View<T> h) const {
    if (saved.out) return ops::copy<B, T>(pass.ctx, saved.out, h);
    norms_.sum->rebuild(pass, saved.sum, {}, h);
  }

  // d_out_io (M, C): gradient of the output, used up. dh (N, C): gradient of the input where input_wanted; d_out_io itself without a demand.
  // h (N, C): the input again, empty unless needs_input().
  void backward(Pass<X>& pass, const Saved& saved, View<const T> h, View<T> d_out_io, View<T> dh, bool input_wanted) {
    const bool into_before = input_wanted || (norms_.before && trains(*norms_.before));
    const bool into_branch =
        into_before || std::visit([](auto& branch) { return trains(branch); }, branch_) || shared_table_trains() || (reads_source() && pass.source->gradient);
    const bool into_end = into_branch || (norms_.branch && trains(*norms_.branch));
    if (!into_end && !trains(site_.deltas)) {
      if (norms_.sum && !saved.out) norms_.sum->parameter_backward(pass, saved.sum, d_out_io);
      return;
    }
    const auto scope = pass.scope();
    const bool adds = branch_adds() && !saved.dropout.active();
    const View<T> dy = adds ? d_out_io : pass.take(d_out_io.rows, d_out_io.cols);
    if (!adds) end_backward(pass, saved, h, d_out_io, dy);
    if (!into_end) return;
    if (scale_ != 1) ops::scale<B, T>(pass.ctx, T(scale_), dy, dy);
    if (norms_.branch) norms_.branch->backward(pass, saved.branch_norm, dy, {});
    if (!into_branch) return;
    if (input_wanted && saved.demand) ops::scatter_rows<B, T>(pass.ctx, d_out_io, saved.demand.rows, dh);
    if (!norms_.before) return branch_backward(pass, saved, h, dy, input_wanted ? GradientSink<T>::accumulating(dh) : GradientSink<T>::none());
    View<T> x;
    if (std::visit([](const auto& branch) { return branch.needs_input(); }, branch_)) {
      x = pass.take(saved.before.normalized.rows(), d_out_io.cols);
      norms_.before->rebuild(pass, saved.before, {}, x);
    }
    const View<T> dx = into_before ? pass.take(saved.before.normalized.rows(), d_out_io.cols) : View<T>();
    branch_backward(pass, saved, x, dy, into_before ? GradientSink<T>::fresh(dx) : GradientSink<T>::none());
    if (!into_before) return;
    if (!input_wanted) return norms_.before->parameter_backward(pass, saved.before, dx);
    norms_.before->backward_adding(pass, saved.before, dx, dh);
  }

 private:
  // Whether nothing stands between the branch's last product and the residual sum but a dropout: without one, that product adds to the residual itself,
  // and the gradient of the sum is that of the branch.
  bool branch_adds() const {
    return norms_.before && !norms_.branch && !norms_.sum && scale_ == 1 && !site_.deltas.active() &&
           !std::visit([](const auto& branch) { return branch.output_has_deltas(); }, branch_);
  }

  template <class Part>
  static typename Part::Saved& saved_of(const Part&, Saved& saved) {
    if (typename Part::Saved* const held = std::get_if<typename Part::Saved>(&saved.branch)) return *held;
    return saved.branch.template emplace<typename Part::Saved>();
  }

  // From the branch's y (M, C), used up, and the residual in h_io (M, C), which becomes the output; is_sum: y is both, and the output already.
  void finish(Pass<X>& pass, View<T> y, View<T> h_io, Saved& saved, bool is_sum) const {
    const DropoutMask dropout = pass.dropout(dropout_);
    saved.residual = {};
    saved.out = {};
    if (is_sum) {
      saved.dropout = dropout;  // none
      return;
    }
    if (!site_.deltas.active()) return add(pass, dropout, y, h_io, saved);
    saved.dropout = dropout;
    if (dropout.active()) ops::dropout<B, T>(pass.ctx, dropout, y, y);
    if (norms_.before && site_.deltas.needs_residual()) {
      saved.residual = pass.keep(h_io.rows, h_io.cols);
      ops::copy<B, T>(pass.ctx, h_io, saved.residual);
    }
    site_.deltas.forward(pass, norms_.sum ? norms_.sum->residual_norm() : ResidualNorm<X>(), h_io, y, saved.deltas);
    if (!site_.deltas.completes()) return add(pass, {}, y, h_io, saved);
    if (norms_.sum) {
      saved.out = pass.keep(h_io.rows, h_io.cols);
      ops::copy<B, T>(pass.ctx, y, saved.out);
    }
    ops::copy<B, T>(pass.ctx, y, h_io);
  }
  // h_io = norm_sum(h_io + dropout(y))
  void add(Pass<X>& pass, const DropoutMask& dropout, View<const T> y, View<T> h_io, Saved& saved) const {
    if (norms_.sum) return norms_.sum->forward(pass, h_io, y, dropout, h_io, saved.sum);
    if (!site_.deltas.active()) saved.dropout = dropout;
    if (dropout.active()) return ops::dropout<B, T>(pass.ctx, dropout, y, h_io, true);
    ops::axpy<B, T>(pass.ctx, T(1), y, h_io);
  }

  // From the output to the branch's: dy (M, C), overwritten; d_out_io becomes the gradient of the residual.
  void end_backward(Pass<X>& pass, const Saved& saved, View<const T> h, View<T> d_out_io, View<T> dy) {
    const DemandScope<X> rows(pass, saved.demand);
    const bool has_deltas = site_.deltas.active();
    if (norms_.sum && !saved.out) {
      norms_.sum->backward(pass, saved.sum, d_out_io, dy);
    } else if (!has_deltas && saved.dropout.active()) {
      return ops::dropout<B, T>(pass.ctx, saved.dropout, d_out_io, dy);
    } else {
      ops::copy<B, T>(pass.ctx, d_out_io, dy);
    }
    if (!has_deltas) return;
    if (site_.deltas.completes()) B::fill(pass.ctx, d_out_io, T(0));
    const auto scope = pass.scope();
    View<const T> residual = saved.residual;
    if (!norms_.before && site_.deltas.needs_residual()) {
      residual = h;
      if (saved.demand) {
        const View<T> read = pass.take(d_out_io.rows, d_out_io.cols);
        ops::gather_rows<B, T>(pass.ctx, h, saved.demand.rows, read);
        residual = read;
      }
    }
    GradientSink<T> d_residual = GradientSink<T>::accumulating(d_out_io);
    site_.deltas.backward(pass, norms_.sum ? norms_.sum->residual_norm_in_backward() : ResidualNorm<X>(), saved.deltas, residual, dy, d_residual);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, dy, dy);
  }

  void branch_backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T> dx) {
    std::visit([&](auto& branch) { branch.backward(pass, std::get<typename std::remove_reference_t<decltype(branch)>::Saved>(saved.branch), x, dy_io, dx); },
               branch_);
  }

  Branch branch_;
  SublayerNorms<X> norms_;
  SublayerSite<X> site_;
  double dropout_ = 0;
  double scale_ = 1;
};

}  // namespace deltatune
