"""Answers of an exported model by model.py, with the same steps as the C engine.

    ask.py MODEL_DIR EVAL_DIR [--mode prompt|all|off] [--limit N]   accuracy by kind over EVAL_DIR/questions.jsonl
    ask.py MODEL_DIR PICTURE QUESTION                               one answer
"""
import argparse
import collections
import itertools
import json
import os

import numpy as np
import torch

import data
import model as trol
import packed
import pictures
import questions
import text


class Asker:
    """A loaded model folder; features of the last picture are kept."""

    def __init__(self, folder):
        self.model, self.tokenizer = trol.load(folder), text.Tokenizer(folder)
        self.path, self.features, self.tiles = None, None, []

    @torch.no_grad()
    def prompt(self, path, question):
        """Token ids of the prompt; the picture's features are in self.features [I, H]."""
        if path != self.path:
            cut, _ = pictures.to_tiles(pictures.open_rgb(path), self.model.config)
            _, vision = self.model.encode(pictures.normalize(torch.from_numpy(np.array(cut)), self.model.config))
            self.path, self.features, self.tiles = path, self.model.vision_proj(vision).flatten(0, 1), [len(cut)]
        return self.tokenizer.prompt(question, self.model.config.tile_tokens, self.tiles)

    def generate(self, path, question, mode="prompt", limit=96):
        """Tokens, including the end token if it was chosen, and the logits each was chosen from."""
        ids = self.prompt(path, question)
        return trol.generate(self.model, ids, self.tokenizer.image_id, self.features, mode, limit, self.tokenizer.end_ids)

    @torch.no_grad()
    def answers(self, path, asked, limit=64):
        """The answers to several questions about one picture in mode `prompt`, computed together."""
        self.prompt(path, asked[0])
        ends, prompt = [self.tokenizer.end_id], data.Prompt(self.tokenizer, self.model.config)
        group = packed.Group([[prompt.question(q) for q in asked]], [[ends] * len(asked)], 0, len(prompt.system) + len(self.features))
        run = packed.PackedForward(self.model, torch.tensor(prompt.system), self.features[None], [group], keep_cache=True)
        return [self.tokenizer.decode(ids) for ids in run.generate(limit, self.tokenizer.end_id)[0]]

    def answer(self, path, question, mode="prompt"):
        return self.tokenizer.decode(self.generate(path, question, mode)[0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model_dir")
    parser.add_argument("source", help="a folder with questions.jsonl, or a picture")
    parser.add_argument("question", nargs="?")
    parser.add_argument("--mode", default="prompt", choices=("prompt", "all", "off"))
    parser.add_argument("--limit", type=int, default=10 ** 9, help="only the first questions")
    args = parser.parse_args()
    torch.set_num_threads(1)  # rows come one at a time: more threads only wait for each other
    asker = Asker(args.model_dir)
    if args.question:
        print(asker.answer(args.source, args.question, args.mode))
        return
    right, count = collections.Counter(), collections.Counter()
    entries = [json.loads(line) for line in list(open(os.path.join(args.source, "questions.jsonl")))[: args.limit]]
    for image, group in itertools.groupby(entries, key=lambda entry: entry["image"]):
        group, path = list(group), os.path.join(args.source, image)
        asked = [entry["question"] for entry in group]
        answers = asker.answers(path, asked) if args.mode == "prompt" else [asker.answer(path, q, args.mode) for q in asked]
        for entry, answer in zip(group, answers):
            count[entry["kind"]] += 1
            right[entry["kind"]] += questions.grade(entry, answer)
    for kind in questions.KINDS:
        if count[kind]:
            print(f"{kind:9} {right[kind]:4}/{count[kind]:<4} {100 * right[kind] / count[kind]:5.1f}%")
    print(f"{'all':9} {sum(right.values()):4}/{sum(count.values()):<4} {100 * sum(right.values()) / sum(count.values()):5.1f}%")


if __name__ == "__main__":
    main()
