#!/usr/bin/env bash
# Libraries that are opened by name: OpenBLAS only by a process that multiplies with it, libheif only for its pictures;
# limits on memory and threads under which they fail leave the others alone.
set -euo pipefail

[ -z "$TROL_SANITIZE" ] || { echo "skipped: sanitizers need more memory than the limits leave"; exit 77; }
cli=$TROL_BUILD/trol-cli
. "$TROL_SOURCE/tests/common.sh"

# ask NAME [COMMAND PREFIX ...]: an answer of some tokens; its status in NAME.status, the files opened in NAME.files
ask() {
    local name=$work/$1 status=0
    shift
    "$@" timeout 60 env LD_DEBUG=files LD_DEBUG_OUTPUT="$name.files" \
        "$cli" -m "$model" -q -t 2 -p "What is this?" -n 4 >"$name.out" 2>"$name.err" || status=$?
    echo "$status" >"$name.status"
    cat "$name".files.* >"$name.files"
}

opened() { grep -q "openblas" "$work/$1.files"; }
limited() { (ulimit "$1" "$2"; shift 2; exec "$@"); }

for library in openblas heif; do
    ! ldd "$TROL_BUILD/libtrol.so" | grep -q $library || fail "libtrol.so is linked to $library"
done

(ulimit -v 30000; "$cli" --version >/dev/null) || fail "trol-cli does not start with little memory"
if grep -q "TROL_heif_HEADERS:PATH=/" "$TROL_BUILD/CMakeCache.txt"; then
    heic=$TROL_SOURCE/tests/reference/pictures/gradient.heic
    "$cli" -m "$model" -q --image "$heic" -p "What?" -n 1 >/dev/null || fail "a HEIC is not read"
    echo "not a library" >"$work/libheif.so.1"
    LD_LIBRARY_PATH=$work "$cli" -m "$model" -q --image "$heic" -p "What?" -n 1 2>"$work/err" >/dev/null &&
        fail "a HEIC is read without libheif"
    grep -q "HEIC format, for which libheif is needed (packages libheif1 .*): .*libheif.so.1" "$work/err" ||
        fail "without libheif: $(cat "$work/err")"
    rm "$work/libheif.so.1"
fi

ask plain env TROL_BLAS=none
[ "$(cat "$work/plain.status")" = 0 ] || fail "an answer without it: $(cat "$work/plain.err")"
! opened plain || fail "TROL_BLAS=none opens it"

if grep -qw avx2 /proc/cpuinfo; then
    ask own env
    ! opened own || fail "the kernels for AVX2 open it"
    ask memory limited -v 160000
    [ "$(cat "$work/memory.status")" -le 1 ] || fail "with little memory: status $(cat "$work/memory.status")"
    ask threads limited -u 1
    [ "$(cat "$work/threads.status")" -le 1 ] || fail "without threads: status $(cat "$work/threads.status")"
fi

# What multiplies is written to the log only where it is not our own kernels.
"$cli" -m "$model" -v -p "What?" -n 1 2>"$work/log" >/dev/null
if grep -qw avx2 /proc/cpuinfo && grep -qi "openblas" "$work/log"; then fail "the log speaks of OpenBLAS"; fi
TROL_CPU=scalar "$cli" -m "$model" -v -p "What?" -n 1 2>"$work/log" >/dev/null
[ "$(grep -ci "openblas" "$work/log")" = 1 ] || fail "no line in the log: $(cat "$work/log")"

TROL_BLAS=nonsense "$cli" -m "$model" -q -p "What?" -n 1 2>"$work/err" && fail "TROL_BLAS=nonsense is taken"
grep -q "expected openblas or none" "$work/err" || fail "TROL_BLAS=nonsense: $(cat "$work/err")"

ask forced env TROL_BLAS=openblas
if [ "$(cat "$work/forced.status")" = 0 ]; then
    opened forced || fail "TROL_BLAS=openblas does not open it"
    cmp "$work/plain.out" "$work/forced.out" || fail "another answer with OpenBLAS"
else
    grep -q "libopenblas.so.0" "$work/forced.err" || fail "TROL_BLAS=openblas: $(cat "$work/forced.err")"
    echo "skipped: OpenBLAS is not installed"
    exit 77
fi
echo "libraries: all checks passed"
