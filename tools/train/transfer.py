"""Starts the Phi-3 model from a trained InternLM2 one: transfer.py INTERNLM2_RUN_DIR PHI3_RUN_DIR

Encoder, embeddings, layers, gate and head are carried over as far as the two architectures agree: KV heads are
repeated, CLIP's first norm is folded into the patches by its average, the LoRA and the projector are left out.
The result is a starting point for training: PHI3_RUN_DIR/checkpoint.pt at step 1.
"""
import json
import os
import sys

import torch

import data
import grounding
import model as trol
import pictures
import text
import train


def encoder_weights(clip, source_config, labels):
    """CLIP's state in InternViT's names."""
    state, out = clip.state_dict(), {}
    clip_mean, clip_std = torch.tensor(pictures.CLIP_MEAN), torch.tensor(pictures.CLIP_STD)
    mean, std = torch.tensor(pictures.IMAGENET_MEAN), torch.tensor(pictures.IMAGENET_STD)
    patch = state["embeddings.patch_embedding.weight"]
    pixels = torch.cat([p.tiles for p in data.Source(source_config, 3, 1.0, 64).batch(24, 1)])
    with torch.no_grad():
        rows = trol.patches(pictures.normalize(pixels, source_config), clip.patch, clip.embeddings.patch_embedding)
        spread = (rows + clip.embeddings.position_embedding.weight[1:]).std(-1).mean()
    gain, shift = state["pre_layrnorm.weight"] / spread, state["pre_layrnorm.bias"]
    out["embeddings.patch_embedding.weight"] = patch * (std / clip_std)[None, :, None, None] * gain[:, None, None, None]
    out["embeddings.patch_embedding.bias"] = (patch * ((mean - clip_mean) / clip_std)[None, :, None, None]).sum((1, 2, 3)) * gain
    positions = state["embeddings.position_embedding.weight"] * gain + shift
    first = state["embeddings.class_embedding"] * gain
    out["embeddings.class_embedding"] = first[None, None]
    out["embeddings.position_embedding"] = positions[None]
    for i in range(len(clip.encoder.layers)):
        a, b = f"encoder.layers.{i}.", f"encoder.layers.{i}."
        for kind in ("weight", "bias"):
            out[f"{b}attn.qkv.{kind}"] = torch.cat([state[f"{a}self_attn.{n}_proj.{kind}"] for n in "qkv"])
            for old, new in (("self_attn.out_proj", "attn.proj"), ("layer_norm1", "norm1"), ("layer_norm2", "norm2"), ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")):
                out[f"{b}{new}.{kind}"] = state[f"{a}{old}.{kind}"]
    return out


def main():
    source_dir, target_dir = sys.argv[1:3]
    if not os.path.exists(os.path.join(target_dir, "config.json")):
        train.prepare("phi3", target_dir, 1)
    configs = [trol.Config(json.load(open(os.path.join(d, "config.json")))) for d in (source_dir, target_dir)]
    tokenizers = [text.Tokenizer(d) for d in (source_dir, target_dir)]
    stored = torch.load(os.path.join(source_dir, "checkpoint.pt"), weights_only=True)
    source, target = trol.Trol(configs[0]), trol.Trol(configs[1])
    source.load_state_dict(stored["average"])
    train.initialize(target, 1)
    target.encoder.load_state_dict(encoder_weights(source.encoder, configs[0], stored["labels"]), strict=False)
    with torch.no_grad():
        for old, new in zip(source.layers, target.layers):
            c = configs[0]
            group = c.heads // c.kv_heads
            block = old.attention.wqkv.ffn.weight.view(c.kv_heads, group + 2, c.head_dim, -1)
            repeated = block[:, group:].repeat_interleave(configs[1].kv_heads // c.kv_heads, 0)
            new.self_attn.qkv_proj.weight.copy_(torch.cat([block[:, :group].flatten(0, 2), repeated[:, 0].flatten(0, 1), repeated[:, 1].flatten(0, 1)]))
            new.self_attn.o_proj.weight.copy_(old.attention.wo.ffn.weight)
            new.mlp.gate_up_proj.weight.copy_(torch.cat([old.feed_forward.w1.ffn.weight, old.feed_forward.w3.ffn.weight]))
            new.mlp.down_proj.weight.copy_(old.feed_forward.w2.ffn.weight)
            new.input_layernorm.weight.copy_(old.attention_norm.weight)
            new.post_attention_layernorm.weight.copy_(old.ffn_norm.weight)
        target.norm.weight.copy_(source.norm.weight)
        target.gate.load_state_dict(source.gate.state_dict())
        old_pieces, new_pieces = (t.pieces for t in tokenizers)
        known = {old_pieces.id_to_piece(i): i for i in range(len(old_pieces))}
        same = {"<|end|>": "[UNUSED_TOKEN_145]", "<|user|>": "\u2581user", "<|assistant|>": "\u2581assistant"}
        pairs = [(known.get(new_pieces.id_to_piece(i), known.get(new_pieces.id_to_piece(i).replace("\u2581", ""))), i) for i in range(len(new_pieces))]
        pairs += [(known.get(name), tokenizers[1].added[new]) for new, name in same.items()]
        for old, new in pairs:
            if old is not None:
                target.embedding.weight[new] = source.embedding.weight[old]
                target.head.weight[new] = source.head.weight[old]
    args = train.make_parser().parse_args(["phi3", target_dir])
    labels = train.Labels(configs[1].vit_hidden)
    labels.load_state_dict(stored["labels"])
    probe = grounding.Probe(configs[1].hidden)
    if "probe" in stored:
        probe.load_state_dict(stored["probe"], strict=False)
    state = {"model": target.state_dict(), "average": target.state_dict(), "labels": labels.state_dict(),
             "optimizer": train.make_optimizer(target, labels, probe, args).state_dict(), "probe": probe.state_dict(), "step": 1, "decay_from": None, "seconds": stored["seconds"]}
    torch.save(state, os.path.join(target_dir, "checkpoint.pt"))


if __name__ == "__main__":
    main()
