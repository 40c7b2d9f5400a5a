# The parts of trol-cli, and libedit for its chat where it is (Debian: libedit-dev): without it lines are read as they
# come.
file(GLOB TROL_CLI_PARTS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tools/cli/*.c)
# --batch answers with the server's engine, without its HTTP side.
foreach(part answer_form api_error buffer chat_request data_url engine gates engine_memory image_store job json_body
    pace request_check search slot slot_choice)
  list(APPEND TROL_CLI_PARTS ${PROJECT_SOURCE_DIR}/tools/server/${part}.c)
endforeach()
target_sources(trol-cli PRIVATE ${TROL_CLI_PARTS})
if(PkgConfig_FOUND)
  pkg_check_modules(LIBEDIT QUIET IMPORTED_TARGET libedit)
endif()
if(LIBEDIT_FOUND)
  target_link_libraries(trol-cli PRIVATE PkgConfig::LIBEDIT)
  target_compile_definitions(trol-cli PRIVATE TROL_HAVE_LIBEDIT)
endif()
