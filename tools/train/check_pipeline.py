"""Compares pictures.py and text.py with the authors' pipeline: check_pipeline.py REFERENCE_DIR

Resizes to the byte, grids, prompts of the end-to-end cases token by token, their first logits and greedy tokens.
"""
import json
import os
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

import model as trol
import pictures
import text


def main():
    root, failed = sys.argv[1], False
    for width, height, i, j in json.load(open(os.path.join(root, "grid", "grids.json"))):
        failed |= pictures.choose_grid(width, height, 448) != (i, j)
    print("grids", "differ" if failed else "equal")
    for case in json.load(open(os.path.join(root, "resize", "resizes.json"))):
        source = pictures.open_rgb(os.path.join(root, "resize", case["input"]))
        want = pictures.open_rgb(os.path.join(root, "resize", case["output"]))
        if case["kind"] == "torch":
            got = pictures.resize_clip(source, case["width"], case["height"])
        else:
            got = np.asarray(pictures.resize_pillow(Image.fromarray(source), case["width"], case["height"]))
        if not np.array_equal(got, want):
            failed = True
            print("resize", case, "differs")
    for name in ("e2e-internlm2", "e2e-phi3"):
        failed |= not check_end_to_end(os.path.join(root, name))
    sys.exit(1 if failed else 0)


@torch.no_grad()
def check_end_to_end(folder):
    model, tokenizer = trol.load(folder), text.Tokenizer(folder)
    first = load_file(os.path.join(folder, "questions.safetensors"))["first_logits"]
    wrong_ids = wrong_tokens = lines = 0
    worst = 0.0
    for row, line in zip(first, open(os.path.join(folder, "questions.jsonl"))):
        case = json.loads(line)
        features, tiles = None, []
        if case["image"]:
            cut, _ = pictures.to_tiles(pictures.open_rgb(os.path.join(folder, "pictures", case["image"])), model.config)
            _, vision = model.encode(pictures.normalize(torch.from_numpy(np.array(cut)), model.config))
            features, tiles = model.vision_proj(vision).flatten(0, 1), [len(cut)]
        ids = tokenizer.prompt(case["question"], model.config.tile_tokens, tiles)
        lines += 1
        if ids != case["input_ids"]:
            wrong_ids += 1
            continue
        tokens, logits = trol.generate(model, ids, tokenizer.image_id, features, "prompt", len(case["tokens"]))
        wrong_tokens += tokens != case["tokens"]
        worst = max(worst, float((logits[0] - row).abs().max() / row.abs().max()))
    print(f"{folder}: {lines} questions, other ids {wrong_ids}, other tokens {wrong_tokens}, first logits within {worst:.1e}")
    return not wrong_ids and not wrong_tokens and worst < 1e-4


if __name__ == "__main__":
    main()
