# Configures, builds and runs tests/consumer/project, or examples/consumer_project (own_method).
#   cmake -DMODE=own_method|find_package|add_subdirectory|shared|find_package_compiled|add_subdirectory_compiled
#         -DSOURCE= -DBUILD= -DWORK= -DGENERATOR= -DCOMPILER= -DLAUNCHER= -DONEDNN= -P run_consumer.cmake
cmake_minimum_required(VERSION 3.20)

# What the command printed is in ${output}.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\nended with ${result}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK})
set(project ${CMAKE_CURRENT_LIST_DIR}/project)
set(program consumer)
set(optimised FALSE)  # whether it links and runs is all that is asked
if(MODE STREQUAL "own_method")
  set(project ${SOURCE}/examples/consumer_project)
  set(program moslora)
  set(optimised TRUE)
endif()
if(MODE MATCHES "find_package|own_method")
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
  set(options -DCMAKE_PREFIX_PATH=${WORK}/prefix)
  if(EXISTS ${BUILD}/deltatune)
    run(${WORK}/prefix/bin/deltatune --help)
  endif()
else()
  set(options -DDELTATUNE_SOURCE=${SOURCE} -DDELTATUNE_WITH_ONEDNN=${ONEDNN})
  if(NOT MODE MATCHES "compiled")
    list(APPEND options -DCMAKE_DISABLE_FIND_PACKAGE_Oniguruma=ON)  # the headers alone do without it
  endif()
endif()
if(MODE STREQUAL "shared")
  list(APPEND options -DCONSUMER_SHARED=ON)
endif()
if(MODE MATCHES "compiled")
  list(APPEND options -DCONSUMER_COMPILED=ON)
endif()
if(optimised)
  list(APPEND options -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1)
else()
  list(APPEND options -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0)
endif()

run(${CMAKE_COMMAND} -G ${GENERATOR} -S ${project} -B ${WORK}/build
    -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER} ${options})
# A build without optimisation is warned of, one with it is not.
string(REGEX REPLACE "[ \n]+" " " output "${output}")
string(FIND "${output}" "compiles without optimisation" warned)
if((optimised AND warned GREATER -1) OR (NOT optimised AND warned EQUAL -1))
  message(FATAL_ERROR "The warning of a build without optimisation: optimised ${optimised}, found at ${warned} in:\n${output}")
endif()
# Tests, examples and the program are for those who work on deltatune itself.
foreach(folder tests examples benchmarks)
  if(EXISTS ${WORK}/build/deltatune/${folder})
    message(FATAL_ERROR "add_subdirectory(deltatune) brings its ${folder}")
  endif()
endforeach()
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/${program})
