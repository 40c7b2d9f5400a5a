"""Draws the pictures of tools/demo.sh: make_pictures.py OUT_DIR [MODEL_DIR ...]

Six scenes by hand on quiet backgrounds. questions.jsonl gets the questions below that all given models answer
right (all of them if none is given), with the fields of make_eval.py.
"""
import json
import os
import sys

import numpy as np
from PIL import Image

import questions
import scenes

WIDTH, HEIGHT = 480, 400
# name, upper and lower background colour, objects as (colour word, RGB, shape, x, y, size) in shares of the picture
SCENES = (
    ("balloons", (214, 233, 245), (160, 200, 230), (("red", (214, 40, 40), "heart", 0.27, 0.45, 0.42), ("yellow", (250, 214, 40), "star", 0.72, 0.5, 0.42))),
    ("night", (22, 26, 58), (58, 48, 96), (("white", (250, 250, 246), "circle", 0.74, 0.3, 0.3), ("yellow", (250, 216, 60), "star", 0.28, 0.66, 0.36))),
    ("lawn", (206, 224, 190), (160, 196, 140), (("purple", (126, 52, 176), "diamond", 0.3, 0.34, 0.36), ("orange", (246, 140, 24), "triangle", 0.68, 0.66, 0.38))),
    ("table", (236, 224, 204), (214, 194, 164), (("blue", (32, 84, 200), "square", 0.24, 0.6, 0.34), ("green", (40, 150, 70), "ring", 0.55, 0.28, 0.3), ("red", (206, 36, 44), "circle", 0.78, 0.66, 0.34))),
    ("slate", (72, 80, 92), (110, 120, 134), (("white", (246, 246, 246), "cross", 0.3, 0.5, 0.4), ("orange", (248, 146, 30), "heart", 0.72, 0.5, 0.34))),
    ("paper", (246, 244, 238), (226, 222, 212), (("black", (24, 24, 26), "triangle", 0.25, 0.3, 0.3), ("red", (210, 38, 42), "triangle", 0.72, 0.3, 0.3), ("blue", (36, 88, 204), "circle", 0.3, 0.73, 0.28), ("green", (44, 154, 76), "cross", 0.73, 0.73, 0.3))),
)


def main():
    out, models = sys.argv[1], sys.argv[2:]
    os.makedirs(out, exist_ok=True)
    lines = []
    for number, (name, upper, lower, objects) in enumerate(SCENES):
        ramp = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None, None]
        canvas = np.broadcast_to(np.array(upper, np.float32) * (1 - ramp) + np.array(lower, np.float32) * ramp, (HEIGHT, WIDTH, 3)).copy()
        scene = {"width": WIDTH, "height": HEIGHT, "objects": []}
        for i, (colour, rgb, shape, x, y, size) in enumerate(objects):
            rng = np.random.default_rng((number, i))
            points, hole = scenes.polygon(shape, rng)
            o = {"shape": shape, "colour": colour, "x": x * WIDTH, "y": y * HEIGHT, "size": size * HEIGHT}
            mask, left, top = scenes.object_mask(points, hole, (o["x"], o["y"]), o["size"] / 2 / np.abs(points).max(), True)
            scenes.blend(canvas, mask, left, top, np.array(rgb, np.float32))
            scene["objects"].append(o)
        path = os.path.join(out, f"{name}.png")
        Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).save(path, optimize=True)
        rng = np.random.default_rng((number, 77))
        for kind in ("describe", "colour", "shape", "count", "position", "yesno", "compare") * 2:
            entry = questions.ask(scene, rng, kind)
            if entry and entry["question"][0].isupper() and entry["question"][-1] in "?.":
                lines.append({"image": f"{name}.png", **entry})
    if models:
        from ask import Asker
        for asker in map(Asker, models):
            lines = [e for e in lines if questions.grade(e, asker.answer(os.path.join(out, e["image"]), e["question"]))]
    with open(os.path.join(out, "questions.jsonl"), "w") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")
    print(f"{len(lines)} questions about {len(SCENES)} pictures")


if __name__ == "__main__":
    main()
