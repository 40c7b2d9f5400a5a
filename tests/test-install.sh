#!/usr/bin/env bash
# make install into a fresh folder: which files are installed where, what the library exports, and that a C and a C++
# program outside of the tree compile against it and run, found by pkg-config and by CMake, also after the folder was
# moved, shared and static, from Python, and with the tree as a subproject of another.
set -euo pipefail

[ -z "$TROL_SANITIZE" ] || { echo "skipped: programs outside of the tree are built without sanitizers"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() { echo "FAILED: $*"; failed=1; }

cmake --install "$TROL_BUILD" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/installed"
prefix=$work/installed

for file in include/trol.h bin/trol-cli bin/trol-inspect bin/trol-synth bin/trol-bench bin/trol-quantize bin/trol-eval; do
    [ -e "$prefix/$file" ] || fail "$file is not installed"
done
library=$(find "$prefix" -name libtrol.so)
libdir=$(dirname "$library")
for file in pkgconfig/libtrol.pc cmake/trol/trolConfig.cmake; do
    [ -e "$libdir/$file" ] || fail "$libdir/$file is not installed"
done

soname=$(LC_ALL=C readelf -d "$library" | sed -n 's/.*Library soname: \[\(.*\)\]/\1/p')
[ "$soname" = libtrol.so.0 ] || fail "the SONAME is '$soname', expected libtrol.so.0"
[ -e "$libdir/$soname" ] || fail "there is no $soname beside $library"
exported=$(nm -D --defined-only "$library" | awk '{print $3}')
[ -n "$exported" ] || fail "the library exports nothing"
strangers=$(grep -v '^trol_' <<<"$exported" || true)
[ -z "$strangers" ] || fail "exported beside trol_*: $strangers"
# Each function that the header declares is there, and no other.
declared=$(sed -n '/TROL_API/,/;/p' "$prefix/include/trol.h" | grep -o 'trol_[a-z0-9_]*(' | tr -d '(' | sort -u)
difference=$(diff <(echo "$declared") <(sort -u <<<"$exported") || true)
[ -z "$difference" ] || fail "declared (<) and exported (>) differ: $difference"

# The tools carry src/base with them, but nothing of it that the library exports.
for program in "$prefix"/bin/trol-*; do
    twice=$(nm --defined-only "$program" | awk '{print $3}' | grep '^trol_' || true)
    [ -z "$twice" ] || fail "$program defines what the library exports: $twice"
done

strict="-Wall -Wextra -Wpedantic -Werror"
case=$TROL_SOURCE/tests/reference/e2e-internlm2
question=("$case" "$case/pictures/tiny.png" "What is in the picture?")
export PKG_CONFIG_PATH=$libdir/pkgconfig
cp "$TROL_SOURCE"/tests/install/* "$work"
cd "$work"
# shellcheck disable=SC2046
cc -std=c11 $strict ask.c -o pc_c $(pkg-config --cflags --libs libtrol) "-Wl,-rpath,$libdir"
# shellcheck disable=SC2046
c++ -std=c++11 $strict ask.cpp -o pc_cpp $(pkg-config --cflags --libs libtrol) "-Wl,-rpath,$libdir"
cmake -S . -B outside -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build outside >/dev/null

# Where there is only the static library, --static names all that it needs.
only_static=$work/static/$(basename "$libdir")
mkdir -p "$only_static"
cp -r "$libdir/libtrol.a" "$libdir/pkgconfig" "$only_static/"
ln -s "$prefix/include" "$work/static/include"
strangers=$(nm --defined-only --extern-only "$libdir/libtrol.a" | awk 'NF == 3 {print $3}' | grep -v '^trol_' || true)
[ -z "$strangers" ] || fail "names of the static library beside trol_*: $strangers"
# shellcheck disable=SC2046
cc -std=c11 $strict ask.c -o pc_static \
    $(PKG_CONFIG_PATH=$only_static/pkgconfig pkg-config --static --cflags --libs libtrol)
for program in pc_static outside/ask_static; do
    ! readelf -d "$program" | grep -q 'NEEDED.*libtrol' || fail "$program needs the shared library"
done

# As a subproject: the library alone, in the parent's build type, or optimized where it chose none; nothing of it is
# installed and no test is registered.
cmake -S . -B unchosen -DTROL_TREE="$TROL_SOURCE" >/dev/null
! grep -q 'CMAKE_BUILD_TYPE:.*=.\+' unchosen/CMakeCache.txt || fail "a subproject chose the parent's build type"
grep -q -- '-O3' unchosen/trol/CMakeFiles/trol_objects.dir/flags.make || fail "a subproject is built without optimization"
cmake -S . -B inside -DTROL_TREE="$TROL_SOURCE" -DCMAKE_BUILD_TYPE=Debug >/dev/null
! grep -q -- '-O3' inside/trol/CMakeFiles/trol_objects.dir/flags.make || fail "a subproject overrides the build type Debug"
cmake --build inside --parallel "$(nproc)" >/dev/null
cmake --install inside --prefix "$work/parent" >/dev/null
installed=$(cd "$work/parent" && find . -type f)
[ "$installed" = ./bin/ask_c ] || fail "the parent of a subproject installs $installed, expected ./bin/ask_c alone"
[ ! -e inside/trol/trol-cli ] || fail "a subproject builds the tools"
! ctest --test-dir inside -N | grep -q 'Test *#' || fail "a subproject registers its tests"

# What is missing is named with its package, all at once.
refused=$(cmake -S "$TROL_SOURCE" -B refused -DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON -DCMAKE_FIND_ROOT_PATH="$work/empty" \
    -DCMAKE_FIND_ROOT_PATH_MODE_INCLUDE=ONLY -DCMAKE_FIND_ROOT_PATH_MODE_LIBRARY=ONLY 2>&1 >/dev/null || true)
for package in libcjson-dev libstb-dev cjson-devel; do
    [[ $refused == *$package* ]] || fail "without its headers the package $package is not named: $refused"
done

difference=$(diff <(sed -n '/^```c$/,/^```$/p' "$TROL_SOURCE/README.md" | sed '1d;$d') <(sed 1d ask.c) || true)
[ -z "$difference" ] || fail "the README's program (<) is not tests/install/ask.c (>): $difference"
difference=$(diff <(sed -n '/^import ctypes$/,/^```$/p' "$TROL_SOURCE/README.md" | sed '$d') <(sed 1d ask.py) || true)
[ -z "$difference" ] || fail "the README's program (<) is not tests/install/ask.py (>): $difference"

expected=$("$prefix/bin/trol-cli" -m "${question[0]}" --image "${question[1]}" -p "${question[2]}" --quiet)
[ -n "$expected" ] || fail "the installed trol-cli printed nothing"
for program in ./pc_c ./pc_cpp ./pc_static {outside,inside}/ask_{c,cpp,static}; do
    answer=$("$program" "${question[@]}") || fail "$program failed"
    [ "$answer" = "$expected" ] || fail "$program answered '$answer', trol-cli '$expected'"
done
if command -v python3 >/dev/null; then
    answer=$(LIBTROL=$libdir/libtrol.so.0 python3 ask.py "${question[@]}") || fail "ask.py failed"
    [ "$answer" = "$expected" ] || fail "ask.py answered '$answer', trol-cli '$expected'"
fi
version=$("$prefix/bin/trol-cli" --version)
[[ $version == *$(pkg-config --modversion libtrol)* ]] || fail "trol-cli says '$version', pkg-config $(pkg-config --modversion libtrol)"

[ $failed = 0 ] && echo "test-install: all is in place"
exit $failed
