// A function as an argument, without its type: what a virtual function takes where a template cannot be. Owns nothing, so it must not outlive the
// call it is passed to; unlike std::function it neither allocates nor makes the compiler write a manager for each lambda.
#pragma once

#include <memory>
#include <type_traits>

namespace deltatune {

template <class Signature>
class FunctionRef;

template <class R, class... Arguments>
class FunctionRef<R(Arguments...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef> && std::is_invocable_r_v<R, F&, Arguments...>) FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))), call_([](void* object, Arguments... arguments) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(static_cast<Arguments>(arguments)...);
        }) {}

  R operator()(Arguments... arguments) const { return call_(object_, static_cast<Arguments>(arguments)...); }

 private:
  void* object_;
  R (*call_)(void*, Arguments...);
};

}  // namespace deltatune
