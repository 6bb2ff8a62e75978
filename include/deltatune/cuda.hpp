// Everything for CUDA files: device-neutral headers, the Reference and Cuda backends; no Eigen, which nvcc does not compile in C++20.
#pragma once

#include "deltatune/backend/cuda.hpp"
#include "deltatune/device_neutral.hpp"
