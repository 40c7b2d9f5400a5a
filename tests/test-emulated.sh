#!/usr/bin/env bash
# Builds the test programs a second time with TROL_EMULATE: the kernels for AVX-512, AVX-VNNI and AMX in terms of AVX2
# (tests/emulate), and runs those that go through kernels, so that every level is tested on any CPU with AVX2.
set -euo pipefail

[ -z "$TROL_SANITIZE" ] || { echo "skipped: this is the build with sanitizers"; exit 77; }
grep -qw avx2 /proc/cpuinfo || { echo "skipped: this CPU has no AVX2 to emulate with"; exit 77; }
grep -q "TROL_EMULATE:BOOL=ON" "$TROL_BUILD/CMakeCache.txt" && { echo "skipped: this is the emulating build"; exit 77; }
build=$TROL_BUILD/emulated
cmake -S "$TROL_SOURCE" -B "$build" -DTROL_EMULATE=ON >/dev/null
cmake --build "$build" --target test-programs at-level --parallel "$(nproc)" >"$build/log" 2>&1 ||
    { tail -50 "$build/log"; exit 1; }
ctest --test-dir "$build" --output-on-failure --parallel "$(nproc)" \
    --label-regex "levels|program" --tests-regex "test-(linear|attention|kv-codec|ops|quantized|reference|conversations)"
