#!/usr/bin/env bash
# make install into a fresh folder: what is put where, what the library exports, and that a C and a C++ program outside of
# the tree compile against it and run, found by pkg-config and by CMake, also after the folder was moved.
set -euo pipefail

[ -z "$TROL_SANITIZE" ] || { echo "skipped: programs outside of the tree are built without sanitizers"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() { echo "FAILED: $*"; failed=1; }

cmake --install "$TROL_BUILD" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/installed"
prefix=$work/installed

for file in include/trol.h bin/trol-cli bin/trol-inspect bin/trol-synth bin/trol-bench; do
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

difference=$(diff <(sed -n '/^```c$/,/^```$/p' "$TROL_SOURCE/README.md" | sed '1d;$d') <(sed 1d ask.c) || true)
[ -z "$difference" ] || fail "the README's program (<) is not tests/install/ask.c (>): $difference"

expected=$("$prefix/bin/trol-cli" -m "${question[0]}" --image "${question[1]}" -p "${question[2]}" --quiet)
[ -n "$expected" ] || fail "the installed trol-cli said nothing"
for program in ./pc_c ./pc_cpp outside/ask_c outside/ask_cpp; do
    answer=$("$program" "${question[@]}") || fail "$program failed"
    [ "$answer" = "$expected" ] || fail "$program answered '$answer', trol-cli '$expected'"
done
version=$("$prefix/bin/trol-cli" --version)
[[ $version == *$(pkg-config --modversion libtrol)* ]] || fail "trol-cli says '$version', pkg-config $(pkg-config --modversion libtrol)"

[ $failed = 0 ] && echo "test-install: all is in place"
exit $failed
