#!/usr/bin/env bash
# The server's tests once more with trol-server and the library built with the thread sanitizer.
set -euo pipefail

[ -z "$TROL_SANITIZE" ] || { echo "skipped: this is the build with sanitizers"; exit 77; }
[ -x "$TROL_BUILD/trol-server" ] || { echo "skipped: there is no trol-server (libmicrohttpd)"; exit 77; }
command -v curl >/dev/null || { echo "skipped: there is no curl"; exit 77; }
build=$TROL_BUILD/thread-sanitizer
cmake -S "$TROL_SOURCE" -B "$build" -DTROL_SANITIZE=thread -DTROL_BUILD_TESTS=OFF -DCMAKE_BUILD_TYPE=Debug \
    -DCMAKE_C_FLAGS_DEBUG="-O1 -g" >/dev/null
cmake --build "$build" --target trol-server --parallel "$(nproc)" >"$build/log" 2>&1 || { tail -50 "$build/log"; exit 1; }
TROL_SERVER=$build/trol-server TROL_SANITIZE=thread TSAN_OPTIONS=halt_on_error=1 bash "$TROL_SOURCE/tests/test-server.sh"
