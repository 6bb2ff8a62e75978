// Checks of a backward pass, for the library's own ops, layers and models and for yours. No test framework: they return numbers.
//
// One body says what is computed, on any tensor type; the checks run it in several ways:
//
//   const auto body = []<class X>(check::Trial<X>& trial) {
//     const auto u = trial.input("u", 5, 7);                  // random values
//     const auto y = trial.output("y", 5, 7);                 // to be written
//     my_forward<backend_of<X>>(trial.ctx(), u.value, y.value);
//     if (!trial.backward_wanted()) return;
//     my_backward<backend_of<X>>(trial.ctx(), u.value, y.gradient, u.gradient);
//   };
//   check::adjoint_test(body).worst() <= 1e-10;
//   check::finite_difference_test<Tensor<float, DefaultCpu>>(ctx, body).worst() <= 1e-2;
//   check::against_reference<Tensor<float, DefaultCpu>>(ctx, body).worst() <= 1e-5;
//
// adjoint_test            <w, J·v> by dual numbers through forward, against <Jᵀ·w, v> by backward, both in double on Reference, with v in one
//                         variable at a time, so that a wrong gradient is named
// finite_difference_test  the same along a random direction in all variables at once, J·v by central differences on a backend of your choice
// against_reference       outputs and gradients of a backend against those of Reference in double, entry by entry
//
// The conventions are checked on the way: outputs and the gradients of inputs arrive filled with NaN and must be overwritten; those of
// parameters arrive with something in them and must be added to.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "deltatune/backend/reference.hpp"
#include "deltatune/core/dual.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/param/visit.hpp"
#include "deltatune/seam/pass.hpp"
#include "deltatune/tensor/sequence.hpp"

namespace deltatune::check {

// One quantity found in two ways.
struct Finding {
  std::string name;
  double expected = 0;  // of entries compared one by one, those that differ most
  double got = 0;
  double error = 0;  // relative; infinite where a number is not finite
};

struct Report {
  std::vector<Finding> findings;

  double worst() const {
    double largest = 0;
    for (const Finding& finding : findings) largest = std::max(largest, finding.error);
    return largest;
  }
  // A line each.
  std::string text() const {
    std::string lines;
    for (const Finding& f : findings)
      lines += f.name + ": expected " + std::to_string(f.expected) + ", got " + std::to_string(f.got) + ", relative error " + std::to_string(f.error) + "\n";
    return lines;
  }
};

// How a body is run.
struct TrialPlan {
  std::uint64_t seed = 1;  // of all random numbers
  bool backward = false;
  Index tangent_of = -1;  // variable whose direction is carried by dual numbers
  double shift = 0;       // multiple of its direction that is added to every variable
};

// What a body sees: random variables of known names, a place for outputs, and a pass to run layers with.
template <class X>
class Trial {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  struct Variable {
    View<T> value;
    View<T> gradient;  // empty unless backward is wanted
  };

  // Something differentiated with respect to, with the direction it is varied in.
  struct Varied {
    std::string name;
    std::vector<double> direction;
    std::vector<double> start;  // what the gradient held before
    View<T> gradient;
  };
  struct Output {
    std::string name;
    std::vector<double> weight;
    View<T> value;
  };

  Trial(Context& ctx, TrialPlan plan) : ctx_(&ctx), plan_(plan), saved_(ctx), scratch_(ctx), pass_{ctx, saved_, scratch_, Mode::differentiate, plan.seed} {}

  Context& ctx() { return *ctx_; }
  // With a seed of the trial's own, so that dropout masks are the same in every run of the body.
  Pass<X>& pass() { return pass_; }
  bool backward_wanted() const { return plan_.backward; }

  // An activation: its gradient is overwritten.
  Variable input(std::string name, Index rows, Index cols) { return variable(std::move(name), rows, cols, true); }
  // A parameter: its gradient is added to.
  Variable parameter(std::string name, Index rows, Index cols) { return variable(std::move(name), rows, cols, false); }
  // Random numbers that are not differentiated.
  View<const T> constant(Index rows, Index cols) {
    const View<T> view = storage(rows, cols);
    draw(view, next_stream(), 0.0, 1.0, false);
    return view;
  }

  // Takes a layer or a model in. All of its parameters are drawn anew, about as large as they are in a trained model; those that train are
  // variables, but for derived ones, which the module computes from others.
  template <class Module>
  Module& own(Module given) {
    const auto owner = std::make_shared<Module>(std::move(given));
    owner->visit([&](Parameter<X>& p) {
      const bool is_scale = p.role() == Role::norm_scale;
      const bool is_matrix = p.shape().size() == 2 && p.role() != Role::embedding;
      const double spread = is_matrix ? 1.0 / std::sqrt(static_cast<double>(p.shape()[1])) : 0.3;
      const std::uint64_t stream = next_stream();
      const std::vector<double> direction = draw(p.value(), stream, is_scale ? 1.0 : 0.0, spread, p.updated());
      if (plan_.backward) p.allocate_gradient(*ctx_);
      if (!p.updated()) return;
      View<T> gradient;
      std::vector<double> start;
      if (plan_.backward) {
        gradient = p.gradient();
        start = draw_start(gradient, stream);
      }
      varied_.push_back({p.path(), direction, start, gradient});
    });
    kept_.push_back(owner);
    return *owner;
  }

  // A result; its gradient is a random weight of every entry.
  Variable output(std::string name, Index rows, Index cols) {
    std::vector<double> weight = random_numbers(derive(plan_.seed, next_stream()), rows * cols);
    return output(std::move(name), rows, cols, std::move(weight));
  }
  // A result that is a single number, with gradient 1.
  Variable loss(std::string name) { return output(std::move(name), 1, 1, {1.0}); }

  // Host numbers, where the backend reads them.
  template <class E>
  const E* array(const std::vector<E>& host) {
    const auto owner = std::make_shared<Tensor<E, B>>(*ctx_, Shape{static_cast<Index>(host.size())});
    B::copy_in(*ctx_, host.data(), owner->view().data, owner->bytes());
    kept_.push_back(owner);
    return owner->view().data;
  }
  Sequences sequences(const std::vector<Index>& lengths) {
    std::vector<Index> offsets{0};
    std::vector<std::int32_t> row_sequence;
    for (const Index length : lengths) {
      row_sequence.resize(row_sequence.size() + static_cast<std::size_t>(length), static_cast<std::int32_t>(offsets.size() - 1));
      offsets.push_back(offsets.back() + length);
    }
    return {array(offsets), array(row_sequence), static_cast<Index>(lengths.size()), offsets.back(), *std::max_element(lengths.begin(), lengths.end())};
  }

  // ---- for the checks, after the body has run ----
  const std::vector<Varied>& varied() const { return varied_; }
  const std::vector<Output>& outputs() const { return outputs_; }
  // What backward added to the gradient of a variable, or wrote there.
  std::vector<double> gradient(const Varied& variable) {
    const std::vector<T> host = download(variable.gradient);
    std::vector<double> added;
    for (std::size_t i = 0; i < host.size(); ++i) added.push_back(static_cast<double>(value_of(host[i])) - (variable.start.empty() ? 0.0 : variable.start[i]));
    return added;
  }
  std::vector<T> values(const Output& output) { return download(output.value); }

 private:
  std::uint64_t next_stream() { return next_stream_++; }

  // Numbers that float holds exactly, so that all tensor types start alike.
  static std::vector<double> random_numbers(RandomKey key, Index count, double offset = 0.0, double spread = 1.0) {
    std::vector<double> numbers;
    for (Index i = 0; i < count; ++i) numbers.push_back(static_cast<float>(offset + spread * normal(key, static_cast<std::uint64_t>(i))));
    return numbers;
  }

  static T not_a_number() {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    if constexpr (std::is_arithmetic_v<T>) {
      return static_cast<T>(kNan);
    } else {
      return T(kNan, kNan);
    }
  }

  View<T> storage(Index rows, Index cols) {
    tensors_.emplace_back(*ctx_, Shape{rows, cols});
    return tensors_.back().view();
  }
  void upload(const std::vector<T>& host, View<T> to) { B::copy_in(*ctx_, host.data(), to.data, to.size() * static_cast<Index>(sizeof(T))); }
  std::vector<T> download(View<T> from) {
    std::vector<T> host(static_cast<std::size_t>(from.size()));
    B::copy_out(*ctx_, from.data, host.data(), from.size() * static_cast<Index>(sizeof(T)));
    B::synchronize(*ctx_);
    return host;
  }

  // Random values, shifted or with tangents as planned. Returns the direction that a variable is varied in.
  std::vector<double> draw(View<T> to, std::uint64_t stream, double offset, double spread, bool varies) {
    const std::vector<double> values = random_numbers(derive(plan_.seed, stream), to.size(), offset, spread);
    std::vector<double> direction(values.size(), 0.0);
    if (varies) direction = random_numbers(derive(plan_.seed, stream, 1), to.size(), 0.0, spread);
    std::vector<T> host;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_arithmetic_v<T>) {
        host.push_back(static_cast<T>(values[i] + plan_.shift * direction[i]));
      } else {
        host.push_back(T(values[i], static_cast<Index>(varied_.size()) == plan_.tangent_of ? direction[i] : 0.0));
      }
    }
    upload(host, to);
    return direction;
  }
  std::vector<double> draw_start(View<T> gradient, std::uint64_t stream) {
    const std::vector<double> start = random_numbers(derive(plan_.seed, stream, 2), gradient.size());
    upload(std::vector<T>(start.begin(), start.end()), gradient);
    return start;
  }

  Variable variable(std::string name, Index rows, Index cols, bool overwritten) {
    const std::uint64_t stream = next_stream();
    Variable v{storage(rows, cols), {}};
    const std::vector<double> direction = draw(v.value, stream, 0.0, 1.0, true);
    std::vector<double> start;
    if (plan_.backward) {
      v.gradient = storage(rows, cols);
      if (overwritten) {
        B::fill(*ctx_, v.gradient, not_a_number());
      } else {
        start = draw_start(v.gradient, stream);
      }
    }
    varied_.push_back({std::move(name), direction, start, v.gradient});
    return v;
  }
  Variable output(std::string name, Index rows, Index cols, std::vector<double> weight) {
    Variable v{storage(rows, cols), {}};
    B::fill(*ctx_, v.value, not_a_number());
    if (plan_.backward) {
      v.gradient = storage(rows, cols);
      upload(std::vector<T>(weight.begin(), weight.end()), v.gradient);
    }
    outputs_.push_back({std::move(name), std::move(weight), v.value});
    return v;
  }

  Context* ctx_;
  TrialPlan plan_;
  workspace_of<X> saved_;
  workspace_of<X> scratch_;
  Pass<X> pass_;
  std::uint64_t next_stream_ = 0;
  std::deque<X> tensors_;
  std::vector<std::shared_ptr<void>> kept_;  // and arrays: whatever must outlive the body
  std::vector<Varied> varied_;
  std::vector<Output> outputs_;
};

namespace detail {

inline double relative_error(double expected, double got, double scale) {
  const double error = std::abs(got - expected) / std::max({std::abs(expected), std::abs(got), scale});
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

// Σ over all outputs of weight · value, and · tangent.
template <class X>
double weighted_sum(Trial<X>& trial, bool of_tangents) {
  double sum = 0;
  for (const auto& output : trial.outputs()) {
    const auto values = trial.values(output);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_arithmetic_v<scalar_of<X>>) {
        sum += output.weight[i] * static_cast<double>(values[i]);
      } else {
        sum += output.weight[i] * (of_tangents ? values[i].tangent : values[i].value);
      }
    }
  }
  return sum;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

template <class X>
void require_something(const Trial<X>& trial) {
  if (trial.varied().empty() || trial.outputs().empty())
    throw Error("gradient check", "the body has no variable or no output", {.remedy = "call input(), parameter() or own(), and output() or loss()"});
}

}  // namespace detail

// Each finding: <w, J·v> expected and <Jᵀ·w, v> got, v in one variable. Throws Error when all of them are 0, which would check nothing.
// A derivative that is 0 by mathematics (the bias of BERT's keys) is held against a thousandth of the largest.
template <class Body>
Report adjoint_test(const Body& body, std::uint64_t seed = 1) {
  Reference::Context ctx;
  Trial<Tensor<double, Reference>> backward(ctx, {.seed = seed, .backward = true});
  body(backward);
  detail::require_something(backward);
  Report report;
  double largest = 0;
  bool all_zero = true;
  for (const auto& variable : backward.varied()) {
    Trial<Tensor<Dual<double>, Reference>> forward(ctx, {.seed = seed, .tangent_of = static_cast<Index>(report.findings.size())});
    body(forward);
    const double expected = detail::weighted_sum(forward, true);
    const double got = detail::dot(backward.gradient(variable), variable.direction);
    largest = std::max({largest, std::abs(expected), std::abs(got)});
    all_zero = all_zero && expected == 0 && got == 0;
    report.findings.push_back({variable.name, expected, got, 0});
  }
  if (all_zero) throw Error("gradient check", "all derivatives are 0: nothing was checked", {.remedy = "does the body compute what it should?"});
  for (Finding& finding : report.findings) finding.error = detail::relative_error(finding.expected, finding.got, 1e-3 * largest);
  return report;
}

// One finding: the derivative along a random direction, by central differences and by backward, relative to the gradient's length. Of float
// expect 1e-2 with this step; kinks (relu) within a step of a value cost more.
template <class X, class Body>
Report finite_difference_test(context_of<X>& ctx, const Body& body, double step = 2e-3, std::uint64_t seed = 1) {
  const auto shifted = [&](double shift) {
    Trial<X> trial(ctx, {.seed = seed, .shift = shift});
    body(trial);
    return detail::weighted_sum(trial, false);
  };
  Trial<X> backward(ctx, {.seed = seed, .backward = true});
  body(backward);
  detail::require_something(backward);
  const double expected = (shifted(step) - shifted(-step)) / (2 * step);
  double got = 0;
  double square = 0;  // of the length that the directional derivative has on average
  for (const auto& variable : backward.varied()) {
    const std::vector<double> gradient = backward.gradient(variable);
    got += detail::dot(gradient, variable.direction);
    for (std::size_t i = 0; i < gradient.size(); ++i) square += std::pow(gradient[i] * variable.direction[i], 2);
  }
  return {{{"all variables", expected, got, detail::relative_error(expected, got, std::sqrt(square))}}};
}

// A finding for every output and every gradient: the largest difference of an entry, relative to the largest entry. Gradients that are 0 by
// mathematics are held against a hundredth of the largest.
template <class X, class Body>
Report against_reference(context_of<X>& ctx, const Body& body, std::uint64_t seed = 1) {
  Reference::Context reference_ctx;
  Trial<Tensor<double, Reference>> reference(reference_ctx, {.seed = seed, .backward = true});
  body(reference);
  detail::require_something(reference);
  Trial<X> trial(ctx, {.seed = seed, .backward = true});
  body(trial);
  Report report;
  const auto compare = [&](const std::string& name, const std::vector<double>& expected, const auto& got, double least_scale) {
    double scale = least_scale;
    for (const double x : expected) scale = std::max(scale, std::abs(x));
    Finding worst{name, 0, 0, expected.size() == got.size() ? 0.0 : std::numeric_limits<double>::infinity()};
    for (std::size_t i = 0; i < std::min(expected.size(), got.size()); ++i) {
      const double error = std::abs(static_cast<double>(got[i]) - expected[i]) / (scale > 0 ? scale : 1.0);
      if (!(error <= worst.error))
        worst = {name, expected[i], static_cast<double>(got[i]), std::isfinite(error) ? error : std::numeric_limits<double>::infinity()};
    }
    report.findings.push_back(worst);
  };
  for (std::size_t i = 0; i < reference.outputs().size(); ++i)
    compare(reference.outputs()[i].name, reference.values(reference.outputs()[i]), trial.values(trial.outputs().at(i)), 0);
  double largest = 0;
  for (const auto& variable : reference.varied())
    for (const double x : reference.gradient(variable)) largest = std::max(largest, std::abs(x));
  for (std::size_t i = 0; i < reference.varied().size(); ++i)
    compare("gradient of " + reference.varied()[i].name, reference.gradient(reference.varied()[i]), trial.gradient(trial.varied().at(i)), 1e-2 * largest);
  return report;
}

}  // namespace deltatune::check
