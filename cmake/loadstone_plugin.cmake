# How a plugin is linked, in this repository and outside (find_package(loadstone_sdk)).

set(LOADSTONE_PLUGIN_SCRIPT ${CMAKE_CURRENT_LIST_DIR}/plugin.version)

# loadstone_link_plugin(mine OUTPUT folder SOURCES a.cpp … [DEPENDS …]): target
# loadstone_plugin_mine, folder/mine.so and its manifest mine.info (from beside the CMakeLists.txt).
# Exports one symbol, hides the rest; undefined symbols fail at link.
function(loadstone_link_plugin name)
  cmake_parse_arguments(ARG "" "OUTPUT" "SOURCES;DEPENDS" ${ARGN})
  set(target loadstone_plugin_${name})
  add_library(${target} MODULE ${ARG_SOURCES})
  set_target_properties(${target} PROPERTIES
    PREFIX "" OUTPUT_NAME ${name} LIBRARY_OUTPUT_DIRECTORY ${ARG_OUTPUT}
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_compile_options(${target} PRIVATE -ffp-contract=off)  # equal bytes on every machine
  target_link_libraries(${target} PRIVATE ${ARG_DEPENDS})
  target_link_options(${target} PRIVATE
    LINKER:--version-script=${LOADSTONE_PLUGIN_SCRIPT}
    $<$<NOT:$<OR:$<BOOL:${LOADSTONE_SANITIZE}>,$<BOOL:${LOADSTONE_FUZZ}>>>:LINKER:-z,defs>)
  set(manifest ${CMAKE_CURRENT_SOURCE_DIR}/${name}.info)
  add_custom_command(TARGET ${target} POST_BUILD
    COMMAND ${CMAKE_COMMAND} -E copy_if_different ${manifest} ${ARG_OUTPUT}/${name}.info)
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS
    ${LOADSTONE_PLUGIN_SCRIPT} ${manifest})
endfunction()
