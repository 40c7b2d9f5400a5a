"""Trains one of the bundled models: train.py FAMILY RUN_DIR [options], FAMILY internlm2 or phi3.

RUN_DIR (outside the repository) gets the tokenizer, a checkpoint every few minutes, a log, and, during training, EXPORT
folders in the published layout. Started again with the same RUN_DIR it resumes (SIGTERM saves and ends).
A file named `decay` in RUN_DIR starts the final learning-rate decay, after which it ends; it may hold the number of steps;
a file named `export` makes it write RUN_DIR/export now, from the averaged weights.
"""
import argparse
import collections
import copy
import json
import math
import os
import signal
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import data
import fused
import grounding
import model as trol
import packed
import pictures
import questions
import scenes
import text
from muon import Optimizer

VOCABULARY = {"internlm2": 840, "phi3": 820}

# Words that carry the answer; their tokens weigh more in the loss than the rest of the sentence.
TELLING = set(scenes.COLOURS) | set(scenes.SHAPES) | set(questions.PLURAL.values()) | set(questions.NUMBERS) | {
    "yes", "left", "right", "above", "below", "top", "bottom", "larger", "smaller", "both"}
KINDS = ("colour", "shape", "count", "position", "position", "yesno", "yesno", "compare")


def make_config(family, vocabulary):
    common = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
              "hidden_act": "silu", "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
              "tie_word_embeddings": False, "vocab_size": vocabulary}
    vision = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4, "patch_size": 14}
    if family == "internlm2":
        return {**common, "model_type": "internlm", "torch_dtype": "float16", "num_key_value_heads": 2, "bias": False,
                "max_position_embeddings": 2048, "max_length": 4096, "rope_theta": 1000000.0, "rope_scaling": {"type": "dynamic", "factor": 2.0},
                "img_size": 112, "initializer_range": 0.02, "use_cache": False,
                "vision_config": {**vision, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}}
    llm = {**common, "model_type": "phi3", "num_key_value_heads": 4, "max_position_embeddings": 4096,
           "original_max_position_embeddings": 4096, "rope_theta": 10000.0, "rope_scaling": None, "sliding_window": None}
    vision = {**vision, "image_size": 112, "qk_normalization": False, "norm_type": "layer_norm", "qkv_bias": True, "use_flash_attn": False,
              "layer_norm_eps": 1e-6, "hidden_act": "gelu", "model_type": "intern_vit_6b"}
    return {"model_type": "trol", "torch_dtype": "bfloat16", "llm_config": llm, "vision_config": vision, "select_layer": -1,
            "force_image_size": 112, "downsample_ratio": 0.5, "dynamic_image_size": True, "use_thumbnail": True,
            "ps_version": "v1", "min_dynamic_patch": 1, "max_dynamic_patch": 6}


def prepare(family, folder, seed):
    """Trains the tokenizer on generated questions and answers and writes config.json."""
    rng = np.random.default_rng(seed)
    sentences = [text.SYSTEM] * 300 + ["system", "user", "assistant"] * 300
    for _ in range(3000):
        scene = scenes.random_scene(rng, 100, 100)
        for kind in questions.KINDS:
            entry = questions.ask(scene, rng, kind)
            if entry:
                sentences += [entry["question"], entry["answer"]]
    sentences.append(" ".join(chr(c) for c in range(33, 127)))
    vocabulary = text.train(folder, sentences, family == "phi3", VOCABULARY[family])
    json.dump(make_config(family, vocabulary), open(os.path.join(folder, "config.json"), "w"), indent=1)


def initialize(model, seed):
    torch.manual_seed(seed)
    depth = 4 * model.config.layers
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not model.gate:
            if "lora_B" in name:
                continue
            out = name.endswith(("wo.ffn", "w2.ffn", "o_proj", "down_proj", "out_proj", "fc2", "attn.proj"))
            nn.init.normal_(module.weight, std=0.7 * module.in_features ** -0.5 / (depth ** 0.5 if out else 1))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.3)
    embeddings = model.encoder.embeddings
    nn.init.normal_(embeddings.patch_embedding.weight, std=0.03)
    # Positions begin as sines and cosines of column and row: neighbours are alike from the first step.
    side, width = model.config.image_size // model.config.patch, model.config.vit_hidden // 4
    angles = torch.arange(side)[:, None] * math.pi / side * torch.linspace(0.5, side / 2, width)
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    grid = torch.cat([waves[None].expand(side, side, -1), waves[:, None].expand(side, side, -1)], 2).flatten(0, 1)
    positions = embeddings.position_embedding if model.config.phi3 else embeddings.position_embedding.weight
    with torch.no_grad():
        positions.view(side * side + 1, -1)[1:] = 0.7 * grid
    nn.init.normal_(model.gate.weight, std=0.02)


class Labels(nn.Module):
    """The encoder's second task, in training only: shape, colour and object centres for every patch."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, 9 + 9 + 2)

    def loss(self, rows, labels):
        out = self.linear(self.norm(rows)).float().flatten(0, -2)
        labels = labels.long().flatten(0, -2)
        parts = out.split([9, 9, 2], -1)
        weights = 1 + 2 * (labels[:, 0] > 0).float()
        losses = [(F.cross_entropy(part, labels[:, i], reduction="none") * weights).sum() / weights.sum() for i, part in enumerate(parts)]
        on = labels[:, 0] > 0
        right = [(parts[i].argmax(-1) == labels[:, i])[on].float().mean().item() for i in (0, 1)]
        return losses[0] + losses[1] + 2 * losses[2], right


def word_embeddings(tokenizer):
    """Ids of the eight shape words and the eight colour words."""
    return torch.tensor([tokenizer.pieces.piece_to_id("\u2581" + word) for word in scenes.SHAPES + scenes.COLOURS])


def alignment_loss(model, features, labels, word_ids):
    """How far the cosine is below 0.85 between an image row and the sum of the embeddings of the words for what is on it.

    Features [B, I, H], labels [tiles, patches, 3]. An image row that looks like the words it stands for is found
    by questions that contain these words, long before the decoder would learn a code of its own.
    """
    labels = labels.long()
    bag = torch.cat([F.one_hot(labels[..., i], 9)[..., 1:] for i in (0, 1)], -1).float()
    if model.config.phi3:
        bag = trol.pixel_shuffle(bag).unflatten(-1, (4, 16)).sum(2)
    bag = bag.flatten(0, 1)
    on = bag.sum(-1) > 0
    target = bag[on] @ model.embedding.weight[word_ids].detach()
    cosine = F.cosine_similarity(features.flatten(0, 1)[on].float(), target, dim=-1)
    return (0.85 - cosine).clamp(min=0).mean()  # the rest of a row is free for the patch's position and other features


def make_optimizer(model, labels, probe, args):
    matrices, others = [], [*labels.parameters(), *probe.parameters()]
    for name, p in model.named_parameters():
        inside = ".layers." in name and "lora" not in name and p.ndim == 2
        if inside or (name.startswith("vision_proj") and p.ndim == 2):
            matrices.append(p)
        elif "post_layernorm" not in name:
            others.append(p)
    return Optimizer(matrices, others, args.muon_rate, args.adam_rate, 0.02)


def token_weights(tokenizer, vocabulary):
    weights = torch.ones(vocabulary)
    for i in range(len(tokenizer.pieces)):
        if tokenizer.pieces.id_to_piece(i).replace("\u2581", "").lower() in TELLING:
            weights[i] = 4.0
    return weights


# Pictures in a batch by their number of tiles, and how often each number is drawn (Phi-3).
BATCH = {1: 12, 3: 10, 4: 9, 5: 8, 7: 7}
TILE_SHARE = {1: 0.5, 3: 0.15, 4: 0.08, 5: 0.07, 7: 0.2}


def make_groups(source, prompt, chosen, args, tiles):
    """Short questions, any questions, descriptions: alike in length, so that little of a batch is padding."""
    prefix = len(prompt.system) + tiles * prompt.config.tile_tokens
    groups = []
    for count, kinds, limits in ((args.short, KINDS, (19, 10)), (args.any, KINDS, (32, 24)), (args.long, ("describe",), (32, 64))):
        if count:
            pairs = [source.questions(p, count, kinds, prompt, *limits) for p in chosen]
            groups.append(packed.Group([[q for q, _ in row] for row in pairs], [[x for _, x in row] for row in pairs], 0, prefix))
    return groups


def encode(model, chosen):
    """Patch rows of all tiles and the features [B, I, H] of each picture."""
    pixels = pictures.normalize(torch.cat([p.tiles for p in chosen]), model.config)
    rows, vision = model.encode(pixels)
    return rows, model.vision_proj(vision).reshape(len(chosen), -1, model.config.hidden)


def learn_labels(model, labels, source, args, say, path):
    """The encoder alone on its labels: a step costs a fifth of one with the decoder.

    Ends with the averaged weights in `model`; they are also written to `path` from time to time, so that
    another process may train the decoder on them meanwhile (--follow).
    """
    encoder, rng = model.encoder, source.rng
    matrices = [p for name, p in encoder.named_parameters() if ".layers." in name and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in [*encoder.parameters(), *labels.parameters()] if id(p) not in chosen]
    optimizer = Optimizer(matrices, others, args.muon_rate, args.adam_rate, 0.02)
    both = nn.ModuleList([encoder, labels])
    average = copy.deepcopy(both)
    totals, started, limit, source.limit = torch.zeros(3), time.time(), source.limit, 3000
    source.crowd = True
    for step in range(args.label_steps):
        tiles = 1
        if model.config.phi3 and step % 4 == 3:
            tiles = (3, 7, 4, 5)[step // 4 % 4]
        source.ease = max(0.0, args.ease * (1 - step / (0.6 * args.label_steps)))
        batch = source.batch(32 * BATCH[tiles] // BATCH[1], tiles)
        with torch.autocast("cpu", torch.bfloat16):
            rows, _ = model.encode(pictures.normalize(torch.cat([p.tiles for p in batch]), model.config))
            loss, right = labels.loss(rows, torch.cat([p.labels for p in batch]))
        loss.backward()
        for p in others:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        optimizer.step(min(1.0, (step + 1) / 50) * min(1.0, 2 * (1 - step / args.label_steps) + 0.05))
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(both.parameters()), max(0.02, 1 / (step + 1)))
        totals += torch.tensor([loss.item(), *right])
        if (step + 1) % 50 == 0:
            mean = totals / 50
            say(f"labels {step + 1} {time.time() - started:.0f}s loss {mean[0]:.3f} shape {mean[1]:.3f} colour {mean[2]:.3f}")
            totals.zero_()
            torch.save({"encoder": average[0].state_dict(), "labels": average[1].state_dict()}, path + ".new")
            os.replace(path + ".new", path)
    both.load_state_dict(average.state_dict())
    source.limit, source.crowd = limit, False
    source.stock.clear()


@torch.no_grad()
def evaluate(model, prompt, test, limit=60):
    """Share of right answers by kind over a list of (picture, questions), one question of each kind a picture."""
    model.eval()
    right, count = collections.Counter(), collections.Counter()
    samples = []
    for picture, entries in test:
        _, features = encode(model, [picture])
        prefix = len(prompt.system) + features.shape[1]
        end = [prompt.tokenizer.end_id]
        group = packed.Group([[prompt.question(e["question"]) for e in entries]], [[end] * len(entries)], 0, prefix)
        run = packed.PackedForward(model, torch.tensor(prompt.system), features, [group], keep_cache=True)
        for entry, ids in zip(entries, run.generate(limit, prompt.tokenizer.end_id)[0]):
            answer = prompt.tokenizer.decode(ids)
            ok = questions.grade(entry, answer)
            count[entry["kind"]] += 1
            right[entry["kind"]] += ok
            samples.append((entry, answer, ok))
    model.train()
    return {kind: (right[kind] / count[kind], count[kind]) for kind in questions.KINDS if count[kind]}, samples


def make_test(config, seed, count):
    """Pictures, each with one question of every kind that its scene allows."""
    source = data.Source(config, seed, 1.0, 0)
    test = []
    for _ in range(count):
        width, height = scenes.random_size(source.rng)
        picture = data.Picture(scenes.random_scene(source.rng, width, height), source.rng, config)
        entries = [questions.ask(picture.scene, source.rng, kind) for kind in questions.KINDS]
        test.append((picture, [e for e in entries if e]))
    return test


def check(model, prompt, test):
    """The packed forward against the plain one, token by token."""
    model.eval()
    _, samples = evaluate(model, prompt, test, 12)
    i = 0
    for picture, entries in test:
        with torch.no_grad():
            _, features = encode(model, [picture])
        for entry in entries:
            ids = prompt.tokenizer.prompt(entry["question"], model.config.tile_tokens, [len(picture.tiles)])
            tokens, _ = trol.generate(model, ids, prompt.tokenizer.image_id, features[0], "prompt", 12, [prompt.tokenizer.end_id])
            plain = prompt.tokenizer.decode([t for t in tokens if t != prompt.tokenizer.end_id])
            assert plain == samples[i][1], (plain, samples[i][1])
            i += 1
    print(f"{i} answers of the packed forward equal the plain ones")


def decay_steps(folder, args):
    return int(open(os.path.join(folder, "decay")).read() or args.decay_steps)


def start_from(run_dir, model, average, labels, probe):
    """Another run's averaged weights; of its probe, what still has the same shape."""
    state = torch.load(os.path.join(run_dir, "checkpoint.pt"), weights_only=True)
    for m in (model, average):
        m.load_state_dict(state["average"])
    labels.load_state_dict(state["labels"])
    own = probe.state_dict()
    probe.load_state_dict({k: v for k, v in state.get("probe", {}).items() if k in own and v.shape == own[k].shape}, strict=False)


def make_parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("family", choices=("internlm2", "phi3"))
    parser.add_argument("run_dir")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=0.003)
    parser.add_argument("--label-weight", type=float, default=0.5)
    parser.add_argument("--alignment-weight", type=float, default=1.0)
    parser.add_argument("--grounding-weight", type=float, default=0.3)
    parser.add_argument("--short", type=int, default=5, help="short questions a picture, all kinds but descriptions")
    parser.add_argument("--any", type=int, default=2, help="questions of any length a picture, all kinds but descriptions")
    parser.add_argument("--long", type=int, default=1, help="descriptions a picture")
    parser.add_argument("--label-steps", type=int, default=800, help="steps of the encoder alone, before all others")
    parser.add_argument("--ease", type=float, default=1.0, help="how much larger and fewer the objects are at the beginning of those")
    parser.add_argument("--start", help="a new run begins with the averaged weights of this run, the optimizer fresh")
    parser.add_argument("--labels-again", action="store_true", help="only these steps, on the encoder of the checkpoint, then end")
    parser.add_argument("--freeze", action="store_true", help="leave the encoder as it is")
    parser.add_argument("--follow", help="take the encoder from this file, again whenever it changes, and leave it as it is")
    parser.add_argument("--one-tile-steps", type=int, default=1500, help="steps before Phi-3 sees pictures of several tiles")
    parser.add_argument("--decay-steps", type=int, default=1500)
    parser.add_argument("--evaluate-every", type=int, default=500)
    parser.add_argument("--test-pictures", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10 ** 9)
    parser.add_argument("--check", action="store_true", help="compare the packed forward with the plain one and end")
    return parser


def main():
    args = make_parser().parse_args()
    torch.set_num_threads(args.threads)

    folder = args.run_dir
    if not os.path.exists(os.path.join(folder, "config.json")):
        prepare(args.family, folder, args.seed)
    tokenizer = text.Tokenizer(folder)
    config = trol.Config(json.load(open(os.path.join(folder, "config.json"))))
    prompt = data.Prompt(tokenizer, config)
    model = trol.Trol(config)
    initialize(model, args.seed)
    labels = Labels(config.vit_hidden)
    probe = grounding.Probe(config.hidden)
    average = copy.deepcopy(model)
    optimizer = make_optimizer(model, labels, probe, args)
    step, decay_from, seconds = 0, None, 0.0
    saved = os.path.join(folder, "checkpoint.pt")
    if os.path.exists(saved):
        state = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        labels.load_state_dict(state["labels"])
        probe.load_state_dict(state["probe"])
        optimizer.load_state_dict(state["optimizer"])
        step, decay_from, seconds = state["step"], state["decay_from"], state["seconds"]
        if decay_from is not None:
            args.decay_steps = decay_steps(folder, args)
    elif args.start:
        start_from(args.start, model, average, labels, probe)
        step = 1
    log = open(os.path.join(folder, "log.txt"), "a", buffering=1)

    def say(line):
        print(line, flush=True)
        log.write(line + "\n")

    if args.check:
        check(average, prompt, make_test(config, 7, 4))
        return
    parameters = sum(p.numel() for p in model.parameters())
    say(f"{args.family}: {parameters} parameters, {len(prompt.system)} tokens before the picture, step {step}")
    source = data.Source(config, (args.seed, step), 0.34, 12000)
    test = make_test(config, 99, args.test_pictures)
    weights = token_weights(tokenizer, config.vocab)
    words = grounding.Words(tokenizer, config.vocab)
    system, word_ids = torch.tensor(prompt.system), word_embeddings(tokenizer)
    if args.freeze:
        model.encoder.requires_grad_(False)
        labels.requires_grad_(False)
    averages, data_seconds, saved_at, last, followed = collections.Counter(), 0.0, time.time(), time.time(), 0.0
    model.train()
    forward_class = fused.FusedForward if fused.available() else packed.PackedForward
    say(f"forward: {forward_class.__name__}")

    def save():
        state = {"model": model.state_dict(), "average": average.state_dict(), "labels": labels.state_dict(),
                 "probe": probe.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "decay_from": decay_from, "seconds": seconds}
        torch.save(state, saved + ".new")
        os.replace(saved + ".new", saved)

    if step == 0 or args.labels_again:
        if args.follow:
            state = torch.load(args.follow, weights_only=True)
            model.encoder.load_state_dict(state["encoder"])
            labels.load_state_dict(state["labels"])
        learn_labels(model, labels, source, args, say, os.path.join(folder, "encoder.pt"))
        average.encoder.load_state_dict(model.encoder.state_dict())
        save()
        if args.labels_again:
            return
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    while step < args.steps and not stopped:
        if decay_from is None and os.path.exists(os.path.join(folder, "decay")):
            decay_from, args.decay_steps = step, decay_steps(folder, args)
            say(f"decay from step {step} over {args.decay_steps}")
        factor = min(1.0, (step + 1) / 150)
        if decay_from is not None:
            factor *= max(0.0, 1 - (step - decay_from) / args.decay_steps)
            if factor == 0.0:
                break
        started = time.time()
        tiles = 1
        if config.phi3 and step >= args.one_tile_steps:
            tiles = int(source.rng.choice(list(TILE_SHARE), p=list(TILE_SHARE.values())))
        chosen = source.batch(BATCH[tiles], tiles)
        groups = make_groups(source, prompt, chosen, args, tiles)
        data_seconds += time.time() - started
        if args.follow and os.path.exists(args.follow) and os.path.getmtime(args.follow) > followed:
            followed = os.path.getmtime(args.follow)
            state = torch.load(args.follow, weights_only=True)
            for m in (model, average):
                m.encoder.load_state_dict(state["encoder"])
            labels.load_state_dict(state["labels"])
            model.encoder.requires_grad_(False)
            labels.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16):
            rows, features = encode(model, chosen)
            label_loss, label_right = labels.loss(rows, torch.cat([p.labels for p in chosen]))
            forward = forward_class(model, system, features, groups)
            loss = packed.answer_loss(model, forward, weights)
        tile_labels = torch.cat([p.labels for p in chosen])
        alignment = alignment_loss(model, features, tile_labels, word_ids)
        whole = loss + args.label_weight * label_loss + args.alignment_weight * alignment
        if args.grounding_weight and forward_class is fused.FusedForward:
            looked, probed, parts = grounding.loss(forward, words, probe, chosen, tile_labels, config)
            whole = whole + args.grounding_weight * (looked + probed)
            averages.update({"look0": parts[0], "look1": parts[1], "look2": parts[2], "counted": parts[3], "paired": parts[4], "look3": parts[5], "probe": probed.item()})
        whole.backward()
        norm = nn.utils.clip_grad_norm_([p for g in optimizer.adam.param_groups for p in g["params"] if p.grad is not None], 1.0)
        optimizer.step(factor)
        optimizer.zero_grad()
        step += 1
        with torch.no_grad():
            keep = min(0.996, 1 - 10 / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        seconds += time.time() - started
        averages.update({"loss": loss.item(), "label": label_loss.item(), "align": alignment.item(), "shape": label_right[0], "colour": label_right[1], "norm": float(norm), "n": 1})
        if step % 50 == 0:
            n = averages["n"]
            looks = " ".join(f"{averages[k] / n:.3f}" for k in ("look0", "look1", "look2", "probe", "counted", "paired", "look3"))
            say(f"{step} {seconds:.0f}s looks {looks} loss {averages['loss'] / n:.4f} labels {averages['label'] / n:.3f} align {averages['align'] / n:.3f} shape {averages['shape'] / n:.3f} "
                f"colour {averages['colour'] / n:.3f} norm {averages['norm'] / n:.2f} {(time.time() - last) / n * 1e3:.0f} ms a step, "
                f"{data_seconds / n * 1e3:.0f} of them for data")
            averages.clear()
            data_seconds, last = 0.0, time.time()
        if step % args.evaluate_every == 0:
            table, samples = evaluate(average, prompt, test)
            say(f"{step} " + " ".join(f"{kind} {share:.2f}" for kind, (share, _) in table.items()))
            for entry, answer, ok in samples[step // args.evaluate_every % 5 :: 29][:6]:
                say(f"    {'+' if ok else '-'} {entry['question']} | {answer} | {entry['answer']}")
        if time.time() - saved_at > 180:
            save()
            saved_at = time.time()
        if os.path.exists(os.path.join(folder, "export")) and os.path.isfile(os.path.join(folder, "export")):
            os.remove(os.path.join(folder, "export"))
            export(average, folder, os.path.join(folder, f"export-{step}"))
    save()
    if stopped:
        return
    export(average, folder, os.path.join(folder, f"export-{step}"))
    table, _ = evaluate(average, prompt, make_test(config, 4242, 150))
    say(f"end {step} " + " ".join(f"{kind} {share:.3f}" for kind, (share, _) in table.items()))


def export(model, run_dir, target):
    """The published layout: weights in the type config.json names, tokenizer files beside them."""
    raw = model.config.raw
    trol.save(model, target, torch.float16 if raw["torch_dtype"] == "float16" else torch.bfloat16)
    for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"):
        source = os.path.join(run_dir, name)
        if os.path.exists(source):
            with open(source, "rb") as a, open(os.path.join(target, name), "wb") as b:
                b.write(a.read())


if __name__ == "__main__":
    main()
