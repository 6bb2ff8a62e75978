// peers/deltatune_step.cpp on CUDA: see there.
#define DELTATUNE_STEP_CUDA
#include "../peers/deltatune_step.cpp"
