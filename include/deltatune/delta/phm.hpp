// Parameterised hypercomplex multiplication: a linear layer whose weight is a sum of Kronecker products. Zhang et al. 2021, arXiv 2102.08597; with
// factors of low rank and a rule that all layers share: Compacter, Mahabadi et al. 2021, arXiv 2106.04647.
//
//   H = Σ_i A_i ⊗ B_i   (in, out),   A_i (n, n),   B_i (in/n, out/n) = L_i·R_i of rank k, or whole;   A_i = l_i·r_iᵀ where the rule is factorised
//   H[a·in/n + p, c·out/n + q] = Σ_i A_i[a,c]·B_i[p,q]
//   backward:  dA_i[a,c] = Σ_pq dH[ap,cq]·B_i[p,q],   dB_i[p,q] = Σ_ac A_i[a,c]·dH[ap,cq],   dL = dB·Rᵀ,  dR = Lᵀ·dB
#pragma once

#include <cmath>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/delta/check_settings.hpp"
#include "deltatune/delta/own_parameter.hpp"

namespace deltatune {

struct PhmConfig {
  Index dim = 4;   // n
  Index rank = 1;  // k
  bool factorised_weight = true;
  bool shared_weight = false;  // among the layers that project in the same direction
  bool factorised_rule = false;
  bool shared_rule = true;  // among all layers
  bool learn_rule = true;
  bool bias = true;
  double rule_deviation = 1e-4;  // of a shared rule's start; one of its own: 0.01
  bool uniform_rule = false;     // start uniform instead of normal: in ±1, one of its own in ±0.01

  void validate(const std::string& where) const {
    if (dim < 1) throw Error(where + ": phm_dim", "is not a size", {.expected = "at least 1", .got = std::to_string(dim)});
    detail::check_rank(where + ": phm_rank", rank);
  }
};

namespace detail {

// Where the numbers of one H lie.
template <class T>
struct PhmFactors {
  Index n, in, out, rank;           // rank: of L and R
  const T* rule;                    // (n, n, n), or nullptr
  const T *rule_left, *rule_right;  // (n, n) each: l and r
  const T *left, *right;            // (n, in/n, rank), (n, rank, out/n)
  const T* whole;                   // (n, in/n, out/n), or nullptr

  DELTATUNE_HD Index rows() const { return in / n; }
  DELTATUNE_HD Index cols() const { return out / n; }
  DELTATUNE_HD T a(Index i, Index x, Index y) const { return rule != nullptr ? rule[(i * n + x) * n + y] : rule_left[i * n + x] * rule_right[i * n + y]; }
  DELTATUNE_HD T b(Index i, Index p, Index q) const {
    if (whole != nullptr) return whole[(i * rows() + p) * cols() + q];
    T sum = T(0);
    for (Index k = 0; k < rank; ++k) sum = sum + left[(i * rows() + p) * rank + k] * right[(i * rank + k) * cols() + q];
    return sum;
  }
};

template <class T>
struct PhmWeight {
  PhmFactors<T> f;
  View<T> h;  // (in, out)
  DELTATUNE_HD void operator()(Index index) const {
    const Index row = index / f.out, col = index % f.out;
    T sum = T(0);
    for (Index i = 0; i < f.n; ++i) sum = sum + f.a(i, row / f.rows(), col / f.cols()) * f.b(i, row % f.rows(), col % f.cols());
    h(row, col) = sum;
  }
};

// dA (n, n, n), written.
template <class T>
struct PhmRuleBackward {
  PhmFactors<T> f;
  View<const T> dh;
  T* da;
  DELTATUNE_HD void operator()(Index index) const {
    const Index i = index / (f.n * f.n), x = index / f.n % f.n, y = index % f.n;
    T sum = T(0);
    for (Index p = 0; p < f.rows(); ++p)
      for (Index q = 0; q < f.cols(); ++q) sum = sum + dh(x * f.rows() + p, y * f.cols() + q) * f.b(i, p, q);
    da[index] = sum;
  }
};

// dB (n, in/n, out/n), written.
template <class T>
struct PhmWeightBackward {
  PhmFactors<T> f;
  View<const T> dh;
  T* db;
  DELTATUNE_HD void operator()(Index index) const {
    const Index q = index % f.cols(), p = index / f.cols() % f.rows(), i = index / (f.cols() * f.rows());
    T sum = T(0);
    for (Index x = 0; x < f.n; ++x)
      for (Index y = 0; y < f.n; ++y) sum = sum + f.a(i, x, y) * dh(x * f.rows() + p, y * f.cols() + q);
    db[index] = sum;
  }
};

// to_io[index] += a sum over the other factor of a product of two.
template <class T>
struct PhmFactorBackward {
  Index blocks, rows, cols, inner;  // d (blocks, rows, cols) of products left (rows, inner) times right (inner, cols)
  const T* d;
  const T* other;
  bool of_left;
  T* to_io;
  DELTATUNE_HD void operator()(Index index) const {
    T sum = T(0);
    if (of_left) {
      const Index k = index % inner, p = index / inner % rows, i = index / (inner * rows);
      for (Index q = 0; q < cols; ++q) sum = sum + d[(i * rows + p) * cols + q] * other[(i * inner + k) * cols + q];
    } else {
      const Index q = index % cols, k = index / cols % inner, i = index / (cols * inner);
      for (Index p = 0; p < rows; ++p) sum = sum + d[(i * rows + p) * cols + q] * other[(i * rows + p) * inner + k];
    }
    to_io[index] = to_io[index] + sum;
  }
};

}  // namespace detail

// The parameters that layers may share; each one or a pointer to one of somebody else.
template <class X>
struct PhmParameters {
  Parameter<X>*rule = nullptr, *rule_left = nullptr, *rule_right = nullptr;  // (n, n, n); (n, n, 1), (n, 1, n)
  Parameter<X>*left = nullptr, *right = nullptr, *whole = nullptr;
};

namespace detail {

// Makes and owns such parameters. Pointers to them stay valid when this moves.
template <class X>
class PhmOwner {
 public:
  // path, or path_left and path_right.
  void add_rule(context_of<X>& ctx, const std::string& path, const PhmConfig& config, RandomKey key, PhmParameters<X>& to) {
    const Index n = config.dim;
    const double spread = !config.shared_rule ? 0.01 : config.uniform_rule ? 1.0 : config.rule_deviation;
    const auto add = [&](const std::string& name, const Shape& shape, RandomKey k) {
      Parameter<X>& made = *(config.uniform_rule ? parameters_.emplace_back(ctx, name, shape, uniform_start(k, spread))
                                                 : parameters_.emplace_back(ctx, name, shape, normal_start(k, spread)));
      if (!config.learn_rule) made.set_constant();
      return &made;
    };
    if (config.factorised_rule) {
      to.rule_left = add(path + "_left", {n, n, 1}, derive(key, 0));
      to.rule_right = add(path + "_right", {n, 1, n}, derive(key, 1));
    } else {
      to.rule = add(path, {n, n, n}, key);
    }
  }
  // The same for the weights of layers in -> out.
  void add_weight(context_of<X>& ctx, const std::string& path, Index in, Index out, const PhmConfig& config, RandomKey key, PhmParameters<X>& to) {
    const Index n = config.dim;
    const auto add = [&](const std::string& name, Index rows, Index cols, RandomKey k) {  // Xavier's start
      return &*parameters_.emplace_back(ctx, name, Shape{n, rows, cols}, normal_start(k, std::sqrt(2.0 / static_cast<double>(rows + cols))));
    };
    if (config.factorised_weight) {
      to.left = add(path + "_left", in / n, config.rank, derive(key, 0));
      to.right = add(path + "_right", config.rank, out / n, derive(key, 1));
    } else {
      to.whole = add(path, in / n, out / n, key);
    }
  }
  template <class F>
  void visit(const F& f) {
    for (OwnParameter<X>& each : parameters_) f(*each);
  }

 private:
  std::deque<OwnParameter<X>> parameters_;
};

}  // namespace detail

// H, and its pull-back. in and out must be multiples of n.
template <class X>
class PhmProduct {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  PhmProduct() = default;
  PhmProduct(Index in, Index out, PhmConfig config, PhmParameters<X> parameters) : in_(in), out_(out), config_(config), parameters_(parameters) {}

  Index in() const { return in_; }
  Index out() const { return out_; }
  bool trains() const {
    const auto trains = [](const Parameter<X>* each) { return each != nullptr && each->trains(); };
    const auto& p = parameters_;
    return trains(p.rule) || trains(p.rule_left) || trains(p.rule_right) || trains(p.left) || trains(p.right) || trains(p.whole);
  }

  void forward(context_of<X>& ctx, View<T> h) const { B::for_each(ctx, in_ * out_, detail::PhmWeight<T>{factors(), h}); }

  // dh (in, out).
  void backward(Pass<X>& pass, View<const T> dh) {
    const auto scope = pass.scope();
    const detail::PhmFactors<T> f = factors();
    const Index n = config_.dim;
    const auto pull = [&](View<const T> d, Index rows, Index cols, Index inner, Parameter<X>& left, Parameter<X>& right) {
      if (left.trains())
        B::for_each(pass.ctx, left.size(), detail::PhmFactorBackward<T>{n, rows, cols, inner, d.data, right.value().data, true, left.gradient().data});
      if (right.trains())
        B::for_each(pass.ctx, right.size(), detail::PhmFactorBackward<T>{n, rows, cols, inner, d.data, left.value().data, false, right.gradient().data});
    };
    const View<T> da = pass.take(1, n * n * n), db = pass.take(1, n * f.rows() * f.cols());
    if (parameters_.rule != nullptr ? parameters_.rule->trains() : parameters_.rule_left->trains()) {
      B::for_each(pass.ctx, da.size(), detail::PhmRuleBackward<T>{f, dh, da.data});
      if (parameters_.rule != nullptr) {
        const View<T> d_rule = parameters_.rule->gradient();
        ops::axpy<B, T>(pass.ctx, T(1), da, View<T>(d_rule.data, 1, d_rule.size()));
      } else {
        pull(da, n, n, 1, *parameters_.rule_left, *parameters_.rule_right);
      }
    }
    B::for_each(pass.ctx, db.size(), detail::PhmWeightBackward<T>{f, dh, db.data});
    if (parameters_.whole == nullptr) return pull(db, f.rows(), f.cols(), config_.rank, *parameters_.left, *parameters_.right);
    if (!parameters_.whole->trains()) return;
    const View<T> d_whole = parameters_.whole->gradient();
    ops::axpy<B, T>(pass.ctx, T(1), db, View<T>(d_whole.data, 1, d_whole.size()));
  }

 private:
  detail::PhmFactors<T> factors() const {
    const auto data = [](const Parameter<X>* parameter) -> const T* { return parameter == nullptr ? nullptr : parameter->value().data; };
    const auto& p = parameters_;
    return {config_.dim, in_, out_, config_.rank, data(p.rule), data(p.rule_left), data(p.rule_right), data(p.left), data(p.right), data(p.whole)};
  }

  Index in_ = 0, out_ = 0;
  PhmConfig config_;
  PhmParameters<X> parameters_;
};

}  // namespace deltatune
