#!/usr/bin/env bash
# trol-quantize: options at any place, what it refuses, and that a failure leaves nothing behind.
set -euo pipefail

quantize=$TROL_BUILD/trol-quantize
case=$TROL_SOURCE/tests/reference/e2e-internlm2
work=$(mktemp -d -p "$TROL_BUILD")
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

# expect STATUS TEXT ARGUMENT ...: it ends with STATUS and says TEXT on standard error.
expect() {
    local expected=$1 text=$2 status=0
    shift 2
    "$quantize" "$@" >/dev/null 2>"$work/said" || status=$?
    [ $status = "$expected" ] || fail "trol-quantize $* ended with $status, expected $expected: $(cat "$work/said")"
    grep -qF -- "$text" "$work/said" || fail "trol-quantize $* did not say '$text': $(cat "$work/said")"
}

"$quantize" "$case" "$work/a" --type q4 --quiet
"$quantize" --type q4 "$case" --quiet "$work/b"
cmp "$work/a/model.safetensors" "$work/b/model.safetensors" || fail "options in front make another file"
expect 2 "usage" "$case"
expect 2 "unexpected argument" "$case" "$work/c" more
expect 2 "--type is \"q5\"" "$case" --type q5 "$work/c"
expect 1 "model.safetensors: the file exists already (--force" "$case" "$work/a"
rm "$work/a/model.safetensors"
expect 1 "the file exists already (--force" "$case" "$work/a"
[ ! -e "$work/a/model.safetensors" ] || fail "weights beside files of another"
"$quantize" --force "$case" "$work/a" --type q4
cmp "$work/a/model.safetensors" "$work/b/model.safetensors" || fail "--force makes another file"

status=0
(ulimit -f 200 && "$quantize" "$case" "$work/c" 2>"$work/said") || status=$?
[ $status = 1 ] && grep -q "model.safetensors: the file cannot be written" "$work/said" || fail "a file that does not fit: status $status"
[ ! -e "$work/c" ] || fail "left behind: $(ls "$work/c")"
status=0
"$quantize" --help >/dev/full 2>"$work/said" || status=$?
[ $status = 1 ] && grep -q "standard output cannot be written" "$work/said" || fail "--help to a full disk: status $status"
echo "test-quantize: all well"
