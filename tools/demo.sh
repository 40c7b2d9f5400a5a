#!/usr/bin/env bash
# Installs what is missing, builds, and asks a model questions about a picture.
set -euo pipefail
. "$(dirname "$0")/build.sh"

# ask MODEL PICTURE QUESTION
ask() {
    printf '\n    %s\n    > ' "$3"
    "$build/trol-cli" --quiet -m "$1" --image "$2" -p "$3" -n 64
}

# The string at KEY of a line of questions.jsonl.
field() { sed -E "s/.*\"$2\": \"([^\"]*)\".*/\1/" <<<"$1"; }

# ask_about MODEL PICTURE: the first questions that lie beside the bundled pictures.
ask_about() {
    local model=$1 image=$2 line
    printf '\n'
    say "${model##*/} looks at models/pictures/$image"
    while read -r line; do
        ask "$model" "$pictures/$image" "$(field "$line" question)"
    done < <(grep -F "\"image\": \"$image\"" "$pictures/questions.jsonl" | head -n 4)
}

build_trol -DTROL_BUILD_TESTS=OFF
pictures=$source/models/pictures
models=("$source"/models/trol-tiny-*/model.safetensors)
if [ -e "${models[0]}" ]; then
    for model in "${models[@]%/*}"; do
        ask_about "$model" balloons.png
        ask_about "$model" table.png
    done
    printf '\n'
    say "ask yourself: build/trol-cli --image models/pictures/night.png -p \"What is in the picture?\""
else
    say "no model is bundled: this is a reference case with random weights, so its answer is noise"
    case=$source/tests/reference/e2e-internlm2
    ask "$case" "$case/pictures/photo.png" "What is in the picture?"
fi
