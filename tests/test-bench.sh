#!/usr/bin/env bash
# trol-bench measures what the options ask for, in each format, and refuses what it does not know.
set -euo pipefail

bench=$TROL_BUILD/trol-bench
. "$TROL_SOURCE/tests/common.sh"
model=$case

# load, picture, three prompts of each length, answers in two modes; for each of two types and two numbers of threads.
rows=$("$bench" -m "$model" --type as-stored,q8 -t 1,2 --prompt 9,60 --context 5 -n 2 --repeats 2 --picture --format csv)
[ "$(wc -l <<<"$rows")" = $((1 + 4 * (1 + 1 + 2 * 3 + 2))) ] || fail "unexpected rows: $rows"
columns=$(awk -F, '{print NF}' <<<"$rows" | sort -u)
[ "$(wc -l <<<"$columns")" = 1 ] || fail "the rows have different numbers of columns: $columns"
[ "$(awk -F, 'NR > 1 && $NF != 0' <<<"$rows")" = "" ] || fail "without --peaks a row has a share: $rows"
grep -q ",f16,as-stored,2,prompt+img,all,0,60," <<<"$rows" || fail "no traversed prompt with a picture: $rows"
grep -q ",q8,as-stored,1,answer,off,5,2," <<<"$rows" || fail "no answer of 8-bit weights: $rows"

json=$("$bench" -m "$model" --prompt 9 --context 0 --repeats 1 --traversal off --format json)
[[ $json == '[{"model"'*'"traversal": "off"'*'}]' ]] || fail "the JSON is $json"
table=$("$bench" -m "$model" --prompt 9 --repeats 1)
grep -qE "^f16 .* prompt +off +9 " <<<"$table" || fail "the table has no such row: $table"

peaks=$("$bench" -m "$model" --peaks --prompt 9 --repeats 1 --traversal off --picture --picture-size 20x9 --format csv 2>/dev/null)
[ "$(awk -F, 'NR > 1 && $7 != "load" && $NF > 0' <<<"$peaks" | wc -l)" = 3 ] || fail "picture, prompt and answer have no share of a peak: $peaks"

for arguments in "--type q5" "--prompt 9,x" "--format xml" "--synth TroL-9B" "--prompt 9 --repeats 0" "--peaks --picture-size 5x" ""; do
    status=0
    # shellcheck disable=SC2086
    printed=$("$bench" $arguments 2>&1) || status=$?
    [ $status != 0 ] && [ -n "$printed" ] || fail "trol-bench $arguments ended with $status and printed '$printed'"
done
status=0
printed=$("$bench" -m "$model" --prompt 9 --context 0 --repeats 1 2>&1 >/dev/full) || status=$?
[ $status = 1 ] && [[ $printed == *"standard output cannot be written: No space left on device" ]] || fail "a full disk: status $status, $printed"
status=0
printed=$("$bench" --help 2>&1 >/dev/full) || status=$?
[ $status = 1 ] && [[ $printed == *"standard output cannot be written"* ]] || fail "--help to a full disk: status $status, $printed"

# A signal leaves no random weights behind.
TMPDIR=$work "$bench" --synth TroL-1.8B --layers 1 --vision-layers 1 --prompt 9 >/dev/null 2>&1 &
process=$!
for _ in $(seq 500); do
    [ -n "$(ls "$work")" ] && break
    sleep 0.02
done
kill -HUP $process
wait $process && fail "SIGHUP: status 0"
[ -z "$(ls "$work")" ] || fail "SIGHUP left $(ls "$work")"
echo "test-bench: all well"
