# One program per tests/test-*.c, one script per tests/test-*.sh. Exit status 77 means skipped.
# Labels: "program" (test-sanitizers.sh runs these again with sanitizers), "levels" (the programs that go through the
# whole engine, once for each instruction-set level), "script", and "long" (ctest -LE long leaves them out).
set(TROL_TESTS_AT_EACH_LEVEL test-reference test-step test-conversations)
set(TROL_TESTS_ALONE test-json test-safetensors) # they measure time

# The whole library with its internal functions accessible.
add_library(trol_internal STATIC ${TROL_OBJECTS})
target_include_directories(trol_internal PUBLIC ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(trol_internal PUBLIC trol_dependencies)

# What is tested of the tools' insides.
set(TROL_TEST_PARTS_test-pace tools/server/pace.c)

add_custom_target(test-programs)
add_executable(at-level ${PROJECT_SOURCE_DIR}/tests/at-level.c)
target_link_libraries(at-level PRIVATE trol_internal)
add_executable(schema-check ${PROJECT_SOURCE_DIR}/tests/schema-check.c)
add_executable(schema-answers ${PROJECT_SOURCE_DIR}/tests/schema-answers.c)
target_link_libraries(schema-answers PRIVATE trol_internal)
target_link_libraries(schema-check PRIVATE trol_internal)

file(GLOB TROL_TESTS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/test-*.c)
foreach(source IN LISTS TROL_TESTS)
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source} ${TROL_TEST_PARTS_${name}})
  add_dependencies(test-programs ${name})
  target_link_libraries(${name} PRIVATE trol_internal)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tools)
  target_compile_definitions(${name} PRIVATE TEST_REFERENCE="${PROJECT_SOURCE_DIR}/tests/reference")
  add_test(NAME ${name} COMMAND ${name})
  if(name IN_LIST TROL_TESTS_AT_EACH_LEVEL)
    foreach(level scalar ${TROL_LEVELS})
      add_test(NAME ${name}-${level} COMMAND at-level ${level} $<TARGET_FILE:${name}>)
      set_tests_properties(${name}-${level} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600 LABELS levels)
    endforeach()
    add_test(NAME ${name}-openblas COMMAND at-level openblas $<TARGET_FILE:${name}>)
    set_tests_properties(${name}-openblas PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600 LABELS levels)
  endif()
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600 LABELS program)
  if(name IN_LIST TROL_TESTS_ALONE)
    set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)
  endif()
endforeach()

# bench-*.c are benchmarks, run by hand.
file(GLOB TROL_BENCHMARKS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/bench-*.c)
foreach(source IN LISTS TROL_BENCHMARKS)
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE trol_internal)
endforeach()

# The scripts run the tools.
file(GLOB TROL_TEST_SCRIPTS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/test-*.sh)
if(NOT TROL_BUILD_TOOLS)
  set(TROL_TEST_SCRIPTS)
endif()
foreach(source IN LISTS TROL_TEST_SCRIPTS)
  get_filename_component(name ${source} NAME_WE)
  add_test(NAME ${name} COMMAND bash ${source})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600 ENVIRONMENT
    "TROL_BUILD=${PROJECT_BINARY_DIR};TROL_SOURCE=${PROJECT_SOURCE_DIR};TROL_SANITIZE=${TROL_SANITIZE};CC=${CMAKE_C_COMPILER}"
    LABELS script)
  if(name MATCHES "sanitizer|valgrind|emulated")
    set_tests_properties(${name} PROPERTIES LABELS "script;long" COST 1000 TIMEOUT 1500)
  endif()
endforeach()
