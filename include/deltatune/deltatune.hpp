// Everything for C++: device-neutral headers, the Reference and Cpu backends.
#pragma once

#include "deltatune/backend/cpu.hpp"
#include "deltatune/device_neutral.hpp"
