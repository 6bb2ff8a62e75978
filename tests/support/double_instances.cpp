#define DELTATUNE_TEST_DOUBLE
#include "support/instances.hpp"
