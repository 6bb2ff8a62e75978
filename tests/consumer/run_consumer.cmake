# Configures, builds and runs tests/consumer/project, or examples/consumer_project (own_method).
#   cmake -DMODE=own_method|find_package|add_subdirectory|shared -DSOURCE= -DBUILD= -DWORK= -DGENERATOR= -DCOMPILER= -DLAUNCHER= -DONEDNN=
#         -P run_consumer.cmake
cmake_minimum_required(VERSION 3.20)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\nended with ${result}:\n${output}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK})
set(project ${CMAKE_CURRENT_LIST_DIR}/project)
set(program consumer)
if(MODE STREQUAL "own_method")
  set(project ${SOURCE}/examples/consumer_project)
  set(program moslora)
endif()
if(MODE MATCHES "find_package|own_method")
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
  set(options -DCMAKE_PREFIX_PATH=${WORK}/prefix)
else()
  set(options -DDELTATUNE_SOURCE=${SOURCE} -DDELTATUNE_WITH_ONEDNN=${ONEDNN})
endif()
if(MODE STREQUAL "shared")
  list(APPEND options -DCONSUMER_SHARED=ON)
endif()

run(${CMAKE_COMMAND} -G ${GENERATOR} -S ${project} -B ${WORK}/build
    -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER} -DCMAKE_BUILD_TYPE=Release ${options})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/${program})
