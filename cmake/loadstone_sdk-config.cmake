# find_package(loadstone_sdk): all that a plugin needs, and nothing else.
#   loadstone_add_plugin(mine SOURCES mine.cpp [DEPENDS …]) builds <build>/plugins/mine.so, and
#   mine.info beside it.

include(${CMAKE_CURRENT_LIST_DIR}/loadstone_plugin.cmake)

# <prefix>/<lib>/cmake/loadstone_sdk → the prefix's headers.
find_path(LOADSTONE_SDK_INCLUDE loadstone/plugin.h REQUIRED
  HINTS ${CMAKE_CURRENT_LIST_DIR}/../../../include ${CMAKE_CURRENT_LIST_DIR}/../../../../include)

function(loadstone_add_plugin name)
  loadstone_link_plugin(${name} OUTPUT ${CMAKE_BINARY_DIR}/plugins ${ARGN})
  target_include_directories(loadstone_plugin_${name} PRIVATE ${LOADSTONE_SDK_INCLUDE})
endfunction()
