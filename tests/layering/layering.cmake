# Who may include whom. Reads the #include lines of every header and compares them with the tables below; nothing is compiled.
#   cmake -DHEADERS=include/deltatune -P layering.cmake            checks the library
#   cmake -DSELF_TEST=a_scratch_folder -P layering.cmake           checks that the check catches what it should
cmake_minimum_required(VERSION 3.20)

# Folder -> folders it may include, itself excepted. The root holds the umbrella headers.
set(foundation core tensor backend ops param seam)
set(may_core "")
set(may_tensor core)
set(may_backend core tensor)
set(may_ops core tensor backend)
set(may_param core tensor)
set(may_seam core tensor param ops)
set(may_nn ${foundation})
set(may_delta ${foundation})
set(may_io core tensor param)
set(may_text core io)
set(may_model ${foundation} nn io)
set(may_train ${foundation} nn io)
set(may_attach ${foundation} nn delta io)
set(may_check ${foundation} nn delta io model train text attach)
set(may_compiled core)
set(may_root ${may_check} check compiled)

# Headers of others: include pattern -> files (relative to the root of the headers) that may have it. What no row names must be a C++
# standard header, which has neither dot nor slash.
set(foreign_rows
  "^omp\\.h$ @ ^backend/cpu/"
  "^(oneapi/)?dnnl @ ^backend/cpu/gemm_onednn\\.hpp$"
  "^nlohmann/ @ ^(io|text|attach|train)/"
  "^utf8proc @ ^text/"
  "^oniguruma @ ^io/regex\\.hpp$"
  "^(cuda|cublas|cub/|thrust/|cooperative_groups|mma\\.h|device_) @ ^backend/cuda"
  "^(sys/|fcntl\\.h|unistd\\.h) @ ^(io/|backend/host_memory\\.hpp$)")

# One header against the tables: sets `violation` to the rule that the include breaks, or to nothing.
function(judge file style include)
  set(violation "" PARENT_SCOPE)
  if(style STREQUAL "\"")
    if(NOT include MATCHES "^deltatune/(.+)$")
      set(violation "own headers are included by their full name, \"deltatune/...\"" PARENT_SCOPE)
      return()
    endif()
    set(target ${CMAKE_MATCH_1})
    set(from root)
    if(file MATCHES "^([a-z_]+)/")
      set(from ${CMAKE_MATCH_1})
    endif()
    set(to root)
    if(target MATCHES "^([a-z_]+)/")
      set(to ${CMAKE_MATCH_1})
    endif()
    if(NOT DEFINED may_${from})
      set(violation "the folder ${from}/ is not in the table of tests/layering/layering.cmake" PARENT_SCOPE)
    elseif(NOT from STREQUAL to AND NOT to IN_LIST may_${from})
      list(JOIN may_${from} " " allowed)
      set(violation "${from}/ may include only: ${allowed}" PARENT_SCOPE)
    elseif(target MATCHES "^backend/(cpu|cuda)")
      # What is not a backend or an umbrella stays free of devices.
      set(device ${CMAKE_MATCH_1})
      set(umbrella deltatune.hpp)
      if(device STREQUAL "cuda")
        set(umbrella cuda.hpp)
      endif()
      if(NOT file MATCHES "^backend/${device}" AND NOT file STREQUAL umbrella)
        set(violation "only backend/${device}* and ${umbrella} may include this device's headers" PARENT_SCOPE)
      endif()
    endif()
    return()
  endif()

  foreach(row IN LISTS foreign_rows)
    string(REGEX MATCH "^(.*) @ (.*)$" row "${row}")
    set(holders "${CMAKE_MATCH_2}")
    if(include MATCHES "${CMAKE_MATCH_1}")
      if(NOT file MATCHES "${holders}")
        set(violation "only files that match ${holders} may include it" PARENT_SCOPE)
      endif()
      return()
    endif()
  endforeach()
  if(include MATCHES "[./]")
    set(violation "not a C++ standard header, and no row of tests/layering/layering.cmake allows it" PARENT_SCOPE)
  endif()
endfunction()

# All violations below a folder of headers, as "file: include: rule".
function(check_headers folder violations_out)
  file(GLOB_RECURSE files RELATIVE ${folder} ${folder}/*.hpp ${folder}/*.h ${folder}/*.cuh)
  set(violations)
  foreach(file IN LISTS files)
    file(STRINGS ${folder}/${file} lines REGEX "^[ \t]*#[ \t]*include")
    foreach(line IN LISTS lines)
      if(NOT line MATCHES "include[ \t]*([<\"])([^>\"]+)[>\"]")
        list(APPEND violations "${file}: ${line}: cannot be read by this check")
        continue()
      endif()
      set(include ${CMAKE_MATCH_2})
      judge(${file} "${CMAKE_MATCH_1}" ${include})
      if(violation)
        list(APPEND violations "${file}: ${include}: ${violation}")
      endif()
    endforeach()
  endforeach()
  list(LENGTH files count)
  if(count EQUAL 0)
    list(APPEND violations "no headers in ${folder}")
  endif()
  set(${violations_out} "${violations}" PARENT_SCOPE)
endfunction()

if(HEADERS)
  get_filename_component(HEADERS ${HEADERS} ABSOLUTE)
  check_headers(${HEADERS} violations)
  foreach(violation IN LISTS violations)
    message(SEND_ERROR "layering: ${violation}")
  endforeach()
endif()

if(SELF_TEST)
  # A tree in which everything is allowed, then one broken line at a time.
  function(write_tree)
    file(REMOVE_RECURSE ${SELF_TEST})
    file(WRITE ${SELF_TEST}/deltatune.hpp "#include \"deltatune/attach/attach.hpp\"\n#include \"deltatune/backend/cpu.hpp\"\n")
    file(WRITE ${SELF_TEST}/cuda.hpp "#include \"deltatune/backend/cuda.hpp\"\n")
    file(WRITE ${SELF_TEST}/core/scalar.hpp "#pragma once\n#include <cmath>\n  #  include \"deltatune/core/config.hpp\"\n")
    file(WRITE ${SELF_TEST}/ops/softmax.hpp "#include \"deltatune/backend/backend.hpp\"\n")
    file(WRITE ${SELF_TEST}/backend/cpu.hpp "#include \"deltatune/backend/cpu/gemm_onednn.hpp\"\n")
    file(WRITE ${SELF_TEST}/backend/cpu/parallel.hpp "#include <omp.h>\n")
    file(WRITE ${SELF_TEST}/backend/cpu/gemm_onednn.hpp "#include <oneapi/dnnl/dnnl.hpp>\n")
    file(WRITE ${SELF_TEST}/backend/cuda/gemm.hpp "#include <cublas_v2.h>\n")
    file(WRITE ${SELF_TEST}/io/safetensors.hpp "#include <sys/mman.h>\n#include <nlohmann/json.hpp>\n")
    file(WRITE ${SELF_TEST}/text/word_piece.hpp "#include <utf8proc.h>\n#include \"deltatune/io/json_config.hpp\"\n")
    file(WRITE ${SELF_TEST}/delta/lora.hpp "#include \"deltatune/seam/weight.hpp\"\n")
    file(WRITE ${SELF_TEST}/model/bert.hpp "#include \"deltatune/nn/linear.hpp\"\n")
    file(WRITE ${SELF_TEST}/attach/attach.hpp "#include \"deltatune/delta/lora.hpp\"\n")
  endfunction()

  write_tree()
  check_headers(${SELF_TEST} violations)
  if(violations)
    message(SEND_ERROR "layering self-test: a clean tree was refused: ${violations}")
  endif()

  foreach(seed IN ITEMS
      "core/scalar.hpp=\"deltatune/tensor/view.hpp\""
      "core/scalar.hpp=<omp.h>"
      "core/scalar.hpp=<unistd.h>"
      "core/scalar.hpp=\"config.hpp\""
      "ops/softmax.hpp=\"deltatune/nn/linear.hpp\""
      "ops/softmax.hpp=\"deltatune/backend/cpu.hpp\""
      "ops/softmax.hpp=<omp.h>"
      "backend/cpu/parallel.hpp=<dnnl.hpp>"
      "backend/cpu.hpp=<cuda_runtime.h>"
      "cuda.hpp=\"deltatune/backend/cpu.hpp\""
      "delta/lora.hpp=\"deltatune/nn/linear.hpp\""
      "delta/lora.hpp=\"deltatune/model/bert.hpp\""
      "delta/lora.hpp=\"deltatune/train/clip.hpp\""
      "delta/lora.hpp=\"deltatune/io/safetensors.hpp\""
      "model/bert.hpp=\"deltatune/delta/lora.hpp\""
      "model/bert.hpp=<nlohmann/json.hpp>"
      "attach/attach.hpp=\"deltatune/model/bert.hpp\""
      "text/word_piece.hpp=\"deltatune/tensor/view.hpp\""
      "io/safetensors.hpp=<utf8proc.h>"
      "elsewhere/new.hpp=\"deltatune/core/scalar.hpp\"")
    string(REGEX MATCH "^([^=]+)=(.*)$" seed "${seed}")
    write_tree()
    file(APPEND ${SELF_TEST}/${CMAKE_MATCH_1} "#include ${CMAKE_MATCH_2}\n")
    check_headers(${SELF_TEST} violations)
    list(LENGTH violations count)
    if(NOT count EQUAL 1)
      message(SEND_ERROR "layering self-test: ${seed} gave ${count} violations instead of 1: ${violations}")
    endif()
  endforeach()
endif()
