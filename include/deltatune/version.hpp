// The version of the library, for #if and for messages. CMakeLists.txt reads it from here.
#pragma once

#define DELTATUNE_VERSION_MAJOR 0
#define DELTATUNE_VERSION_MINOR 1
#define DELTATUNE_VERSION_PATCH 0
#define DELTATUNE_VERSION_STRING "0.1.0"
