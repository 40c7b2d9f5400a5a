#!/usr/bin/env bash
# trol-quantize: options at any place, what it refuses, and that a failure leaves nothing behind.
set -euo pipefail

quantize=$TROL_BUILD/trol-quantize
tool=$quantize
. "$TROL_SOURCE/tests/common.sh"

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
(ulimit -f 200 && "$quantize" "$case" "$work/c" 2>"$work/printed") || status=$?
[ $status = 1 ] && grep -q "model.safetensors cannot be written" "$work/printed" || fail "a file that does not fit: status $status"
[ ! -e "$work/c" ] || fail "left behind: $(ls "$work/c")"
status=0
"$quantize" --help >/dev/full 2>"$work/printed" || status=$?
[ $status = 1 ] && grep -q "standard output cannot be written" "$work/printed" || fail "--help to a full disk: status $status"

# Interrupted while it works: one word for it, the signal in the status, nothing left. A signal that comes too early or too
# late for that proves nothing, so several are tried.
for delay in 0.01 0.02 0.03 0.04 0.05 0.06 0.08 0.1 0.15 0.2; do
    "$quantize" "$case" "$work/c" -t 1 2>"$work/printed" &
    process=$!
    sleep $delay
    kill -TERM $process 2>/dev/null || true
    status=0
    wait $process || status=$?
    if [ -s "$work/printed" ]; then
        [ $status = 143 ] && grep -q "^trol-quantize: interrupted" "$work/printed" ||
            fail "interrupted: status $status, $(cat "$work/printed")"
    fi
    [ $status = 0 ] || [ ! -e "$work/c" ] || fail "interrupted, and left behind: $(ls "$work/c")"
    rm -rf "$work/c"
done
echo "test-quantize: all well"
