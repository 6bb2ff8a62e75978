// The message of the Error that an expression throws; the test fails when it throws none or something else.
#pragma once

#include <catch2/catch.hpp>
#include <string>

#include "deltatune/core/error.hpp"

namespace deltatune::test {

template <class Function>
std::string error_text(Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  FAIL("no Error was thrown");
  return {};
}

}  // namespace deltatune::test
