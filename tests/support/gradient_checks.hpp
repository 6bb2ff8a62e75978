// The library's own gradient checks as Catch assertions, with the tolerances that all tests share.
#pragma once

#include <catch2/catch.hpp>
#include <limits>

#include "deltatune/backend/cpu.hpp"
#include "deltatune/check/gradcheck.hpp"

namespace deltatune::test {

using CpuTensor = Tensor<float, DefaultCpu>;

inline constexpr double kAdjointTolerance = 1e-10;
inline constexpr double kFloatTolerance = 1e-5;  // of the largest entry
inline constexpr double kDifferenceTolerance = 1e-2;

// The message names every gradient: expected (dual numbers) and got (backward).
template <class Body>
void check_adjoint(const Body& body) {
  const check::Report report = check::adjoint_test(body);
  INFO(report.text());
  CHECK(report.worst() <= kAdjointTolerance);
}

// float on the CPU, with one thread and with two, against double on Reference.
template <class X = CpuTensor, class Body>
void check_cpu(const Body& body, double tolerance = kFloatTolerance) {
  for (const int threads : {1, 2}) {
    context_of<X> ctx(threads);
    const check::Report report = check::against_reference<X>(ctx, body);
    INFO(threads << " threads\n" << report.text());
    CHECK(report.worst() <= tolerance);
  }
}

template <class X = CpuTensor, class Body>
void check_differences(const Body& body, double tolerance = kDifferenceTolerance) {
  context_of<X> ctx(2);
  const check::Report report = check::finite_difference_test<X>(ctx, body);
  INFO(report.text());
  CHECK(report.worst() <= tolerance);
}

}  // namespace deltatune::test
