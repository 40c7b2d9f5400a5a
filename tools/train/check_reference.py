"""Compares model.py with what the authors' code computed: check_reference.py REFERENCE_DIR

Every case folder with a case.json is loaded and each recorded tensor compared; the largest difference
is given as a share of the tensor's largest magnitude. Exit status 1 if any is above 1e-4 or if a
greedy token differs.
"""
import json
import os
import sys

import torch
from safetensors.torch import load_file

import model as trol


@torch.no_grad()
def check(folder):
    case = json.load(open(os.path.join(folder, "case.json")))
    want = load_file(os.path.join(folder, "reference.safetensors"))
    model = trol.load(folder)
    ids, image_id = case["input_ids"], case["image_token_index"]
    worst = {}

    def compare(name, got):
        expected = want[name].float()
        got = got.reshape(expected.shape)
        worst[name] = float((got - expected).abs().max() / expected.abs().max())

    features = None
    if "pixel_values" in want:
        _, vision = model.encode(want["pixel_values"].float())
        compare("vision_features", vision)
        features = model.vision_proj(vision)
        compare("image_embeds", features)
        features = features.flatten(0, 1)
    run = trol.Run(model, ids, image_id, features, "prompt")
    for name in ("layer_in", "pass1_out", "gate"):
        compare(name, torch.stack([layer[name][0] for layer in run.trace]))
    compare("prefill_logits", run.prefill_logits)
    wrong = []
    for mode in ("prompt", "all", "off"):
        greedy = case[f"{mode}_greedy"]
        tokens, logits = trol.generate(model, ids, image_id, features, mode, len(greedy))
        compare(f"{mode}_logits", logits)
        if tokens != greedy:
            wrong.append(mode)
    return worst, wrong


def main():
    failed = False
    root = sys.argv[1]
    for name in sorted(os.listdir(root)):
        folder = os.path.join(root, name)
        if not os.path.exists(os.path.join(folder, "case.json")):
            continue
        worst, wrong = check(folder)
        failed |= bool(wrong) or max(worst.values()) > 1e-4
        figures = " ".join(f"{key} {value:.1e}" for key, value in worst.items())
        print(f"{name}: {figures}; tokens {'differ in ' + ' '.join(wrong) if wrong else 'equal'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
