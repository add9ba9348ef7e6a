# Third-party libraries: Debian packages, and LibTorch as cmake/get-libtorch.sh lays it out.

find_package(Threads REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(spdlog REQUIRED)
find_package(fmt REQUIRED)
find_package(simdjson REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(re2 REQUIRED IMPORTED_TARGET re2)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(nlohmann_json REQUIRED IMPORTED_TARGET nlohmann_json)
if(LOADSTONE_TESTS)
  find_package(GTest REQUIRED)
endif()

if(LOADSTONE_RUNTIME)
  if(NOT LOADSTONE_TORCH_DIR)
    execute_process(COMMAND ${PROJECT_SOURCE_DIR}/cmake/get-libtorch.sh --print
      OUTPUT_VARIABLE LOADSTONE_TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
  if(NOT EXISTS ${LOADSTONE_TORCH_DIR}/torch-imported.cmake)
    message(FATAL_ERROR "LibTorch is not at ${LOADSTONE_TORCH_DIR}: run cmake/get-libtorch.sh, "
      "or configure with -DLOADSTONE_RUNTIME=OFF for everything but drawing and comparing")
  endif()
  include(${LOADSTONE_TORCH_DIR}/torch-imported.cmake)
  find_package(PNG REQUIRED)
endif()
