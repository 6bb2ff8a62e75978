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
struct ErasedParameterDelta {
  using T = scalar_of<X>;

  virtual ~ErasedParameterDelta() = default;
  virtual void visit(const ParameterVisitor<X>& f) = 0;
  virtual void forward(Pass<X>& pass) = 0;
  virtual void backward(Pass<X>& pass) = 0;
  virtual void penalty(Pass<X>& pass, View<T> loss_io) = 0;
  virtual void after_step(context_of<X>& ctx, const UpdateInfo& info) = 0;
  virtual Index position_shift() const = 0;
  virtual void evaluate(context_of<X>& ctx) = 0;
  virtual void rest() = 0;
  virtual void visit_replaced(const ParameterVisitor<X>& f) = 0;
  virtual bool can_merge() const = 0;
  virtual void merge(context_of<X>& ctx) = 0;
};

template <class X, ParameterDelta<X> D>
struct ParameterDeltaHolder final : ErasedParameterDelta<X> {
  using T = scalar_of<X>;

  explicit ParameterDeltaHolder(D d) : delta(std::move(d)) {}
  void visit(const ParameterVisitor<X>& f) override { delta.visit(f); }
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
  void merge([[maybe_unused]] context_of<X>& ctx) override {
    if constexpr (requires { delta.merge(ctx); }) delta.merge(ctx);
  }

  D delta;
};

}  // namespace detail

template <class X>
class ParameterSlot : public Slot<X, detail::ErasedParameterDelta<X>> {
 public:
  using T = scalar_of<X>;

  template <ParameterDelta<X> D>
  D& add(std::string name, D delta) {
    return this->template insert<detail::ParameterDeltaHolder<X, D>>(std::move(name), std::move(delta));
  }

  void remove(const std::string& name) override {
    auto& entry = this->at(name);
    if (entry.enabled) entry.delta->rest();
    std::erase_if(this->entries_, [&](const auto& other) { return other.name == name; });
  }
  void set_enabled(const std::string& name, bool enabled) override {
    auto& entry = this->at(name);
    if (entry.enabled && !enabled) entry.delta->rest();
    entry.enabled = enabled;
  }
  void visit_replaced(const std::string& name, const ParameterVisitor<X>& f) { this->at(name).delta->visit_replaced(f); }
  bool can_merge(const std::string& name) override { return this->at(name).delta->can_merge(); }
  // The delta takes no part from now on, but what it computed stays.
  void keep_computed(const std::string& name, context_of<X>& ctx) {
    auto& entry = this->at(name);
    entry.delta->merge(ctx);
    entry.enabled = false;
  }
  void drop_computed(const std::string& name) { this->at(name).delta->rest(); }
  void evaluate(const std::string& name, context_of<X>& ctx) { this->at(name).delta->evaluate(ctx); }

  Index position_shift() const {
    Index shift = 0;
    for (const auto& entry : this->entries_)
      if (entry.enabled) shift += entry.delta->position_shift();
    return shift;
  }
  void forward(Pass<X>& pass) {
    visit_enabled([&](auto& delta) { delta.forward(pass); });
  }
  void backward(Pass<X>& pass) {
    for (std::size_t i = this->entries_.size(); i-- > 0;)
      if (this->entries_[i].enabled) this->entries_[i].delta->backward(pass);
  }
  void penalty(Pass<X>& pass, View<T> loss_io) {
    visit_enabled([&](auto& delta) { delta.penalty(pass, loss_io); });
  }
  void after_step(context_of<X>& ctx, const UpdateInfo& info) {
    visit_enabled([&](auto& delta) { delta.after_step(ctx, info); });
  }

 private:
  template <class F>
  void visit_enabled(const F& f) {
    for (auto& entry : this->entries_)
      if (entry.enabled) f(*entry.delta);
  }
};

}  // namespace deltatune
