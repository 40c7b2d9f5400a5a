#!/usr/bin/env bash
# Libraries that are opened by name: OpenBLAS only by a process that multiplies with it, libheif only for its pictures;
# limits on memory and threads under which they fail leave the others alone.
set -euo pipefail

[ -z "$TROL_SANITIZE" ] || { echo "skipped: sanitizers need more memory than the limits leave"; exit 77; }
cli=$TROL_BUILD/trol-cli
model=$TROL_SOURCE/models/trol-tiny-internlm2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

# ask NAME [COMMAND PREFIX ...]: an answer of some tokens; its status in NAME.status, the files opened in NAME.files
ask() {
    local name=$folder/$1 status=0
    shift
    "$@" timeout 60 env LD_DEBUG=files LD_DEBUG_OUTPUT="$name.files" \
        "$cli" -m "$model" -q -t 2 -p "What is this?" -n 4 >"$name.out" 2>"$name.err" || status=$?
    echo "$status" >"$name.status"
    cat "$name".files.* >"$name.files"
}

opened() { grep -q "openblas" "$folder/$1.files"; }
limited() { (ulimit "$1" "$2"; shift 2; exec "$@"); }

for library in openblas heif; do
    ! ldd "$TROL_BUILD/libtrol.so" | grep -q $library || fail "libtrol.so is linked to $library"
done

(ulimit -v 30000; "$cli" --version >/dev/null) || fail "trol-cli does not start with little memory"
if grep -q "TROL_heif_HEADERS:PATH=/" "$TROL_BUILD/CMakeCache.txt"; then
    heic=$TROL_SOURCE/tests/reference/pictures/gradient.heic
    "$cli" -m "$model" -q --image "$heic" -p "What?" -n 1 >/dev/null || fail "a HEIC is not read"
    echo "not a library" >"$folder/libheif.so.1"
    LD_LIBRARY_PATH=$folder "$cli" -m "$model" -q --image "$heic" -p "What?" -n 1 2>"$folder/err" >/dev/null &&
        fail "a HEIC is read without libheif"
    grep -q "HEIC format, for which libheif is needed (packages libheif1 .*): .*libheif.so.1" "$folder/err" ||
        fail "without libheif: $(cat "$folder/err")"
    rm "$folder/libheif.so.1"
fi

ask plain env TROL_BLAS=none
[ "$(cat "$folder/plain.status")" = 0 ] || fail "an answer without it: $(cat "$folder/plain.err")"
! opened plain || fail "TROL_BLAS=none opens it"

if grep -qw avx2 /proc/cpuinfo; then
    ask own env
    ! opened own || fail "the kernels for AVX2 open it"
    ask memory limited -v 160000
    [ "$(cat "$folder/memory.status")" -le 1 ] || fail "with little memory: status $(cat "$folder/memory.status")"
    ask threads limited -u 1
    [ "$(cat "$folder/threads.status")" -le 1 ] || fail "without threads: status $(cat "$folder/threads.status")"
fi

# What multiplies is written to the log only where it is not our own kernels.
"$cli" -m "$model" -v -p "What?" -n 1 2>"$folder/log" >/dev/null
if grep -qw avx2 /proc/cpuinfo && grep -qi "openblas" "$folder/log"; then fail "the log speaks of OpenBLAS"; fi
TROL_CPU=scalar "$cli" -m "$model" -v -p "What?" -n 1 2>"$folder/log" >/dev/null
[ "$(grep -ci "openblas" "$folder/log")" = 1 ] || fail "no line in the log: $(cat "$folder/log")"

TROL_BLAS=nonsense "$cli" -m "$model" -q -p "What?" -n 1 2>"$folder/err" && fail "TROL_BLAS=nonsense is taken"
grep -q "expected openblas or none" "$folder/err" || fail "TROL_BLAS=nonsense: $(cat "$folder/err")"

ask forced env TROL_BLAS=openblas
if [ "$(cat "$folder/forced.status")" = 0 ]; then
    opened forced || fail "TROL_BLAS=openblas does not open it"
    cmp "$folder/plain.out" "$folder/forced.out" || fail "another answer with OpenBLAS"
else
    grep -q "libopenblas.so.0" "$folder/forced.err" || fail "TROL_BLAS=openblas: $(cat "$folder/forced.err")"
    echo "skipped: OpenBLAS is not installed"
    exit 77
fi
echo "libraries: all checks passed"
