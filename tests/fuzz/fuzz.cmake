# Included by the top CMakeLists.txt. Fuzzers: configured by -DTROL_FUZZ=ON with clang as the compiler, each one a program of libFuzzer.
#   cmake -B build-fuzz -DTROL_FUZZ=ON -DCMAKE_C_COMPILER=clang -DTROL_BUILD_TESTS=OFF
#   build-fuzz/fuzz-json CORPUS -max_total_time=60   (CORPUS: a folder that holds valid files to begin with)
option(TROL_FUZZ "build the fuzzers (clang only)" OFF)
if(TROL_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "TROL_FUZZ needs clang, found ${CMAKE_C_COMPILER_ID}: add -DCMAKE_C_COMPILER=clang")
  endif()
  # The library a second time, so that its own build stays as it is.
  add_library(trol_fuzzed STATIC ${TROL_SOURCES})
  target_include_directories(trol_fuzzed PUBLIC ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src
                             PRIVATE ${STB_INCLUDE_DIR})
  target_link_libraries(trol_fuzzed PUBLIC PkgConfig::CJSON PkgConfig::B2 ${TROL_PICTURE_LIBRARIES} Threads::Threads ${CMAKE_DL_LIBS} m)
  target_compile_options(trol_fuzzed PUBLIC -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -g -O1)
  file(GLOB fuzzers CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/fuzz-*.c)
  foreach(source ${fuzzers})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE trol_fuzzed)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer,address,undefined)
  endforeach()
endif()
