# LOADSTONE_CUDA: kernels of the plugins, built where nvcc is found (CMAKE_CUDA_COMPILER, PATH,
# /usr/local/cuda). Loading onto GPUs and drawing there need no CUDA at build time.

find_program(LOADSTONE_NVCC nvcc HINTS /usr/local/cuda/bin)
if(LOADSTONE_SANITIZE OR LOADSTONE_FUZZ)
  set(found OFF)  # nvcc knows no sanitizers
elseif(DEFINED CMAKE_CUDA_COMPILER OR LOADSTONE_NVCC)
  set(found ON)
else()
  set(found OFF)
endif()
option(LOADSTONE_CUDA "Build the plugins' CUDA kernels (needs nvcc)" ${found})

if(LOADSTONE_CUDA)
  if(NOT found)
    message(FATAL_ERROR "LOADSTONE_CUDA is ON but no nvcc was found: set CMAKE_CUDA_COMPILER")
  endif()
  if(NOT DEFINED CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${LOADSTONE_NVCC})
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 100a-real)
  endif()
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION AND
     CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12)
    # CMake 3.25 doesn't know that nvcc 12 speaks it.
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  # A plugin brings its own runtime; it shares the process's primary context with LibTorch.
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  find_package(CUDAToolkit REQUIRED)
endif()
