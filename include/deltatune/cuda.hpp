// Everything for CUDA files: device-neutral headers, the Reference and Cuda backends; no CPU backend.
#pragma once

#include "deltatune/backend/cuda.hpp"
#include "deltatune/device_neutral.hpp"
