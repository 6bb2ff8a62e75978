// The library's own gradient checks as Catch assertions, with the tolerances that all tests share.
#pragma once

#include <catch2/catch.hpp>
#include <limits>

#include "deltatune/check/gradcheck.hpp"
#include "support/device.hpp"

namespace deltatune::test {

inline constexpr double kAdjointTolerance = 1e-10;
inline constexpr double kFloatTolerance = 1e-5;  // of the largest entry
inline constexpr double kDifferenceTolerance = 1e-2;

// The message names every gradient: expected (dual numbers) and got (backward). On Reference: the program of the CPU tests does it for all.
template <class Body>
void check_adjoint([[maybe_unused]] const Body& body) {
#ifndef DELTATUNE_TEST_CUDA
  const check::Report report = check::adjoint_test(body);
  INFO(report.text());
  CHECK(report.worst() <= kAdjointTolerance);
#endif
}

// float on the device, on the CPU with one thread and with two, against double on Reference.
template <class X = DeviceTensor, class Body>
void check_device(const Body& body, double tolerance = kFloatTolerance) {
#ifdef DELTATUNE_TEST_CUDA
  const std::vector<int> thread_counts{1};
#else
  const std::vector<int> thread_counts{1, 2};
#endif
  for (const int threads : thread_counts) {
#ifdef DELTATUNE_TEST_CUDA
    context_of<X> ctx;
#else
    context_of<X> ctx(threads);
#endif
    const check::Report report = check::against_reference<X>(ctx, body);
    INFO(threads << " threads\n" << report.text());
    CHECK(report.worst() <= tolerance);
  }
}

template <class X = DeviceTensor, class Body>
void check_differences(const Body& body, double tolerance = kDifferenceTolerance) {
  context_of<X> ctx;
  const check::Report report = check::finite_difference_test<X>(ctx, body);
  INFO(report.text());
  CHECK(report.worst() <= tolerance);
}

}  // namespace deltatune::test
