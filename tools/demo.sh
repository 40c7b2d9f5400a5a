#!/usr/bin/env bash
# Installs what is missing, builds, and asks a model questions about a picture.
set -euo pipefail
. "$(dirname "$0")/build.sh"

# ask MODEL PICTURE QUESTION
ask() {
    printf '\n    %s\n    > ' "$3"
    "$build/trol-cli" -m "$1" --image "$2" -p "$3" -n 64 --quiet
}

build_trol -DTROL_BUILD_TESTS=OFF
models=("$source"/models/trol-tiny-*/model.safetensors)
if [ -e "${models[0]}" ]; then
    for model in "${models[@]%/*}"; do
        say "$(basename "$model") about ${picture#"$source"/}"
    done
else
    say "No model is bundled yet: this is a reference case with random weights, so its answers are noise."
    case=$source/tests/reference/e2e-internlm2
    ask "$case" "$case/pictures/photo.png" "What is in the picture?"
fi
