#!/usr/bin/env bash
# A question from picture to answer, one of the other family, and a folder that does not load, under valgrind: no invalid access, no leak.
set -euo pipefail

[ -z "$TROL_SANITIZE" ] || { echo "skipped: valgrind and sanitizers do not go together"; exit 77; }
command -v valgrind >/dev/null || { echo "skipped: there is no valgrind here"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# check STATUS ARGUMENT ...: trol-cli under valgrind, which must end with STATUS.
check() {
    local expected=$1 status=0
    shift
    # fair-sched: one thread runs at a time, and one that waits for a worker spins
    valgrind --quiet --fair-sched=yes --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
        "$TROL_BUILD/trol-cli" --quiet -t 2 "$@" >"$work/output" 2>&1 || status=$?
    [ "$status" = "$expected" ] || { echo "FAILED: trol-cli $* ended with $status:"; cat "$work/output"; exit 1; }
}

case=$TROL_SOURCE/tests/reference/e2e-internlm2
check 0 -m "$case" --image "$case/pictures/tiny.png" -p "What is in the picture?" -n 3 --ignore-eos
case=$TROL_SOURCE/tests/reference/e2e-phi3 # without an image: its tiles would take minutes here
check 0 -m "$case" -p "What is a picture?" -n 3 --ignore-eos
mkdir "$work/broken"
cp "$case"/*.json "$case/tokenizer.model" "$case/trol_gating.pt" "$work/broken"
head -c 100000 "$case/model.safetensors" >"$work/broken/model.safetensors"
check 1 -m "$work/broken" -p "Hello"
echo "test-valgrind: clean"
