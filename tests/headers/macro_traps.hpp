// Names that headers of systems and other libraries define as macros. Whoever uses one as an identifier does not compile behind this.
// The headers of others come first: what they do with these names is not ours to mend.
#pragma once

#include <omp.h>
#include <utf8proc.h>

#include <nlohmann/json.hpp>
#if defined(DELTATUNE_HAS_ONEDNN)
#include <dnnl.hpp>
#endif

#define DELTATUNE_TRAP )a name that is a macro elsewhere(

// <complex.h>, <sys/sysmacros.h>, <termios.h>, <sys/param.h>
#undef I
#undef major
#undef minor
#undef B0
#define I DELTATUNE_TRAP
#define major DELTATUNE_TRAP
#define minor DELTATUNE_TRAP
#define B0 DELTATUNE_TRAP
#define PAGE_SIZE DELTATUNE_TRAP
// <windows.h>
#define small DELTATUNE_TRAP
#define near DELTATUNE_TRAP
#define far DELTATUNE_TRAP
#define interface DELTATUNE_TRAP
#define IN DELTATUNE_TRAP
#define OUT DELTATUNE_TRAP
#define ERROR DELTATUNE_TRAP
#define CONST DELTATUNE_TRAP
#define TRUE DELTATUNE_TRAP
#define FALSE DELTATUNE_TRAP
// Logging, test and math headers
#define DEBUG DELTATUNE_TRAP
#define INFO DELTATUNE_TRAP
#define CHECK DELTATUNE_TRAP
#define REQUIRE DELTATUNE_TRAP
#define PI DELTATUNE_TRAP
#define EPS DELTATUNE_TRAP
// X.h, and what compilers define outside the strict modes
#define None DELTATUNE_TRAP
#define Bool DELTATUNE_TRAP
#define Status DELTATUNE_TRAP
#undef linux
#undef unix
#define linux DELTATUNE_TRAP
#define unix DELTATUNE_TRAP
