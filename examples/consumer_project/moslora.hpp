// MoSLoRA: LoRA with a learnt mixture of its subspaces. Wu et al. 2024, arXiv 2406.11909. A method that deltatune has not.
//
//   y = x·Wᵀ + s·x·Aᵀ·Mᵀ·Bᵀ,   s = α/R
//   backward, with u = x·Aᵀ, v = u·Mᵀ, dv = s·dy·B, du = dv·M:
//     dB += s·dyᵀ·v,   dM += dvᵀ·u,   dA += duᵀ·x,   dx += du·A
//
// Shapes A (R, in), M (R, R), B (out, R).  Start: A and M uniform in ±1/√in and ±1/√R, B = 0.  Parameters: R·(in + out + R) a site.
// Seam: weight.  Merge: exact, W + s·B·M·A.
#pragma once

#include <deltatune/deltatune.hpp>

template <class X>
class MosLora {
 public:
  using T = deltatune::scalar_of<X>;
  using B = deltatune::backend_of<X>;
  using Context = deltatune::context_of<X>;
  using Gemm = deltatune::Gemm<T>;
  template <class E>
  using View = deltatune::View<E>;

  static constexpr bool kIsSum = true;  // so it may be merged before or after other LoRA

  struct Saved {
    View<const T> u, v;  // (N, R)
  };

  MosLora(Context& ctx, const std::string& site, deltatune::Index in, deltatune::Index out, deltatune::Index rank, double alpha, std::uint64_t seed)
      : scale_(T(alpha / static_cast<double>(rank))), rank_(rank) {
    using deltatune::Role;
    a_ = parameter(ctx, a_values_, site + ".moslora_A", {rank, in}, 1.0 / std::sqrt(static_cast<double>(in)), deltatune::derive(seed, 0));
    m_ = parameter(ctx, m_values_, site + ".moslora_mixer", {rank, rank}, 1.0 / std::sqrt(static_cast<double>(rank)), deltatune::derive(seed, 1));
    b_ = parameter(ctx, b_values_, site + ".moslora_B", {out, rank}, 0.0, deltatune::derive(seed, 2));
  }

  template <class F>
  void visit(const F& f) {
    f(a_);
    f(m_);
    f(b_);
  }
  bool needs_input() const { return a_.trains(); }

  void forward(deltatune::Pass<X>& pass, View<const T> x, View<T> y_io, Saved& saved) const {
    const View<T> u = pass.keep(x.rows, rank_), v = pass.keep(x.rows, rank_);
    B::gemm(pass.ctx, Gemm{.a = x, .b = a_.value(), .c = u, .transpose_b = true});
    B::gemm(pass.ctx, Gemm{.a = u, .b = m_.value(), .c = v, .transpose_b = true});
    B::gemm(pass.ctx, Gemm{.a = v, .b = b_.value(), .c = y_io, .transpose_b = true, .alpha = scale_, .beta = T(1)});
    saved = {u, v};
  }

  void backward(deltatune::Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, deltatune::GradientSink<T>& dx) {
    const auto scope = pass.scope();
    const View<T> du = pass.take(dy_io.rows, rank_), dv = pass.take(dy_io.rows, rank_);
    B::gemm(pass.ctx, Gemm{.a = dy_io, .b = b_.value(), .c = dv, .alpha = scale_});
    B::gemm(pass.ctx, Gemm{.a = dv, .b = m_.value(), .c = du});
    if (b_.trains()) B::gemm(pass.ctx, Gemm{.a = dy_io, .b = saved.v, .c = b_.gradient(), .transpose_a = true, .alpha = scale_, .beta = T(1)});
    if (m_.trains()) B::gemm(pass.ctx, Gemm{.a = dv, .b = saved.u, .c = m_.gradient(), .transpose_a = true, .beta = T(1)});
    if (a_.trains()) B::gemm(pass.ctx, Gemm{.a = du, .b = x, .c = a_.gradient(), .transpose_a = true, .beta = T(1)});
    if (dx.wanted()) B::gemm(pass.ctx, Gemm{.a = du, .b = a_.value(), .c = dx.view(), .beta = dx.next_beta()});
  }

  void merge(Context& ctx, View<T> w_io, View<T> /*b_io*/) const {
    X mixed(ctx, {rank_, a_.shape()[1]});  // M·A
    B::gemm(ctx, Gemm{.a = m_.value(), .b = a_.value(), .c = mixed.view()});
    B::gemm(ctx, Gemm{.a = b_.value(), .b = mixed.view(), .c = w_io, .alpha = scale_, .beta = T(1)});
  }

 private:
  // With uniform values in ±bound.
  static deltatune::Parameter<X> parameter(Context& ctx, X& values, const std::string& path, deltatune::Shape shape, double bound, deltatune::RandomKey key) {
    values = X(ctx, shape);
    std::vector<T> start;
    for (deltatune::Index i = 0; i < values.size(); ++i)
      start.push_back(T(bound * (2.0 * static_cast<double>(deltatune::uniform(key, static_cast<std::uint64_t>(i))) - 1.0)));
    B::copy_in(ctx, start.data(), values.view().data, values.bytes());
    deltatune::Parameter<X> result(path, deltatune::Role::delta, std::move(shape), values.view());
    result.set_mask(deltatune::FreezeMask::trainable());
    return result;
  }

  T scale_;
  deltatune::Index rank_;
  X a_values_, m_values_, b_values_;
  deltatune::Parameter<X> a_, m_, b_;
};

// The method for a whole model, and its folder: adapter_config.json and adapter_model.safetensors, of a type that PEFT refuses by name.
struct MosLoraPlan : deltatune::PlanBase {
  static constexpr const char* kMethod = "moslora";
  static constexpr const char* kPeftType = "DELTATUNE_MOSLORA";
  static std::vector<std::string> site_tensors() { return {".moslora_A"}; }

  deltatune::Index rank = 8;
  double alpha = 16;
  deltatune::Targets targets = deltatune::Targets::named({"query", "value"});

  std::vector<deltatune::Setting> settings() { return {{"r", &rank}, {"alpha", &alpha}, {"target_modules", &targets}}; }

  template <class Model>
  void place(typename Model::Context& ctx, Model& model, deltatune::Attachment<typename Model::Tensor>& attachment, std::uint64_t seed,
             const std::string& where) const {
    using X = typename Model::Tensor;
    std::uint64_t number = 0;
    deltatune::for_each_target(model, targets, *this, where, [&](deltatune::LinearSite<X>& site) {
      attachment.add(site, MosLora<X>(ctx, site.path, site.weight.shape()[1], site.weight.shape()[0], rank, alpha, seed + number++));
    });
  }
};
