# How targets of this project are made. A folder's CMakeLists.txt is a few calls of these.

# Paths below the project count as relative, so that another clone finds the same cache entries.
find_program(LOADSTONE_CCACHE ccache)
if(LOADSTONE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${LOADSTONE_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(LOADSTONE_PLUGIN_OUTPUT ${CMAKE_BINARY_DIR}/plugins)

# Warnings of our own code; numerics never fuse a*b+c (scalar and SIMD twins must agree). They are
# errors with the compilers that the checks use: another one's new warning breaks nobody's build.
set(werror OFF)
if("${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}" MATCHES "^(GNU 12|Clang 14)\\.")
  set(werror ON)
endif()
option(LOADSTONE_WERROR "Warnings of our own code are errors" ${werror})
add_library(loadstone_warnings INTERFACE)
target_compile_options(loadstone_warnings INTERFACE
  -Wall -Wextra -Wshadow $<IF:$<BOOL:${LOADSTONE_WERROR}>,-Werror,-Werror=unused-result>
  -ffp-contract=off
  # g++ 12 sees an overlap in "text" + std::string (GCC bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-psabi> $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
if(LOADSTONE_SANITIZE OR LOADSTONE_FUZZ)
  set(sanitizers address,undefined)
  if(LOADSTONE_FUZZ)
    set(sanitizers fuzzer-no-link,${sanitizers})
  endif()
  add_compile_options(-fsanitize=${sanitizers} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
endif()

# loadstone_add_library(base SOURCES a.cpp … [DEPENDS loadstone_x …] [PRIVATE_DEPENDS lib …])
# A folder of the core as the static library loadstone_<name>.
function(loadstone_add_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(loadstone_${name} STATIC ${ARG_SOURCES})
  add_library(loadstone::${name} ALIAS loadstone_${name})
  target_include_directories(loadstone_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/core>
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/sdk/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/loadstone/core>)
  target_link_libraries(loadstone_${name} PUBLIC ${ARG_DEPENDS}
    PRIVATE ${ARG_PRIVATE_DEPENDS} $<BUILD_INTERFACE:loadstone_warnings>)
  set_property(GLOBAL APPEND PROPERTY LOADSTONE_LIBRARIES loadstone_${name})
endfunction()

# loadstone_add_plugin(fp8 SOURCES … [DEPENDS …] [OUTPUT folder]): plugins/<name>.so and its manifest
# beside it, installed with the rest (not with an OUTPUT of its own).
# Tests that scan the plugins' folder depend on the target loadstone_plugins: all of them.
include(${CMAKE_CURRENT_LIST_DIR}/loadstone_plugin.cmake)
add_custom_target(loadstone_plugins)
function(loadstone_add_plugin name)
  cmake_parse_arguments(ARG "" "OUTPUT" "SOURCES;DEPENDS" ${ARGN})
  if(NOT ARG_OUTPUT)
    set(ARG_OUTPUT ${LOADSTONE_PLUGIN_OUTPUT})
    if(LOADSTONE_TEMPLATE_OUTPUT)  # set around the templates, which aren't installed
      set(ARG_OUTPUT ${LOADSTONE_TEMPLATE_OUTPUT})
    endif()
  endif()
  set(target loadstone_plugin_${name})
  loadstone_link_plugin(${name} OUTPUT ${ARG_OUTPUT} SOURCES ${ARG_SOURCES}
    DEPENDS ${ARG_DEPENDS} loadstone_warnings)
  target_include_directories(${target} PRIVATE
    ${PROJECT_SOURCE_DIR}/sdk/include ${PROJECT_SOURCE_DIR}/plugins)
  if(ARG_OUTPUT STREQUAL LOADSTONE_PLUGIN_OUTPUT)
    set_property(GLOBAL APPEND PROPERTY LOADSTONE_PLUGINS ${target})
    add_dependencies(loadstone_plugins ${target})
    install(TARGETS ${target} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/loadstone/plugins)
    install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/${name}.info
      DESTINATION ${CMAKE_INSTALL_LIBDIR}/loadstone/plugins)
  endif()
endfunction()

# loadstone_add_test(base_test SOURCES a_test.cpp … [LINK …] [LABELS unit|oracle|…] [ARGS …])
# One GoogleTest program, one ctest entry.
function(loadstone_add_test name)
  if(NOT LOADSTONE_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LINK;LABELS;ARGS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gmock GTest::gtest_main
    loadstone_warnings)
  target_compile_definitions(${name} PRIVATE
    LOADSTONE_SOURCE_DIR="${PROJECT_SOURCE_DIR}" LOADSTONE_BINARY_DIR="${CMAKE_BINARY_DIR}")
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
endfunction()

# loadstone_add_conformance(fp8): the conformance kit over plugin <name>, at most 20 seconds in CI; the
# full run is bin/plugin_check FILE.so. Built-in plugins get theirs by themselves.
function(loadstone_add_conformance name)
  get_property(checked GLOBAL PROPERTY LOADSTONE_CHECKED_PLUGINS)
  if(NOT LOADSTONE_TESTS OR name IN_LIST checked)
    return()
  endif()
  set_property(GLOBAL APPEND PROPERTY LOADSTONE_CHECKED_PLUGINS ${name})
  add_test(NAME conformance_${name}
    COMMAND plugin_check $<TARGET_FILE:loadstone_plugin_${name}> --seconds 20)
  set_tests_properties(conformance_${name} PROPERTIES LABELS "conformance" TIMEOUT 300)
endfunction()

# loadstone_add_fuzzer(safetensors_header SOURCES … LINK …): a libFuzzer program.
function(loadstone_add_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(fuzz_${name} ${ARG_SOURCES})
  target_link_libraries(fuzz_${name} PRIVATE ${ARG_LINK} loadstone_warnings)
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
endfunction()
