#!/usr/bin/env bash
# trol-eval: grading and reporting on a set made here; then the bundled models on their committed sample of questions,
# which must not fall below a floor in any type of weights.
set -u
eval_tool=$TROL_BUILD/trol-eval
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    failed=1
}

# ---- grading of fixed answers ----

# The model's weights are random, but its answer is always the same: a first run shows it, then questions whose accept
# and reject lists are made from it must be graded by the lists.
case=$TROL_SOURCE/tests/reference/e2e-internlm2
cp "$case/pictures/photo.png" "$folder"
ask='"image": "photo.png", "question": "Is there a circle here?"'
printf '{%s, "kind": "first", "answer": "Yes.", "accept": [["no such words"]], "reject": []}\n' "$ask" >"$folder/questions.jsonl"
"$eval_tool" -m "$case" --eval "$folder" -n 20 --errors "$folder/errors" >/dev/null || fail "exit status $? of the first run"
found=$(sed -E 's/.*"found":"(.*)","type".*/\1/; s/\\(u[0-9a-f]{4}|.)/ /g' "$folder/errors" | LC_ALL=C tr 'A-Z' 'a-z' | LC_ALL=C tr -cs 'a-z0-9' ' ')
read -r first second _ <<<"$found"
if [ -z "${second-}" ]; then
    fail "the first run's answer has fewer than two words: $(cat "$folder/errors")"
else
    {
        printf '{%s, "kind": "right", "accept": [["no such words"], ["%s %s", "%s"]], "reject": ["%s %s"]}\n' "$ask" "$first" "$second" "${second^^}" "$second" "$first x"
        printf '\n{%s, "kind": "rejected", "accept": [["%s"]], "reject": ["nothing", "%s"]}\n' "$ask" "$first" "$second"
        printf '{%s, "kind": "incomplete", "accept": [["%s", "no such words"]]}\n' "$ask" "$first"
        printf '{%s, "kind": "part", "accept": [["%s"]], "reject": []}\n' "$ask" "${first}x"
    } >"$folder/questions.jsonl"
    table=$("$eval_tool" -m "$case" --eval "$folder" -n 20 --csv --traversal prompt --floor right=100,25) || fail "floors that are reached: exit status $?"
    for line in prompt,right,1,1,100.00 prompt,rejected,1,0,0.00 prompt,incomplete,1,0,0.00 prompt,part,1,0,0.00 prompt,total,4,1,25.00; do
        grep -q ",$line\$" <<<"$table" || fail "no line $line in: $table"
    done
    "$eval_tool" -m "$case" --eval "$folder" -n 20 --floor 26 >"$folder/out" 2>&1 && fail "a floor that is missed: exit status 0"
    grep -q '25.0% of total are right, expected at least 26%' "$folder/out" || fail "a floor that is missed: $(cat "$folder/out")"
fi

# ---- output that cannot be written, and ^C ----

"$eval_tool" -m "$case" --eval "$folder" -n 2 >/dev/full 2>"$folder/out"
[ $? = 1 ] && grep -q 'standard output cannot be written: No space left on device' "$folder/out" || fail "a full disk: $(cat "$folder/out")"
"$eval_tool" -m "$case" --eval "$folder" -n 2 --errors /dev/full >"$folder/out" 2>&1
[ $? = 1 ] && grep -q '/dev/full cannot be written' "$folder/out" || fail "--errors /dev/full: $(cat "$folder/out")"
for _ in $(seq 2000); do cat "$folder/questions.jsonl"; done >"$folder/many"
mkdir "$folder/long"
cp "$folder/photo.png" "$folder/long"
mv "$folder/many" "$folder/long/questions.jsonl"
echo old >"$folder/errors"
"$eval_tool" -m "$case" --eval "$folder/long" --errors "$folder/errors" >/dev/null 2>&1 &
process=$!
sleep 0.5
kill -INT $process
wait $process
[ $? = 130 ] || fail "^C: status $?"
[ "$(cat "$folder/errors")" = old ] && ! compgen -G "$folder/errors.*" >/dev/null || fail "^C: the old errors are gone, or new ones half-written"

# ---- broken sets ----

expect_usage() { # MESSAGE ARGUMENT...
    message=$("$eval_tool" -m "$case" --eval "$folder" "${@:2}" 2>&1)
    [ $? = 2 ] && grep -q -- "$1" <<<"$message" || fail "trol-eval ${*:2}: $message"
}
expect_usage '--type is "q8,q8", expected' --type q8,q8
expect_usage '--traversal is "half", expected' --traversal half
expect_usage '--floor is "right=101", expected' --floor right=101
expect_usage '--limit is "0", expected' --limit 0
expect_usage '--traversal-skip is "2", expected' --traversal-skip=2
expect_usage '--errors is "", expected a name' --errors ''
expect_usage 'unknown option --foo' --foo
"$eval_tool" 2>&1 | grep -q '^usage: trol-eval' || fail "no arguments: no usage"

expect_error() {
    message=$("$eval_tool" -m "$case" --eval "$folder" 2>&1 >/dev/null)
    [ $? = 1 ] && grep -q "$1" <<<"$message" || fail "expected an error with \"$1\", got: $message"
}
echo '{"image": "photo.png", "question": ' >"$folder/questions.jsonl"
expect_error 'line 1: expected a JSON object'
echo '{"image": "photo.png", "question": "What?", "kind": "a", "accept": ["red"]}' >"$folder/questions.jsonl"
expect_error 'line 1: expected "accept"'
echo '{"image": "none.png", "question": "What?", "kind": "a", "accept": [["red"]]}' >"$folder/questions.jsonl"
expect_error 'none.png'
: >"$folder/questions.jsonl"
expect_error 'no questions'

# ---- the bundled models ----

# Percent of all questions: a few points below what the models reach, so that a change that loses answers is noticed.
floor=87
models=("$TROL_SOURCE"/models/trol-tiny-*/model.safetensors)
sample=$TROL_SOURCE/models/eval-sample
if [ ! -e "${models[0]}" ] || [ ! -e "$sample/questions.jsonl" ]; then
    echo "no bundled model or no sample of questions: the accuracy is not tested"
    [ $failed = 0 ] && exit 77
    exit 1
fi
for model in "${models[@]%/*}"; do
    "$eval_tool" -m "$model" --eval "$sample" --type as-stored,q8 --traversal prompt --floor $floor || fail "$model"
done
exit $failed
