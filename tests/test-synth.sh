#!/usr/bin/env bash
# trol-synth writes folders that the engine loads, and leaves nothing behind where it fails.
set -euo pipefail

synth=$TROL_BUILD/trol-synth
. "$TROL_SOURCE/tests/common.sh"

for model in TroL-1.8B TroL-3.8B; do
    family=$([ $model = TroL-3.8B ] && echo phi3 || echo internlm2)
    "$synth" $model "$work/$model" --layers 1 --vision-layers 1 --tokenizer "$TROL_SOURCE/tests/reference/e2e-$family"
    "$TROL_BUILD/trol-inspect" "$work/$model" >"$work/inspected" || { cat "$work/inspected"; fail "$model does not load"; }
    grep -q "model.layers.0" "$work/inspected" || fail "trol-inspect does not list the tensors of $model"
done

status=0
"$synth" TroL-1.8B "$work/TroL-1.8B" --layers 1 --vision-layers 1 2>"$work/printed" || status=$?
[ $status = 1 ] && grep -q "exists already" "$work/printed" || fail "it overwrites a model without --force"

mkdir "$work/small"
status=0
(ulimit -f 1000 && "$synth" TroL-1.8B "$work/small" --layers 1 2>"$work/printed") || status=$?
[ $status = 1 ] && grep -q "cannot be written" "$work/printed" || fail "a file that does not fit is no error"
[ -z "$(ls "$work/small")" ] || fail "left behind: $(ls "$work/small")"

status=0
"$synth" TroL-9B "$work/small" 2>"$work/printed" || status=$?
[ $status = 1 ] && grep -q "TroL-9B, expected" "$work/printed" || fail "an unknown model is no error"

expect_usage() { # MESSAGE ARGUMENT...
    status=0
    "$synth" "${@:2}" >"$work/printed" 2>&1 || status=$?
    [ $status = 2 ] && grep -q -- "$1" "$work/printed" || fail "trol-synth ${*:2}: status $status, $(cat "$work/printed")"
}
expect_usage 'usage: trol-synth' TroL-1.8B
expect_usage '--layers is "0", expected a whole number from 1 to 1000' TroL-1.8B "$work/small" --layers 0
expect_usage '--dtype is "q8", expected f16, bf16 or f32' TroL-1.8B "$work/small" --dtype=q8
expect_usage 'unexpected argument third' TroL-1.8B "$work/small" third
expect_usage 'unknown option --sed' TroL-1.8B "$work/small" --sed 1
expect_usage '--seed needs a value' TroL-1.8B "$work/small" --seed
"$synth" --help | grep -q '^usage: trol-synth' || fail "--help"
echo "test-synth: all well"
