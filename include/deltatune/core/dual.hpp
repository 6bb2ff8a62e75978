// Dual numbers: a value and its derivative along one direction, carried through the same bodies that compute the value (forward mode).
// The adjoint test runs every op on Dual<double> and holds its tangent against the op's own backward.
#pragma once

#include <compare>
#include <concepts>
#include <limits>
#include <type_traits>

#include "deltatune/core/config.hpp"
#include "deltatune/core/scalar.hpp"

namespace deltatune {

template <class T>
struct Dual {
  T value;
  T tangent;

  Dual() = default;
  DELTATUNE_INLINE constexpr Dual(T v, T t) : value(v), tangent(t) {}
  // A constant: tangent 0. Explicit, so that a number never becomes one unnoticed.
  template <class A>
  requires std::is_arithmetic_v<A> DELTATUNE_INLINE constexpr explicit Dual(A constant) : value(static_cast<T>(constant)), tangent(0) {}

  DELTATUNE_INLINE friend constexpr Dual operator+(Dual a) { return a; }
  DELTATUNE_INLINE friend constexpr Dual operator-(Dual a) { return {-a.value, -a.tangent}; }

  DELTATUNE_INLINE friend constexpr Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.tangent + b.tangent}; }
  DELTATUNE_INLINE friend constexpr Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.tangent - b.tangent}; }
  DELTATUNE_INLINE friend constexpr Dual operator*(Dual a, Dual b) { return {a.value * b.value, a.tangent * b.value + a.value * b.tangent}; }
  DELTATUNE_INLINE friend constexpr Dual operator/(Dual a, Dual b) {
    const T quotient = a.value / b.value;
    return {quotient, (a.tangent - quotient * b.tangent) / b.value};
  }

  DELTATUNE_INLINE friend constexpr Dual operator+(Dual a, T b) { return {a.value + b, a.tangent}; }
  DELTATUNE_INLINE friend constexpr Dual operator-(Dual a, T b) { return {a.value - b, a.tangent}; }
  DELTATUNE_INLINE friend constexpr Dual operator*(Dual a, T b) { return {a.value * b, a.tangent * b}; }
  DELTATUNE_INLINE friend constexpr Dual operator/(Dual a, T b) { return {a.value / b, a.tangent / b}; }
  DELTATUNE_INLINE friend constexpr Dual operator+(T a, Dual b) { return {a + b.value, b.tangent}; }
  DELTATUNE_INLINE friend constexpr Dual operator-(T a, Dual b) { return {a - b.value, -b.tangent}; }
  DELTATUNE_INLINE friend constexpr Dual operator*(T a, Dual b) { return {a * b.value, a * b.tangent}; }
  DELTATUNE_INLINE friend constexpr Dual operator/(T a, Dual b) { return Dual(a) / b; }

  template <class B>
  DELTATUNE_INLINE constexpr Dual& operator+=(B b) {
    return *this = *this + b;
  }
  template <class B>
  DELTATUNE_INLINE constexpr Dual& operator-=(B b) {
    return *this = *this - b;
  }
  template <class B>
  DELTATUNE_INLINE constexpr Dual& operator*=(B b) {
    return *this = *this * b;
  }
  template <class B>
  DELTATUNE_INLINE constexpr Dual& operator/=(B b) {
    return *this = *this / b;
  }

  // Comparisons read the value: a program takes the same branch with and without tangents.
  DELTATUNE_INLINE friend constexpr bool operator==(Dual a, Dual b) { return a.value == b.value; }
  DELTATUNE_INLINE friend constexpr bool operator==(Dual a, T b) { return a.value == b; }
  DELTATUNE_INLINE friend constexpr std::partial_ordering operator<=>(Dual a, Dual b) { return a.value <=> b.value; }
  DELTATUNE_INLINE friend constexpr std::partial_ordering operator<=>(Dual a, T b) { return a.value <=> b; }
};

template <class T>
DELTATUNE_INLINE T value_of(Dual<T> x) {
  return x.value;
}

template <class T>
DELTATUNE_INLINE Dual<T> exp(Dual<T> x) {
  using math::exp;
  const T y = exp(x.value);
  return {y, y * x.tangent};
}

template <class T>
DELTATUNE_INLINE Dual<T> log(Dual<T> x) {
  using math::log;
  return {log(x.value), x.tangent / x.value};
}

template <class T>
DELTATUNE_INLINE Dual<T> tanh(Dual<T> x) {
  using math::tanh;
  const T y = tanh(x.value);
  return {y, (T(1) - y * y) * x.tangent};
}

template <class T>
DELTATUNE_INLINE Dual<T> erf(Dual<T> x) {
  using math::erf;
  using math::exp;
  constexpr double kTwoOverSqrtPi = 1.1283791670955126;
  return {erf(x.value), static_cast<T>(kTwoOverSqrtPi) * exp(-x.value * x.value) * x.tangent};
}

template <class T>
DELTATUNE_INLINE Dual<T> sqrt(Dual<T> x) {
  using math::sqrt;
  const T y = sqrt(x.value);
  return {y, x.tangent / (T(2) * y)};
}

template <class T>
DELTATUNE_INLINE Dual<T> rsqrt(Dual<T> x) {
  using math::rsqrt;
  const T y = rsqrt(x.value);
  return {y, T(-0.5) * y / x.value * x.tangent};
}

template <class T>
DELTATUNE_INLINE Dual<T> abs(Dual<T> x) {
  return x.value < T(0) ? -x : x;
}

template <class T>
DELTATUNE_INLINE bool isfinite(Dual<T> x) {
  using math::isfinite;
  return isfinite(x.value) && isfinite(x.tangent);
}

}  // namespace deltatune

// What a reduction starts from.
template <class T>
struct std::numeric_limits<deltatune::Dual<T>> {
  static constexpr bool is_specialized = true;
  static constexpr deltatune::Dual<T> lowest() { return deltatune::Dual<T>(std::numeric_limits<T>::lowest()); }
  static constexpr deltatune::Dual<T> max() { return deltatune::Dual<T>(std::numeric_limits<T>::max()); }
  static constexpr deltatune::Dual<T> infinity() { return deltatune::Dual<T>(std::numeric_limits<T>::infinity()); }
};
