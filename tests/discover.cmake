# Each Catch2 test case as a test of ctest, which its failure names.
include(Catch)

# deltatune_discover(TARGET [RUN name] [SPEC catch_test_spec] [ENVIRONMENT NAME=VALUE...] [TIMEOUT seconds] [COST number])
#   RUN          for a program whose tests run several times: stands in front of their names
#   SPEC         the tests to run, [tags] for example; all without it
#   COST         tests of a greater cost are started first
function(deltatune_discover target)
  cmake_parse_arguments(arg "" "RUN;TIMEOUT;COST" "SPEC;ENVIRONMENT" ${ARGN})
  get_target_property(sources ${target} SOURCES)
  foreach(source ${sources})
    file(STRINGS ${source} cut REGEX "TEST_CASE[A-Z_]*\\(\"[^\"]*;")
    if(cut)
      message(FATAL_ERROR "${source}: ctest takes the semicolon in this test's name for the end of the name: ${cut}")
    endif()
    file(STRINGS ${source} option REGEX "TEST_CASE[A-Z_]*\\(\"-")
    if(option)
      message(FATAL_ERROR "${source}: Catch2 takes this test's name for an option: ${option}")
    endif()
  endforeach()
  set(list ${target}_${arg_RUN}_TESTS)
  set(prefix)
  set(arguments --warn NoTests)  # a name that matches nothing is no success
  if(arg_RUN)
    set(prefix ${arg_RUN}/)
    list(APPEND arguments --name ${arg_RUN})  # catch_discover_tests tells its calls apart by the arguments
  endif()
  catch_discover_tests(${target} TEST_SPEC ${arg_SPEC} EXTRA_ARGS ${arguments} TEST_PREFIX "${prefix}" TEST_LIST ${list})

  # Properties with lists in them do not pass through catch_discover_tests.
  set(environment DELTATUNE_TEST_ALL=${DELTATUNE_TEST_ALL} ${arg_ENVIRONMENT})
  set(properties "ENVIRONMENT \"${environment}\"")
  foreach(property TIMEOUT COST)
    if(arg_${property})
      string(APPEND properties " ${property} ${arg_${property}}")
    endif()
  endforeach()
  set(script ${CMAKE_CURRENT_BINARY_DIR}/${list}_properties.cmake)
  file(WRITE ${script} "if(${list})\n  set_tests_properties(\${${list}} PROPERTIES ${properties})\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${script})
endfunction()
