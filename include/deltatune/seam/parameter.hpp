// The parameter seam: deltas that compute parameters from others, once a pass for the whole model, and take their gradients back. A model has a
// slot for them. Also the place for what the deltas of one method share: a projection, a budget, a penalty.
//
// A parameter that is computed is derived (Parameter::set_derived): layers read it and compute its gradient as of any other, but it isn't
// counted, saved or updated.
//
//   struct MyDelta {
//     template <class F> void visit(const F& f);   // f(Parameter<X>&) for each parameter that is its own, derived ones too if it owns them
//     // all optional:
//     void forward(Pass<X>&);                      // before the layers run: writes the derived values
//     void backward(Pass<X>&);                     // after they ran backward: takes the derived gradients back to its own, and zeroes them
//     void penalty(Pass<X>&, View<T> loss_io);     // loss_io (1) += a term of the loss; its gradient to the parameters; once an update
//     void after_step(Context&, const UpdateInfo&);  // after an update
//     Index position_shift() const;                // positions of the tokens begin there (PEFT's prefixes)
//     void evaluate(Context&);                     // brings derived parameters of its own that are saved up to date
//     void rest();                                 // switched off or taken out: derived parameters of the model get back their own values
//     template <class F> void visit_replaced(const F& f);  // f(Parameter<X>&) for each of the model's own parameters whose values it replaces
//     void merge(Context&);                        // writes the values of evaluation; they stay until rest(), for good where the delta is taken out
//   };
#pragma once

#include <string>
#include <utility>

#include "deltatune/seam/pass.hpp"
#include "deltatune/seam/slot.hpp"

namespace deltatune {

struct UpdateInfo {
  Index step = 0;             // updates done, this one included
  Index total = 0;            // of the run; 0 where it is not known
  double gradient_scale = 1;  // of clipping: what the update multiplied all gradients with
};

template <class D, class X>
concept ParameterDelta = requires(D delta) {
  delta.visit(detail::IgnoreParameter{});
};

namespace detail {

template <class X>
struct ErasedParameterDelta : ErasedDelta<X> {
  using T = scalar_of<X>;

  virtual void forward(Pass<X>& pass) = 0;
  virtual void backward(Pass<X>& pass) = 0;
  virtual void penalty(Pass<X>& pass, View<T> loss_io) = 0;
  virtual void after_step(context_of<X>& ctx, const UpdateInfo& info) = 0;
  virtual Index position_shift() const = 0;
  virtual void evaluate(context_of<X>& ctx) = 0;
  virtual void visit_replaced(const ParameterVisitor<X>& f) = 0;
  virtual void write_values(context_of<X>& ctx) = 0;
};

template <class X, ParameterDelta<X> D>
struct ParameterDeltaHolder final : DeltaHolder<X, D, ErasedParameterDelta<X>> {
  using T = scalar_of<X>;
  using DeltaHolder<X, D, ErasedParameterDelta<X>>::DeltaHolder, DeltaHolder<X, D, ErasedParameterDelta<X>>::delta;

  void forward([[maybe_unused]] Pass<X>& pass) override {
    if constexpr (requires { delta.forward(pass); }) delta.forward(pass);
  }
  void backward([[maybe_unused]] Pass<X>& pass) override {
    if constexpr (requires { delta.backward(pass); }) delta.backward(pass);
  }
  void penalty([[maybe_unused]] Pass<X>& pass, [[maybe_unused]] View<T> loss_io) override {
    if constexpr (requires { delta.penalty(pass, loss_io); }) delta.penalty(pass, loss_io);
  }
  void after_step([[maybe_unused]] context_of<X>& ctx, [[maybe_unused]] const UpdateInfo& info) override {
    if constexpr (requires { delta.after_step(ctx, info); }) delta.after_step(ctx, info);
  }
  Index position_shift() const override {
    if constexpr (requires(const D& d) { d.position_shift(); }) return delta.position_shift();
    return 0;
  }
  void evaluate([[maybe_unused]] context_of<X>& ctx) override {
    if constexpr (requires { delta.evaluate(ctx); }) delta.evaluate(ctx);
  }
  void rest() override {
    if constexpr (requires { delta.rest(); }) delta.rest();
  }
  void visit_replaced([[maybe_unused]] const ParameterVisitor<X>& f) override {
    if constexpr (requires { delta.visit_replaced(f); }) delta.visit_replaced(f);
  }
  bool can_merge() const override {
    return requires(D & d, context_of<X> & ctx) { d.merge(ctx); };
  }
  void write_values([[maybe_unused]] context_of<X>& ctx) override {
    if constexpr (requires { delta.merge(ctx); }) delta.merge(ctx);
  }
};

}  // namespace detail

template <class X>
class ParameterSlot : public SeamSlot<X, detail::ErasedParameterDelta<X>> {
 public:
  using typename SeamSlot<X, detail::ErasedParameterDelta<X>>::T;

  template <ParameterDelta<X> D>
  D& add(std::string name, D delta) {
    return this->template insert<detail::ParameterDeltaHolder<X, D>>(std::move(name), std::move(delta));
  }

  void visit_replaced(const std::string& name, const ParameterVisitor<X>& f) { named(name).visit_replaced(f); }
  // The delta takes no part from now on, but what it computed stays.
  void keep_computed(const std::string& name, context_of<X>& ctx) {
    named(name).write_values(ctx);
    this->at(name).enabled = false;
  }
  void drop_computed(const std::string& name) { named(name).rest(); }
  void evaluate(const std::string& name, context_of<X>& ctx) { named(name).evaluate(ctx); }

  Index position_shift() const {
    Index shift = 0;
    this->visit_enabled([&](std::size_t, const auto& delta) { shift += delta.position_shift(); });
    return shift;
  }
  void forward(Pass<X>& pass) {
    this->visit_enabled([&](std::size_t, auto& delta) { delta.forward(pass); });
  }
  void backward(Pass<X>& pass) {
    this->visit_reversed([&](std::size_t, auto& delta) { delta.backward(pass); });
  }
  void penalty(Pass<X>& pass, View<T> loss_io) {
    this->visit_enabled([&](std::size_t, auto& delta) { delta.penalty(pass, loss_io); });
  }
  void after_step(context_of<X>& ctx, const UpdateInfo& info) {
    this->visit_enabled([&](std::size_t, auto& delta) { delta.after_step(ctx, info); });
  }

 private:
  detail::ErasedParameterDelta<X>& named(const std::string& name) { return static_cast<detail::ErasedParameterDelta<X>&>(*this->at(name).delta); }
};

}  // namespace deltatune
