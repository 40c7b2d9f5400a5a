# Included by the top CMakeLists.txt: the libraries that read pictures, as TROL_PICTURE_LIBRARIES (and TROL_PICTURE_PACKAGES
# for libtrol.pc). libjpeg-turbo is needed; libwebp and libheif as the options TROL_WEBP and TROL_HEIF say.
include(CheckCSourceCompiles)

pkg_check_modules(JPEG REQUIRED IMPORTED_TARGET libjpeg)
# Other libjpegs, and libjpeg-turbo before 2.1, decode to other pixels than the reference's.
set(CMAKE_REQUIRED_LIBRARIES PkgConfig::JPEG)
check_c_source_compiles("
  #include <stdio.h>
  #include <jpeglib.h>
  #if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || LIBJPEG_TURBO_VERSION_NUMBER < 2001000
  #error this is not libjpeg-turbo 2.1 or later
  #endif
  int main(void) { struct jpeg_error_mgr errors; return jpeg_std_error(&errors) == 0; }" TROL_JPEG_TURBO)
unset(CMAKE_REQUIRED_LIBRARIES)
if(NOT TROL_JPEG_TURBO)
  message(FATAL_ERROR "the libjpeg that was found (${JPEG_VERSION}) is not libjpeg-turbo 2.1 or later "
                      "(Debian: libjpeg62-turbo-dev)")
endif()
set(TROL_PICTURE_LIBRARIES PkgConfig::JPEG)
set(TROL_PICTURE_PACKAGES libjpeg)

# trol_picture_library(OPTION PREFIX SOURCE DEBIAN_PACKAGE MODULE...)
function(trol_picture_library option prefix source package)
  if(NOT ${option} MATCHES "^(ON|OFF|AUTO)$")
    message(FATAL_ERROR "${option} is ${${option}}, expected ON, OFF or AUTO")
  endif()
  if(${option} STREQUAL "OFF")
    return()
  endif()
  pkg_check_modules(${prefix} IMPORTED_TARGET ${ARGN})
  if(NOT ${prefix}_FOUND)
    if(${option} STREQUAL "ON")
      message(FATAL_ERROR "${option} is ON and ${ARGN} was not found (Debian: ${package})")
    endif()
    message(STATUS "${option}: ${ARGN} was not found (Debian: ${package}); its pictures will be refused")
    return()
  endif()
  set_source_files_properties(${source} PROPERTIES COMPILE_DEFINITIONS ${option}=1)
  set(TROL_PICTURE_LIBRARIES ${TROL_PICTURE_LIBRARIES} PkgConfig::${prefix} PARENT_SCOPE)
  set(TROL_PICTURE_PACKAGES ${TROL_PICTURE_PACKAGES} ${ARGN} PARENT_SCOPE)
endfunction()

trol_picture_library(TROL_WEBP WEBP ${PROJECT_SOURCE_DIR}/src/format/image_webp.c libwebp-dev libwebp libwebpdemux)
trol_picture_library(TROL_HEIF HEIF ${PROJECT_SOURCE_DIR}/src/format/image_heif.c libheif-dev libheif)
list(JOIN TROL_PICTURE_PACKAGES " " TROL_PICTURE_PACKAGES)
