// On the device of this program.
#include "contract/methods.hpp"
#include "support/device.hpp"
#include "support/instances.hpp"

using namespace deltatune;

TEST_CASE("every method keeps its promises on BERT", "[contract]") { test::check_all_contracts<test::DeviceTensor>("bert"); }
TEST_CASE("every method keeps its promises on GPT-2", "[contract]") { test::check_all_contracts<test::DeviceTensor>("gpt2"); }
