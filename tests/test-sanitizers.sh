#!/usr/bin/env bash
# Builds everything a second time with ASan and UBSan and runs the test programs there, each at the CPU's best level.
# test-questions stays out: it takes longest and shows the code nothing that test-reference does not.
set -euo pipefail

[ -z "$TROL_SANITIZE" ] || { echo "skipped: this is the build with sanitizers"; exit 77; }
build=$TROL_BUILD/sanitizers
cmake -S "$TROL_SOURCE" -B "$build" -DTROL_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
cmake --build "$build" --parallel "$(nproc)" >"$build/log" 2>&1 || { tail -50 "$build/log"; exit 1; }
export UBSAN_OPTIONS=print_stacktrace=1
export ASAN_OPTIONS=allocator_may_return_null=1 # an allocation that is too large fails, as it does without the sanitizer
ctest --test-dir "$build" --output-on-failure --parallel "$(nproc)" --label-regex program --exclude-regex test-questions
