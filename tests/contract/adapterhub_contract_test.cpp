// On the device of this program.
#include "contract/adapterhub_methods.hpp"
#include "support/device.hpp"
#include "support/instances.hpp"

using namespace deltatune;

TEST_CASE("AdapterHub's methods keep their promises on BERT", "[contract]") { test::check_adapterhub_contracts<test::DeviceTensor>("bert"); }
TEST_CASE("AdapterHub's methods keep their promises on GPT-2", "[contract]") { test::check_adapterhub_contracts<test::DeviceTensor>("gpt2"); }
TEST_CASE("AdapterHub's methods keep their promises on T5", "[contract]") { test::check_adapterhub_contracts<test::DeviceTensor>("t5"); }
