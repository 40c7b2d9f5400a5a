#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: tools/test.sh [ARGUMENTS OF CTEST]
# For example: tools/test.sh -LE long (without the builds with sanitizers), tools/test.sh -R tokenizer.
set -euo pipefail
. "$(dirname "$0")/build.sh"

build_trol -DTROL_BUILD_TESTS=ON
say "testing"
ctest --test-dir "$build" --output-on-failure --parallel "$(nproc)" "$@"
