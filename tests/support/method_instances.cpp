#define DELTATUNE_TEST_METHODS
#include "support/instances.hpp"
