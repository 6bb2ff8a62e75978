// In double on Reference.
#include "contract/methods.hpp"
#include "support/instances.hpp"

using namespace deltatune;

TEST_CASE("every method keeps its promises in double", "[contract]") {
  test::check_all_contracts<Tensor<double, Reference>>("bert");
  test::check_all_contracts<Tensor<double, Reference>>("gpt2");
}
