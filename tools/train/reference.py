"""Reference results of an exported model for the C tests: reference.py MODEL_DIR EVAL_DIR OUT_DIR [--lines N]

OUT_DIR gets questions.jsonl (image, question, input_ids, tiles, tokens, all_tokens, off_tokens, answer and
closest_call, the smallest lead of a chosen token over the next in mode `prompt`) and questions.safetensors
(first_logits, all_first_logits, off_first_logits, [lines, vocabulary] float32). Tokens are greedy, the end
token included, 40 at most. float32 arithmetic on the weights as stored.
"""
import argparse
import json
import os

import torch
from safetensors.torch import save_file

from ask import Asker

LIMIT = 40


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model_dir")
    parser.add_argument("eval_dir")
    parser.add_argument("out_dir")
    parser.add_argument("--lines", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)  # rows come one at a time: more threads only wait for each other
    asker = Asker(args.model_dir)
    entries = [json.loads(line) for line in open(os.path.join(args.eval_dir, "questions.jsonl"))]
    step = max(1, len(entries) // args.lines)
    os.makedirs(args.out_dir, exist_ok=True)
    lines, first = [], {"prompt": [], "all": [], "off": []}
    for entry in entries[::step][: args.lines]:
        path = os.path.join(args.eval_dir, entry["image"])
        line = {"image": entry["image"], "question": entry["question"], "input_ids": asker.prompt(path, entry["question"])}
        line["tiles"] = asker.tiles[0]
        for mode, key in (("prompt", "tokens"), ("all", "all_tokens"), ("off", "off_tokens")):
            line[key], logits = asker.generate(path, entry["question"], mode, LIMIT)
            first[mode].append(logits[0])
            if mode == "prompt":
                best = logits.topk(2).values
                line["closest_call"] = float((best[:, 0] - best[:, 1]).min())
        line["answer"] = asker.tokenizer.decode(line["tokens"])
        lines.append(line)
    with open(os.path.join(args.out_dir, "questions.jsonl"), "w") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")
    path = os.path.join(args.out_dir, "questions.safetensors")
    save_file({("" if mode == "prompt" else mode + "_") + "first_logits": torch.stack(rows) for mode, rows in first.items()},
              path)
    os.chmod(path, 0o644)


if __name__ == "__main__":
    main()
