# Defines deltatune::cuda where the CUDA toolkit is: deltatune::deltatune for .cu files, with the CUDA runtime and cuBLAS. Read by the build
# of deltatune and by find_package(deltatune COMPONENTS cuda). Enables no language: that is for the project that has .cu files.
find_package(CUDAToolkit 12 QUIET)  # 12: the first nvcc with C++20
if(CUDAToolkit_FOUND AND NOT TARGET deltatune::cuda)
  add_library(deltatune::cuda INTERFACE IMPORTED GLOBAL)
  target_link_libraries(deltatune::cuda INTERFACE deltatune::deltatune CUDA::cudart CUDA::cublas)
  target_compile_options(deltatune::cuda INTERFACE
    $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>  # a feature, cuda_std_20, only since CMake 3.26
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${OpenMP_CXX_FLAGS}>)  # for the CPU backend in a .cu file
endif()
