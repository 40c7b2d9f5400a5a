#!/usr/bin/env bash
# trol-inspect: its reports on complete and broken folders, and the files that --dump writes.
set -euo pipefail

inspect=$TROL_BUILD/trol-inspect
. "$TROL_SOURCE/tests/common.sh"

# shows STATUS LINE ARGUMENT ...: trol-inspect ends with STATUS and prints a line that matches LINE.
shows() {
    local expected=$1 line=$2 status=0
    shift 2
    "$inspect" "$@" >"$work/printed" 2>&1 || status=$?
    [ $status = "$expected" ] || fail "trol-inspect $* ended with $status, expected $expected: $(cat "$work/printed")"
    grep -qE -- "$line" "$work/printed" || fail "trol-inspect $* printed no line like '$line': $(cat "$work/printed")"
}

shows 0 "the model +loads" "$case"
shows 0 "F16 .*\[128, 64\] .* model.layers.2.attention.wqkv.ffn.weight" "$case"
shows 0 "<image> is 640" "$case" --no-tensors
shows 1 "nowhere" "$work/nowhere"
shows 2 '--dump is "nonsense", expected pixels, .* or logits' "$case" --dump nonsense
shows 2 '--layer is "-1", expected a whole number from 0' "$case" --dump gate --layer -1
shows 2 'unexpected argument more' "$case" more
shows 2 'needed for the stage gate' --dump gate "$case"

# Without one file at a time; everything else is still reported.
for file in config.json model.safetensors trol_gating.pt tokenizer.model; do
    rm -rf "$work/broken"
    mkdir "$work/broken"
    cp "$case"/*.json "$case/model.safetensors" "$case/trol_gating.pt" "$case/tokenizer.model" "$work/broken"
    rm "$work/broken/$file"
    case $file in
    tokenizer.model) shows 0 "missing" "$work/broken" ;;
    *) shows 1 "NOT OK: .*${file%.safetensors}" "$work/broken" ;;
    esac
    if [ $file != config.json ]; then
        grep -q "config.json *ok" "$work/printed" || fail "config.json is not reported without $file"
    fi
    if [ $file != trol_gating.pt ]; then
        grep -q "trol_gating.pt *ok" "$work/printed" || fail "trol_gating.pt is not reported without $file"
    fi
done

# Dangling links, and a tokenizer without the template's tokens, are reported.
for file in tokenizer.model added_tokens.json; do
    rm -f "$work/broken"/*
    cp "$case"/*.json "$case/model.safetensors" "$case/trol_gating.pt" "$case/tokenizer.model" "$work/broken"
    ln -sf nowhere "$work/broken/$file"
    shows 1 "NOT OK: .*/$file is a link to a file that is not there" "$work/broken"
done
rm "$work/broken/added_tokens.json" "$work/broken/tokenizer_config.json"
echo '{}' >"$work/broken/tokenizer_config.json"
cp --remove-destination "$case/tokenizer.model" "$work/broken"
shows 1 "NOT OK: tokenizer_config.json: <s> is not a special token" "$work/broken"
status=0
"$TROL_BUILD/trol-cli" -m "$work/broken" -p a >"$work/printed" 2>&1 || status=$?
[ $status = 1 ] && grep -q "tokenizer_config.json: <s> is not a special token" "$work/printed" || fail "without added tokens: $(cat "$work/printed")"

# Standard output that cannot be written.
for arguments in "$case" "--help" "$case --dump pixels -o $work/full.npy --image $case/pictures/photo.png"; do
    status=0
    # shellcheck disable=SC2086
    "$inspect" $arguments >/dev/full 2>"$work/printed" || status=$?
    [ $status = 1 ] && [ "$(cat "$work/printed")" = "trol-inspect: standard output cannot be written: No space left on device" ] ||
        fail "trol-inspect $arguments, full: status $status, $(cat "$work/printed")"
done

# dump STAGE SHAPE ARGUMENT ...: the header has SHAPE, and the file's length fits it.
dump() {
    local stage=$1 shape=$2 values=1 size
    shift 2
    "$inspect" "$case" --dump "$stage" -o "$work/$stage.npy" "$@" >/dev/null
    head -c 192 "$work/$stage.npy" | grep -aqF "'shape': ($shape," || fail "$stage: $(head -c 192 "$work/$stage.npy")"
    for size in ${shape//,/ }; do values=$((values * size)); done
    size=$(stat -c %s "$work/$stage.npy")
    [ "$size" = $((192 + 4 * values)) ] || fail "$stage has $size bytes for [$shape]"
}
image=(--image "$case/pictures/photo.png")
# Both families get the same pixels from each picture as from the PNG beside it, which holds the reference's pixels.
for family in e2e-internlm2 e2e-phi3; do
    for kind in jpg webp; do
        files=() expected=()
        for file in "$TROL_SOURCE"/tests/reference/pictures/*."$kind"; do
            files+=(--image "$file") expected+=(--image "$file.png")
        done
        [ ${#files[@]} -ge 12 ] || fail "only ${#files[@]} $kind"
        if ! "$inspect" "$TROL_SOURCE/tests/reference/$family" --dump pixels -o "$work/a.npy" "${files[@]}" >/dev/null 2>"$work/printed"; then
            [ $kind = webp ] && grep -q "built without" "$work/printed" && continue
            fail "$kind: $(cat "$work/printed")"
        fi
        [ ! -s "$work/printed" ] || fail "$kind: $(cat "$work/printed")"
        "$inspect" "$TROL_SOURCE/tests/reference/$family" --dump pixels -o "$work/b.npy" "${expected[@]}" >/dev/null
        cmp "$work/a.npy" "$work/b.npy" || fail "$kind, $family: other pixels than the reference's"
    done
done
echo "1 5 9 11 2" >"$work/tokens"
dump pixels "1, 3, 98, 98" "${image[@]}"
dump vision_features "2, 49, 48" "${image[@]}" "${image[@]}"
dump image_embeds "1, 49, 64" "${image[@]}"
dump embeddings "5, 64" --tokens "$work/tokens"
dump pass1 "3, 5, 64" --tokens "$work/tokens"
dump pass2 "1, 5, 64" --tokens "$work/tokens" --layer 1
dump gate "3, 5" --tokens "$work/tokens"
dump layer "3, 5, 64" --tokens "$work/tokens"
dump logits "5, 640" --tokens "$work/tokens"

echo "1 5 99999" >"$work/tokens"
shows 1 "$work/tokens: token 3 is 99999" "$case" --dump gate --tokens "$work/tokens" -o "$work/none.npy"
! compgen -G "$work/none.npy*" >/dev/null || fail "a failed run left a file"
echo "test-inspect: all well"
