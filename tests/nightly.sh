#!/usr/bin/env bash
# The longer checks, run by hand before an issue is closed: tests/nightly.sh [MINUTES OF EACH FUZZER]
# Everything is built outside build/, in build-nightly/. Takes about an hour with the default of 10 minutes on two cores
# and stops at the first failure. What tools/test.sh and .ci/run check is not repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/build.sh
minutes=${1:-10}
nightly=$source/build-nightly
mkdir -p "$nightly"

say "2,000 random conversations, each turn against a fresh run"
build=$nightly/release
build_trol -DTROL_BUILD_TESTS=ON
"$build/test-conversations" 1000 2000

say "100 conversations on one model in 4 threads, with the thread sanitizer"
build=$nightly/thread
build_trol -DTROL_BUILD_TESTS=ON -DTROL_SANITIZE=thread -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG="-O1 -g"
TSAN_OPTIONS=halt_on_error=1 "$build/test-conversations" 5000 100 4

say "200 clients for a minute, and real clients"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
LOAD_SECONDS=60 TROL_BUILD=$nightly/release TROL_SOURCE=$source tests/server/clients.sh "$folder"

say "each fuzzer for $minutes minutes"
command -v clang >/dev/null || { echo "the fuzzers need clang" >&2; exit 1; }
build=$nightly/fuzz
build_trol -DTROL_FUZZ=ON -DCMAKE_C_COMPILER=clang -DTROL_BUILD_TESTS=OFF -DTROL_BUILD_TOOLS=OFF
for fuzzer in "$build"/fuzz-*; do
    [ -x "$fuzzer" ] && [ -f "$fuzzer" ] || continue
    name=${fuzzer##*/}
    mkdir -p "$nightly/corpus/$name"
    options=(-max_total_time=$((60 * minutes)) -timeout=20 -rss_limit_mb=4096 -print_final_stats=1)
    case $name in
    fuzz-image-heif) options+=(-detect_leaks=0) ;; # libdav1d of Debian 12 loses 40 bytes of a broken AVIF
    esac
    seeds=()
    case $name in
    fuzz-image*) seeds=("$source/tests/reference/pictures") ;;
    esac
    "$fuzzer" "${options[@]}" -artifact_prefix="$nightly/$name-" "$nightly/corpus/$name" "${seeds[@]}" \
        2>"$nightly/$name.log" || { tail -30 "$nightly/$name.log"; exit 1; }
    grep -E "stat::number_of_executed_units" "$nightly/$name.log" | sed "s/^/$name: /"
done
say "all passed"
