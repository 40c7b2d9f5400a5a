# trol-server, where libmicrohttpd is (Debian: libmicrohttpd-dev). Without it the rest is built.
if(PkgConfig_FOUND)
  pkg_check_modules(MICROHTTPD QUIET IMPORTED_TARGET libmicrohttpd)
endif()
if(NOT MICROHTTPD_FOUND)
  message(STATUS "libmicrohttpd is not there: trol-server is left out (Debian: libmicrohttpd-dev)")
  return()
endif()

set(page ${PROJECT_BINARY_DIR}/page.c)
add_custom_command(
  OUTPUT ${page}
  COMMAND ${CMAKE_COMMAND} -DINPUT=${PROJECT_SOURCE_DIR}/tools/server/page.html -DOUTPUT=${page} -P
          ${PROJECT_SOURCE_DIR}/tools/server/embed.cmake
  DEPENDS ${PROJECT_SOURCE_DIR}/tools/server/page.html ${PROJECT_SOURCE_DIR}/tools/server/embed.cmake)
file(GLOB TROL_SERVER_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tools/server/*.c)
add_executable(trol-server ${TROL_SERVER_SOURCES} ${page})
target_link_libraries(trol-server PRIVATE trol_tools_common PkgConfig::MICROHTTPD)
set_target_properties(trol-server PROPERTIES INSTALL_RPATH "$ORIGIN/${TROL_BIN_TO_LIB}")
list(APPEND TROL_TOOL_NAMES trol-server)
