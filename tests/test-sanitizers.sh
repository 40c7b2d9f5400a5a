#!/usr/bin/env bash
# Builds the test programs and trol-server a second time with ASan and UBSan and runs them, each at the CPU's best level.
# What takes minutes there stays out; test-reference goes through the same code with fewer shapes.
set -euo pipefail

[ -z "$TROL_SANITIZE" ] || { echo "skipped: this is the build with sanitizers"; exit 77; }
slow="test-(attention|linear|questions)"
build=$TROL_BUILD/sanitizers
cmake -S "$TROL_SOURCE" -B "$build" -DTROL_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=Debug \
    -DCMAKE_C_FLAGS_DEBUG="-O1 -g" >/dev/null
targets=(test-programs)
[ ! -x "$TROL_BUILD/trol-server" ] || targets+=(trol-server)
cmake --build "$build" --target "${targets[@]}" --parallel "$(nproc)" >"$build/log" 2>&1 || { tail -50 "$build/log"; exit 1; }
export ASAN_OPTIONS=allocator_may_return_null=1 # tests ask for more memory than there is
export UBSAN_OPTIONS=print_stacktrace=1
ctest --test-dir "$build" --output-on-failure --parallel "$(nproc)" --label-regex program --exclude-regex "$slow"

unset ASAN_OPTIONS
TROL_SERVER=$build/trol-server TROL_SANITIZE=address,undefined bash "$TROL_SOURCE/tests/test-server.sh" || [ $? = 77 ]
