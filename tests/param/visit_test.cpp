#include "deltatune/param/visit.hpp"

#include <string>
#include <vector>

#include "deltatune/backend/reference.hpp"
#include "deltatune/seam/selection.hpp"
#include "support/error_text.hpp"

using namespace deltatune;
using X = Tensor<float, Reference>;

namespace {

// Three parameters and nothing else.
class Toy {
 public:
  explicit Toy(Reference::Context& ctx) {
    for (const char* path : {"encoder.layer.0.dense.weight", "encoder.layer.0.dense.bias", "classifier.weight"}) {
      values_.emplace_back(ctx, Shape{2, 3});
      parameters_.emplace_back(path, Role::weight, Shape{2, 3}, values_.back().view());
    }
  }
  template <class F>
  void visit(const F& f) {
    for (Parameter<X>& parameter : parameters_) f(parameter);
  }
  std::vector<bool> training() {
    std::vector<bool> result;
    visit([&](const Parameter<X>& parameter) { result.push_back(parameter.trains()); });
    return result;
  }

 private:
  std::vector<X> values_;
  std::vector<Parameter<X>> parameters_;
};

using Flags = std::vector<bool>;

}  // namespace

TEST_CASE("freeze and unfreeze by globs", "[param]") {
  Reference::Context ctx;
  Toy toy(ctx);
  CHECK(toy.training() == Flags{false, false, false});
  CHECK_FALSE(trains(toy));
  unfreeze(toy, {"**"});
  CHECK(toy.training() == Flags{true, true, true});
  CHECK(trainable_count(toy) == 18);
  freeze(toy, {"**.weight"});
  CHECK(toy.training() == Flags{false, true, false});
  CHECK(trains(toy));
  unfreeze(toy, {"classifier.**"});
  CHECK(toy.training() == Flags{false, true, true});
  CHECK(trainable_count(toy) == 12);
  CHECK(parameter_count(toy) == 18);
  set_mask(toy, {"classifier.*"}, FreezeMask::rows({1}));
  CHECK(trainable_count(toy) == 9);
}

TEST_CASE("a glob that matches nothing is an error, and names itself", "[param]") {
  Reference::Context ctx;
  Toy toy(ctx);
  const std::string text = test::error_text([&] { unfreeze(toy, {"**.bias", "encoder.layer.1.**"}); });
  CHECK(text.find("encoder.layer.1.**") != std::string::npos);
  CHECK(text.find("matches no parameter") != std::string::npos);
  test::error_text([&] { freeze(toy, {"weight"}); });  // the whole path, not a part of it
}

TEST_CASE("a selection freezes what it does not name", "[param]") {
  Reference::Context ctx;
  Toy toy(ctx);
  unfreeze(toy, {"**"});
  apply(toy, Selection{.name = "head", .trainable = {"classifier.**"}});
  CHECK(toy.training() == Flags{false, false, true});
  test::error_text([&] { apply(toy, Selection{.name = "none", .trainable = {"nothing"}}); });
}

TEST_CASE("gradients: allocated for what trains, zeroed for the next step", "[param]") {
  Reference::Context ctx;
  Toy toy(ctx);
  unfreeze(toy, {"**.bias"});
  ctx.reset_counters();
  allocate_gradients(toy, ctx);
  CHECK(ctx.allocations() == 1);
  toy.visit([&](Parameter<X>& parameter) {
    if (parameter.has_gradient()) parameter.gradient()(1, 2) = 4.0F;
  });
  zero_gradients(toy, ctx);
  toy.visit([&](Parameter<X>& parameter) {
    if (parameter.has_gradient()) CHECK(parameter.gradient()(1, 2) == 0.0F);
  });
}
