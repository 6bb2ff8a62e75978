#define DELTATUNE_TEST_MODELS
#include "support/instances.hpp"
