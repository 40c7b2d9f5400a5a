# find_package(trol): the targets trol::trol (shared) and trol::trol_static.
include(CMakeFindDependencyMacro)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/trolTargets.cmake)
