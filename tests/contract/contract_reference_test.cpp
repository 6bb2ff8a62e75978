// In double on Reference.
#include "contract/methods.hpp"
#include "support/instances.hpp"

using namespace deltatune;

TEST_CASE("every method keeps its promises in double", "[contract]") {
  test::check_all_contracts<Bert<Tensor<double, Reference>>>();
  test::check_all_contracts<Gpt2<Tensor<double, Reference>>>();
}
