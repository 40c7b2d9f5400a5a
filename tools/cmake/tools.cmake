# The command-line tools: they see the public header, the shared library and src/base (as a static library, so that none
# of it is duplicated). tools/common/ is what several of them share.
file(RELATIVE_PATH TROL_BIN_TO_LIB ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
file(RELATIVE_PATH TROL_BIN_TO_MODELS ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_DATADIR}/libtrol/models)
file(GLOB TROL_TOOLS_COMMON CONFIGURE_DEPENDS tools/common/*.c)
file(GLOB TROL_TOOLS CONFIGURE_DEPENDS tools/trol-*.c)

add_library(trol_base STATIC $<TARGET_OBJECTS:trol_base_objects>)
target_include_directories(trol_base PUBLIC include src)
target_link_libraries(trol_base PUBLIC Threads::Threads m)

add_library(trol_tools_common OBJECT ${TROL_TOOLS_COMMON})
target_include_directories(trol_tools_common PUBLIC tools)
target_link_libraries(trol_tools_common PUBLIC trol trol_base trol_dependencies)
# Where the bundled models are: relative to the folder of the installed program, and in the source tree.
target_compile_definitions(trol_tools_common PUBLIC TROL_INSTALLED_MODELS="${TROL_BIN_TO_MODELS}"
                                                    TROL_SOURCE_MODELS="${PROJECT_SOURCE_DIR}/models")

set(TROL_TOOL_NAMES)
foreach(source IN LISTS TROL_TOOLS)
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE trol_tools_common)
  set_target_properties(${name} PROPERTIES INSTALL_RPATH "$ORIGIN/${TROL_BIN_TO_LIB}")
  list(APPEND TROL_TOOL_NAMES ${name})
endforeach()
