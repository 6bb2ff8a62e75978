# What deltatune asks of the compiler and its flags. Read by its own build and by find_package(deltatune).
if((CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
   OR (CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14))
  message(FATAL_ERROR "deltatune is C++20: it needs g++ 12 or clang 14, or newer; this is ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
endif()

# The library is headers: it is as fast as the flags of the program. Set DELTATUNE_WARN_UNOPTIMISED to OFF where that is meant.
option(DELTATUNE_WARN_UNOPTIMISED "Warn where programs with deltatune are compiled without optimisation" ON)
if(DELTATUNE_WARN_UNOPTIMISED AND NOT CMAKE_CONFIGURATION_TYPES)
  string(TOUPPER "${CMAKE_BUILD_TYPE}" deltatune_build_type)
  if(NOT "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${deltatune_build_type}} " MATCHES "-O([1-3sz]|fast)? ")
    message(WARNING "deltatune: CMAKE_BUILD_TYPE is \"${CMAKE_BUILD_TYPE}\", which compiles without optimisation; training will be many times slower. "
      "Use -DCMAKE_BUILD_TYPE=Release (or -DDELTATUNE_WARN_UNOPTIMISED=OFF, if this is meant).")
  endif()
endif()
