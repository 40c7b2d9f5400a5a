# What the library needs from the system: found by pkg-config, or else by header and library where distributions put
# them. All that is missing is reported at once, with the names of the packages. OpenBLAS is not among them: it is
# opened at run time where it is used (src/kernels/linear_blas.h).
#   trol_dependencies        the target to compile and link with
#   TROL_STATIC_LIBRARIES    what a program that links the static library needs too, for the CMake package
#   TROL_STATIC_FLAGS        the same for libtrol.pc
include(CheckCSourceCompiles)
set(TROL_WEBP AUTO CACHE STRING "read WebP with libwebp: ON, OFF, or AUTO (if it is there)")
set(TROL_HEIF AUTO CACHE STRING "read HEIC and AVIF with libheif: ON, OFF, or AUTO (if it is there)")

find_package(PkgConfig QUIET)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

add_library(trol_dependencies INTERFACE)
target_link_libraries(trol_dependencies INTERFACE Threads::Threads ${CMAKE_DL_LIBS} m)
set(TROL_STATIC_LIBRARIES Threads::Threads ${CMAKE_DL_LIBS} m)
set(TROL_STATIC_FLAGS "${CMAKE_THREAD_LIBS_INIT} -ldl -lm")
set(trol_missing)

# Links the library and remembers what linking statically takes: -l, and -L where the linker does not look by itself.
macro(trol_use_library file)
  target_link_libraries(trol_dependencies INTERFACE ${file})
  get_filename_component(folder ${file} DIRECTORY)
  get_filename_component(flags ${file} NAME_WE)
  string(REGEX REPLACE "^lib" "-l" flags ${flags})
  if(NOT folder IN_LIST CMAKE_C_IMPLICIT_LINK_DIRECTORIES AND NOT folder MATCHES "^/(usr/)?lib(64)?$")
    set(flags "-L${folder} ${flags}")
  endif()
  set(TROL_STATIC_FLAGS "${flags} ${TROL_STATIC_FLAGS}" PARENT_SCOPE)
  string(REPLACE " " ";" flags "${flags}")
  set(TROL_STATIC_LIBRARIES ${flags} ${TROL_STATIC_LIBRARIES} PARENT_SCOPE)
endmacro()

# trol_find(NAME HEADER PC names LIBRARIES names FOLDERS include folders PACKAGES text OPTION option): without LIBRARIES
# a header only; any of the names will do. Sets TROL_HAS_NAME. An OPTION that is OFF or AUTO makes it optional.
function(trol_find name header)
  cmake_parse_arguments(PARSE_ARGV 2 find "" "PACKAGES;OPTION" "PC;LIBRARIES;FOLDERS")
  set(TROL_HAS_${name} OFF PARENT_SCOPE)
  set(wanted ON)
  if(find_OPTION)
    set(wanted "${${find_OPTION}}")
  endif()
  if(NOT wanted MATCHES "^(ON|OFF|AUTO)$")
    message(FATAL_ERROR "${find_OPTION} is ${wanted}, expected ON, OFF or AUTO")
  elseif(wanted STREQUAL "OFF")
    return()
  endif()
  foreach(pc IN LISTS find_PC)
    if(PkgConfig_FOUND AND NOT TROL_${name}_FOUND)
      pkg_check_modules(TROL_${name} QUIET ${pc})
    endif()
  endforeach()
  set(hints)
  foreach(folder IN LISTS TROL_${name}_INCLUDE_DIRS)
    list(APPEND hints ${folder} ${folder}/..) # cjson/cJSON.h is in a folder that pkg-config may name itself
  endforeach()
  find_path(TROL_${name}_HEADERS ${header} HINTS ${hints} PATH_SUFFIXES ${find_FOLDERS})
  set(found ${TROL_${name}_HEADERS})
  if(find_LIBRARIES)
    find_library(TROL_${name}_LIBRARY NAMES ${find_LIBRARIES} HINTS ${TROL_${name}_LIBRARY_DIRS})
    if(NOT TROL_${name}_LIBRARY)
      set(found)
    endif()
  endif()
  mark_as_advanced(TROL_${name}_HEADERS TROL_${name}_LIBRARY)
  if(NOT found AND wanted STREQUAL "AUTO")
    message(STATUS "${find_OPTION}: ${name} was not found, its pictures will be refused; packages: ${find_PACKAGES}")
  elseif(NOT found)
    set(trol_missing ${trol_missing} "${name}: ${find_PACKAGES}" PARENT_SCOPE)
  endif()
  if(NOT found)
    return()
  endif()
  set(TROL_HAS_${name} ON PARENT_SCOPE)
  # A folder that the compiler searches by itself stays out: named again, it would come before the standard ones.
  if(NOT TROL_${name}_HEADERS IN_LIST CMAKE_C_IMPLICIT_INCLUDE_DIRECTORIES)
    target_include_directories(trol_dependencies SYSTEM INTERFACE ${TROL_${name}_HEADERS})
  endif()
  if(find_LIBRARIES)
    trol_use_library(${TROL_${name}_LIBRARY})
  endif()
endfunction()

trol_find(cjson cjson/cJSON.h PC libcjson cjson LIBRARIES cjson
          PACKAGES "libcjson-dev (Debian, Ubuntu), cjson-devel (Fedora), cjson (Arch), cjson-dev (Alpine)")
trol_find(b2 blake2.h PC libb2 LIBRARIES b2
          PACKAGES "libb2-dev (Debian, Ubuntu, Alpine), libb2-devel (Fedora), libb2 (Arch)")
trol_find(xxhash xxhash.h PC libxxhash LIBRARIES xxhash
          PACKAGES "libxxhash-dev (Debian, Ubuntu), xxhash-devel (Fedora), xxhash (Arch), xxhash-dev (Alpine)")
trol_find(stb stb_image.h PC stb FOLDERS stb
          PACKAGES "libstb-dev (Debian, Ubuntu), stb_image-devel (Fedora), stb (Arch, Alpine)")
trol_find(jpeg jpeglib.h PC libjpeg LIBRARIES jpeg
          PACKAGES "libjpeg62-turbo-dev (Debian), libjpeg-turbo8-dev (Ubuntu), libjpeg-turbo-devel (Fedora), libjpeg-turbo (Arch), libjpeg-turbo-dev (Alpine)")
set(webp_packages "libwebp-dev (Debian, Ubuntu, Alpine), libwebp-devel (Fedora), libwebp (Arch)")
trol_find(webp webp/decode.h PC libwebp LIBRARIES webp OPTION TROL_WEBP PACKAGES ${webp_packages})
trol_find(webpdemux webp/demux.h PC libwebpdemux LIBRARIES webpdemux OPTION TROL_WEBP PACKAGES ${webp_packages})
trol_find(heif libheif/heif.h PC libheif OPTION TROL_HEIF # its header; opened at run time, by image_heif.c
          PACKAGES "libheif-dev (Debian, Ubuntu, Alpine), libheif-devel (Fedora), libheif (Arch)")

if(trol_missing)
  list(JOIN trol_missing "\n  " trol_missing)
  message(FATAL_ERROR "These libraries are missing; each line names the package to install:\n  ${trol_missing}\n"
                      "One that is installed elsewhere is found with -DCMAKE_PREFIX_PATH=ITS_FOLDER.")
endif()
if(TROL_HAS_webp AND TROL_HAS_webpdemux)
  target_compile_definitions(trol_dependencies INTERFACE TROL_WEBP=1)
endif()
if(TROL_HAS_heif)
  target_compile_definitions(trol_dependencies INTERFACE TROL_HEIF=1)
endif()

# Other libjpegs, and libjpeg-turbo before 2.1, decode to other pixels than the reference's.
set(CMAKE_REQUIRED_INCLUDES ${TROL_jpeg_HEADERS})
set(CMAKE_REQUIRED_LIBRARIES ${TROL_jpeg_LIBRARY})
check_c_source_compiles("
  #include <stdio.h>
  #include <jpeglib.h>
  #if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || LIBJPEG_TURBO_VERSION_NUMBER < 2001000
  #error this is not libjpeg-turbo 2.1 or later
  #endif
  int main(void) { struct jpeg_error_mgr errors; return jpeg_std_error(&errors) == 0; }" TROL_JPEG_TURBO)
unset(CMAKE_REQUIRED_INCLUDES)
unset(CMAKE_REQUIRED_LIBRARIES)
if(NOT TROL_JPEG_TURBO)
  message(FATAL_ERROR "the libjpeg that was found, ${TROL_jpeg_LIBRARY}, is not libjpeg-turbo 2.1 or later "
                      "(libjpeg62-turbo-dev on Debian, libjpeg-turbo elsewhere)")
endif()
