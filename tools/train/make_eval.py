"""Writes a test set: make_eval.py OUT_DIR [--seed N] [--questions N] [--largest PIXELS]

OUT_DIR gets PNG files and questions.jsonl, one question a line: image, kind, question, answer (a right one),
accept and reject (the grading rule of README.md). Every picture is asked one question of each kind in turn.
The seed of the training is 1 and its pictures never come from the generator's state used here.
"""
import argparse
import json
import os

import numpy as np
from PIL import Image

import questions
import scenes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out_dir")
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--each", type=int, default=len(questions.KINDS), help="questions a picture")
    parser.add_argument("--largest", type=int, default=10000, help="no picture with a shorter side above this")
    args = parser.parse_args()
    rng = np.random.default_rng((args.seed, 0x7E57))
    os.makedirs(args.out_dir, exist_ok=True)
    lines, pictures = [], 0
    kinds = list(questions.KINDS)
    while len(lines) < args.questions:
        width, height = scenes.random_size(rng)
        if min(width, height) > args.largest:
            continue
        scene = scenes.random_scene(rng, width, height)
        pixels, _ = scenes.draw(scene, rng)
        name = f"{pictures:03d}.png"
        found = []
        for _ in kinds:
            kind = kinds.pop(0)
            kinds.append(kind)
            entry = questions.ask(scene, rng, kind)
            if entry and len(found) < args.each:
                found.append({"image": name, **entry})
            if len(found) == args.each:
                break
        Image.fromarray(pixels).save(os.path.join(args.out_dir, name), optimize=True)
        lines += found
        pictures += 1
    with open(os.path.join(args.out_dir, "questions.jsonl"), "w") as file:
        for line in lines[: args.questions]:
            file.write(json.dumps(line) + "\n")
    print(f"{args.questions} questions about {pictures} pictures")


if __name__ == "__main__":
    main()
