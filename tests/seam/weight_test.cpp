// The slot of a site, with toy deltas.
#include "deltatune/seam/weight.hpp"

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "deltatune/backend/reference.hpp"
#include "deltatune/nn/linear.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

// y becomes y ∘ (1 + s) + t·x, with s (1, C) trained and x (N, C): does not commute with another one, reads x and keeps y.
template <class X>
class ToyDelta {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    View<T> y;
  };

  ToyDelta(context_of<X>& ctx, const std::string& path, Index width, double t, std::vector<std::string>* log = nullptr)
      : value_(ctx, {width}), scale_(path, Role::delta, {width}, value_.view()), t_(t), log_(log) {
    scale_.set_mask(FreezeMask::trainable());
  }

  template <class F>
  void visit(const F& f) {
    f(scale_);
  }
  bool needs_input() const { return false; }

  void forward(Pass<X>& pass, View<const T> x, View<T> y_io, Saved& saved) const {
    if (log_ != nullptr) log_->push_back("forward " + scale_.path());
    saved.y = pass.keep(y_io.rows, y_io.cols);
    ops::copy<B, T>(pass.ctx, y_io, saved.y);
    for (Index i = 0; i < y_io.rows; ++i)
      for (Index j = 0; j < y_io.cols; ++j) y_io(i, j) = y_io(i, j) * (T(1) + scale_.value()(0, j)) + T(t_) * x(i, j);
  }
  void backward(Pass<X>& pass, const Saved& saved, View<const T>, View<T> dy_io, GradientSink<T>& dx) {
    if (log_ != nullptr) log_->push_back("backward " + scale_.path());
    if (dx.wanted()) {
      if (dx.next_beta() == T(0)) B::fill(pass.ctx, dx.view(), T(0));
      ops::axpy<B, T>(pass.ctx, T(t_), dy_io, dx.view());
    }
    for (Index i = 0; i < dy_io.rows; ++i)
      for (Index j = 0; j < dy_io.cols; ++j) {
        if (scale_.trains()) scale_.gradient()(0, j) = scale_.gradient()(0, j) + dy_io(i, j) * saved.y(i, j);
        dy_io(i, j) = dy_io(i, j) * (T(1) + scale_.value()(0, j));
      }
  }

 private:
  X value_;
  Parameter<X> scale_;
  double t_;
  std::vector<std::string>* log_;
};

using X = Tensor<float, Reference>;
static_assert(WeightDelta<ToyDelta<X>, X>);

template <class X2>
struct TooLarge : ToyDelta<X2> {
  struct Saved {
    std::byte bytes[kDeltaSavedBytes + 1];
  };
};
template <class X2>
struct NotTrivial : ToyDelta<X2> {
  using Saved = std::vector<float>;
};
static_assert(!WeightDelta<TooLarge<X>, X>);
static_assert(!WeightDelta<NotTrivial<X>, X>);
static_assert(!WeightDelta<int, X>);

// A Linear with two deltas at one site and one at another, one of them at rest.
auto linear_with_deltas(bool base_trains) {
  return [=]<class Y>(check::Trial<Y>& trial) {
    using T = scalar_of<Y>;
    Linear<Y> layer(trial.ctx(), 6, {{"first", 6}, {"second", 6}});
    if (base_trains) unfreeze(layer, {"**"});
    layer.visit_sites([&](LinearSite<Y>& site) {
      site.deltas.add("one", ToyDelta<Y>(trial.ctx(), site.path + ".one", 6, 0.5));
      if (site.path == "second") return;
      site.deltas.add("rests", ToyDelta<Y>(trial.ctx(), site.path + ".rests", 6, 9.0));
      site.deltas.add("two", ToyDelta<Y>(trial.ctx(), site.path + ".two", 6, -0.25));
      site.deltas.set_enabled("rests", false);
    });
    freeze(layer, {"**.rests"});
    Linear<Y>& linear = trial.own(std::move(layer));
    const auto x = trial.input("x", 4, 6);
    const auto straight = trial.output("x again", 4, 6);
    const auto y = trial.output("y", 4, 12);
    typename Linear<Y>::Saved saved;
    ops::copy<backend_of<Y>, T>(trial.ctx(), x.value, straight.value);
    linear.forward(trial.pass(), x.value, y.value, saved);
    if (!trial.backward_wanted()) return;
    ops::copy<backend_of<Y>, T>(trial.ctx(), straight.gradient, x.gradient);
    linear.backward(trial.pass(), saved, linear.needs_input() ? x.value : View<T>(), y.gradient, GradientSink<T>::accumulating(x.gradient));
  };
}

}  // namespace

TEST_CASE("weight slot: several deltas at several sites have the right gradients", "[seam][weight]") {
  test::check_adjoint(linear_with_deltas(false));
  test::check_adjoint(linear_with_deltas(true));
}

TEST_CASE("weight slot: order, names, rest and removal", "[seam][weight]") {
  Reference::Context ctx;
  Workspace<Reference> saved_arena(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved_arena, scratch, Mode::differentiate};
  std::vector<std::string> log;
  WeightSlot<X> slot;
  CHECK(slot.empty());
  slot.add("a", ToyDelta<X>(ctx, "A", 1, 1.0, &log));
  ToyDelta<X>& b = slot.add("b", ToyDelta<X>(ctx, "B", 1, 10.0, &log));
  slot.add("c", ToyDelta<X>(ctx, "C", 1, 100.0, &log));
  CHECK_FALSE(slot.empty());
  CHECK_FALSE(slot.needs_input());
  b.visit([](Parameter<X>& p) { p.value()(0, 0) = 2.0F; });

  const float x = 1;
  float y = 1;
  WeightSlot<X>::Saved saved;
  slot.forward(pass, {&x, 1, 1}, {}, {&y, 1, 1}, saved);
  CHECK(y == ((1.0F + 1.0F) * 3.0F + 10.0F) + 100.0F);
  float dy = 1;
  allocate_gradients(b, ctx);
  slot.visit([&](Parameter<X>& p) { p.allocate_gradient(ctx); });
  GradientSink<float> none = GradientSink<float>::none();
  slot.backward(pass, saved, {}, {&dy, 1, 1}, {}, none);
  CHECK(dy == 3.0F);  // what they leave for the product below
  CHECK(log == std::vector<std::string>{"forward A", "forward B", "forward C", "backward C", "backward B", "backward A"});

  const std::string twice = test::error_text([&] { slot.add("b", ToyDelta<X>(ctx, "B", 1, 0.0)); });
  CHECK(twice.find("b: is already attached here") == 0);

  log.clear();
  slot.set_enabled("b", false);
  y = 1;
  slot.forward(pass, {&x, 1, 1}, {}, {&y, 1, 1}, saved);
  slot.backward(pass, saved, {}, {&dy, 1, 1}, {}, none);
  CHECK(y == 102.0F);
  CHECK(log == std::vector<std::string>{"forward A", "forward C", "backward C", "backward A"});
  slot.set_enabled("b", true);

  slot.remove("a");
  std::vector<std::string> paths;
  slot.visit([&](Parameter<X>& p) { paths.push_back(p.path()); });
  CHECK(paths == std::vector<std::string>{"B", "C"});
  b.visit([](Parameter<X>& p) { CHECK(p.path() == "B"); });  // the reference outlives its neighbours
  slot.remove("b");
  slot.remove("c");
  CHECK(slot.empty());
}

TEST_CASE("weight slot: a delta may change places with its layer", "[seam][weight]") {
  Reference::Context ctx;
  Linear<X> layer(ctx, 2, {{"site", 2}});
  layer.visit_sites([&](LinearSite<X>& site) { site.deltas.add("a", ToyDelta<X>(ctx, "A", 2, 1.0)); });
  LinearSite<X>* before = nullptr;
  layer.visit_sites([&](LinearSite<X>& site) { before = &site; });
  Linear<X> moved = std::move(layer);
  moved.visit_sites([&](LinearSite<X>& site) { CHECK(&site == before); });
  CHECK(parameter_count(moved) == 4 + 2 + 2);
}
