"""The TroL architecture in PyTorch, for training and as an independent check of the C engine.

Module names are the tensor names of the published checkpoints, so `state_dict()` is the file layout;
only the gate is in a file of its own (trol_gating.pt). Both families are here: InternLM2 with a
CLIP encoder and partial LoRA, Phi-3 with InternViT and pixel shuffle. They differ in how a layer's
projections are split and named; the traversal (`Trol.forward`) is the same code for both.

Shapes: B sequences, T rows (tokens) each, H hidden size, D head dimension, S rows already cached.
"""
import json
import math
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file


def rms_norm(x, weight, eps):
    return F.rms_norm(x.float(), (x.shape[-1],), weight, eps)


class RmsNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return rms_norm(x, self.weight, self.eps)


def attend(q, k, v, mask):
    """q [B, heads, T, D], k and v [B, kv_heads, S+T, D], mask broadcastable to [B, 1, T, S+T], additive."""
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k = k.repeat_interleave(group, dim=1)
        v = v.repeat_interleave(group, dim=1)
    scores = torch.matmul(q, k.transpose(-1, -2)) * (q.shape[-1] ** -0.5)
    if mask is not None:
        scores = scores + mask
    return torch.matmul(scores.softmax(-1).to(v.dtype), v)


# ---------------------------------------------------------------------------------------------------
# Decoder layers


class PartialLoraLinear(nn.Module):
    """A linear that adds a low-rank term on image rows only.

    image_rows: None (no row is one), True (all are) or [B, T, 1] of 0 and 1.
    """

    def __init__(self, n_in, n_out, rank, bias):
        super().__init__()
        self.ffn = nn.Linear(n_in, n_out, bias=bias)
        self.lora_A = nn.Linear(n_in, rank, bias=False)
        self.lora_B = nn.Linear(rank, n_out, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x, image_rows):
        if image_rows is None:
            return self.ffn(x)
        if image_rows is True:
            return F.linear(x, self.ffn.weight + self.lora_B.weight @ self.lora_A.weight, self.ffn.bias)
        return self.ffn(x) + self.lora_B(self.lora_A(x) * image_rows)


class InternLm2Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv_heads, self.dim = c.heads, c.kv_heads, c.head_dim
        self.wqkv = PartialLoraLinear(c.hidden, (c.heads + 2 * c.kv_heads) * c.head_dim, c.lora_rank, c.bias)
        self.wo = PartialLoraLinear(c.heads * c.head_dim, c.hidden, c.lora_rank, c.bias)

    def qkv(self, x, image_rows):
        batch, rows, _ = x.shape
        # Rows are grouped by KV head: its query heads, then its key, then its value.
        y = self.wqkv(x, image_rows).view(batch, rows, self.kv_heads, -1, self.dim)
        q = y[:, :, :, :-2].reshape(batch, rows, self.heads, self.dim)
        return q.transpose(1, 2), y[:, :, :, -2].transpose(1, 2), y[:, :, :, -1].transpose(1, 2)

    def out(self, x, image_rows):
        return self.wo(x, image_rows)


class InternLm2FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.w1 = PartialLoraLinear(c.hidden, c.ffn, c.lora_rank, False)
        self.w3 = PartialLoraLinear(c.hidden, c.ffn, c.lora_rank, False)
        self.w2 = PartialLoraLinear(c.ffn, c.hidden, c.lora_rank, False)

    def forward(self, x, image_rows):
        return self.w2(F.silu(self.w1(x, image_rows)) * self.w3(x, image_rows), image_rows)


class InternLm2Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.attention = InternLm2Attention(c)
        self.feed_forward = InternLm2FeedForward(c)
        self.attention_norm = RmsNorm(c.hidden, c.eps)
        self.ffn_norm = RmsNorm(c.hidden, c.eps)

    def parts(self):
        return self.attention_norm, self.attention, self.ffn_norm, self.feed_forward


class Phi3Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv_heads, self.dim = c.heads, c.kv_heads, c.head_dim
        self.qkv_proj = nn.Linear(c.hidden, (c.heads + 2 * c.kv_heads) * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.heads * c.head_dim, c.hidden, bias=False)

    def qkv(self, x, image_rows):
        batch, rows, _ = x.shape
        y = self.qkv_proj(x).view(batch, rows, -1, self.dim).transpose(1, 2)
        return y.split([self.heads, self.kv_heads, self.kv_heads], dim=1)

    def out(self, x, image_rows):
        return self.o_proj(x)


class Phi3FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_up_proj = nn.Linear(c.hidden, 2 * c.ffn, bias=False)
        self.down_proj = nn.Linear(c.ffn, c.hidden, bias=False)

    def forward(self, x, image_rows):
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class Phi3Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn = Phi3Attention(c)
        self.mlp = Phi3FeedForward(c)
        self.input_layernorm = RmsNorm(c.hidden, c.eps)
        self.post_attention_layernorm = RmsNorm(c.hidden, c.eps)

    def parts(self):
        return self.input_layernorm, self.self_attn, self.post_attention_layernorm, self.mlp


# ---------------------------------------------------------------------------------------------------
# Vision encoders


class ClipLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c.vit_heads
        self.self_attn = nn.Module()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self.self_attn, name, nn.Linear(c.vit_hidden, c.vit_hidden))
        self.layer_norm1 = nn.LayerNorm(c.vit_hidden, c.vit_eps)
        self.layer_norm2 = nn.LayerNorm(c.vit_hidden, c.vit_eps)
        self.mlp = nn.Module()
        self.mlp.fc1 = nn.Linear(c.vit_hidden, c.vit_ffn)
        self.mlp.fc2 = nn.Linear(c.vit_ffn, c.vit_hidden)

    def forward(self, x):
        n, rows, width = x.shape
        h = self.layer_norm1(x)
        q, k, v = (
            proj(h).view(n, rows, self.heads, -1).transpose(1, 2)
            for proj in (self.self_attn.q_proj, self.self_attn.k_proj, self.self_attn.v_proj)
        )
        x = x + self.self_attn.out_proj(attend(q, k, v, None).transpose(1, 2).reshape(n, rows, width))
        h = self.mlp.fc1(self.layer_norm2(x))
        return x + self.mlp.fc2(h * torch.sigmoid(1.702 * h))


class ClipEncoder(nn.Module):
    """[n, 3, S, S] -> [n, (S / patch)^2, C]; last layer's output, no post norm, no class token."""

    def __init__(self, c):
        super().__init__()
        self.patch = c.patch
        self.embeddings = nn.Module()
        self.embeddings.class_embedding = nn.Parameter(torch.randn(c.vit_hidden) * 0.02)
        self.embeddings.patch_embedding = nn.Conv2d(3, c.vit_hidden, c.patch, c.patch, bias=False)
        self.embeddings.position_embedding = nn.Embedding((c.image_size // c.patch) ** 2 + 1, c.vit_hidden)
        self.pre_layrnorm = nn.LayerNorm(c.vit_hidden, c.vit_eps)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(ClipLayer(c) for _ in range(c.vit_layers))
        self.post_layernorm = nn.LayerNorm(c.vit_hidden, c.vit_eps)  # in the files, never used

    def forward(self, pixels):
        x = patches(pixels, self.patch, self.embeddings.patch_embedding)
        first = self.embeddings.class_embedding.expand(x.shape[0], 1, -1)
        x = torch.cat([first.to(x.dtype), x], 1) + self.embeddings.position_embedding.weight
        x = self.pre_layrnorm(x)
        for layer in self.encoder.layers:
            x = layer(x)
        return x[:, 1:]


def patches(pixels, size, conv):
    """A convolution whose stride is its size, as a linear: twice as fast here as conv2d and its gradient."""
    n, channels, height, width = pixels.shape
    x = pixels.view(n, channels, height // size, size, width // size, size)
    x = x.permute(0, 2, 4, 1, 3, 5).reshape(n, (height // size) * (width // size), channels * size * size)
    return F.linear(x, conv.weight.flatten(1), conv.bias)


class InternVitAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c.vit_heads
        self.qkv = nn.Linear(c.vit_hidden, 3 * c.vit_hidden, bias=c.vit_qkv_bias)
        self.proj = nn.Linear(c.vit_hidden, c.vit_hidden)
        self.normalized = c.vit_qk_norm
        if c.vit_qk_norm:
            self.q_norm = RmsNorm(c.vit_hidden, c.vit_eps)
            self.k_norm = RmsNorm(c.vit_hidden, c.vit_eps)

    def forward(self, x):
        n, rows, width = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.normalized:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (t.reshape(n, rows, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        return self.proj(attend(q, k, v, None).transpose(1, 2).reshape(n, rows, width))


class InternVitLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        norm = RmsNorm if c.vit_norm == "rms_norm" else nn.LayerNorm
        self.attn = InternVitAttention(c)
        self.norm1 = norm(c.vit_hidden, c.vit_eps)
        self.norm2 = norm(c.vit_hidden, c.vit_eps)
        self.mlp = nn.Module()
        self.mlp.fc1 = nn.Linear(c.vit_hidden, c.vit_ffn)
        self.mlp.fc2 = nn.Linear(c.vit_ffn, c.vit_hidden)
        self.ls1 = nn.Parameter(torch.ones(c.vit_hidden))
        self.ls2 = nn.Parameter(torch.ones(c.vit_hidden))

    def forward(self, x):
        x = x + self.ls1 * self.attn(self.norm1(x))
        return x + self.ls2 * self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class InternVit(nn.Module):
    """[n, 3, S, S] -> [n, (S / patch)^2, C] before the pixel shuffle."""

    def __init__(self, c):
        super().__init__()
        self.patch = c.patch
        stored = (c.position_image_size // c.patch) ** 2 + 1
        self.embeddings = nn.Module()
        self.embeddings.class_embedding = nn.Parameter(torch.randn(1, 1, c.vit_hidden) * 0.02)
        self.embeddings.patch_embedding = nn.Conv2d(3, c.vit_hidden, c.patch, c.patch)
        self.embeddings.position_embedding = nn.Parameter(torch.randn(1, stored, c.vit_hidden) * 0.02)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(InternVitLayer(c) for _ in range(c.vit_layers))

    def positions(self, side):
        stored = self.embeddings.position_embedding
        old = math.isqrt(stored.shape[1] - 1)
        if old == side:
            return stored
        grid = stored[:, 1:].view(1, old, old, -1).permute(0, 3, 1, 2).float()
        grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
        return torch.cat([stored[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def forward(self, pixels):
        x = patches(pixels, self.patch, self.embeddings.patch_embedding)
        first = self.embeddings.class_embedding.expand(x.shape[0], 1, -1)
        x = torch.cat([first.to(x.dtype), x], 1) + self.positions(pixels.shape[-1] // self.patch)
        for layer in self.encoder.layers:
            x = layer(x)
        return x[:, 1:]


def pixel_shuffle(x):
    """[n, side^2, C] -> [n, (side/2)^2, 4C], in the transposed order of the published code."""
    n, rows, c = x.shape
    side = math.isqrt(rows)
    x = x.reshape(n, side, side // 2, 2 * c).permute(0, 2, 1, 3)
    x = x.reshape(n, side // 2, side // 2, 4 * c).permute(0, 2, 1, 3)
    return x.reshape(n, rows // 4, 4 * c)


# ---------------------------------------------------------------------------------------------------
# Configuration


class Config:
    """config.json in this file's names."""

    def __init__(self, raw, shapes=None):
        self.raw = raw
        self.phi3 = raw["model_type"] == "trol"
        llm = raw["llm_config"] if self.phi3 else raw
        vision = raw["vision_config"]
        self.vocab = llm["vocab_size"]
        self.hidden = llm["hidden_size"]
        self.ffn = llm["intermediate_size"]
        self.layers = llm["num_hidden_layers"]
        self.heads = llm["num_attention_heads"]
        self.kv_heads = llm["num_key_value_heads"]
        self.head_dim = self.hidden // self.heads
        self.eps = llm["rms_norm_eps"]
        self.theta = llm["rope_theta"]
        self.rope_scaling = llm.get("rope_scaling")
        self.max_positions = llm["max_position_embeddings"]
        self.original_positions = llm.get("original_max_position_embeddings", self.max_positions)
        self.window = llm.get("sliding_window")
        self.bias = llm.get("bias", False)
        self.patch = vision["patch_size"]
        self.vit_hidden = vision["hidden_size"]
        self.vit_ffn = vision["intermediate_size"]
        self.vit_layers = vision["num_hidden_layers"]
        self.vit_heads = vision["num_attention_heads"]
        self.vit_eps = vision.get("layer_norm_eps", 1e-6)
        if self.phi3:
            self.image_size = raw.get("force_image_size") or vision["image_size"]
            self.position_image_size = vision["image_size"]
            self.vit_norm = vision.get("norm_type", "rms_norm")
            self.vit_qkv_bias = vision.get("qkv_bias", False)
            self.vit_qk_norm = vision.get("qk_normalization", True)
            self.tile_tokens = (self.image_size // self.patch) ** 2 // 4
        else:
            self.image_size = raw["img_size"]
            self.tile_tokens = (self.image_size // self.patch) ** 2
        self.lora_rank = 16
        if shapes and not self.phi3:
            self.lora_rank = shapes["model.layers.0.attention.wo.lora_A.weight"][0]


# ---------------------------------------------------------------------------------------------------
# The model


class Trol(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = self.config = config
        if c.phi3:
            self.language_model = nn.Module()
            inner = self.language_model.model = nn.Module()
            inner.embed_tokens = nn.Embedding(c.vocab, c.hidden)
            inner.layers = nn.ModuleList(Phi3Layer(c) for _ in range(c.layers))
            inner.norm = RmsNorm(c.hidden, c.eps)
            self.language_model.lm_head = nn.Linear(c.hidden, c.vocab, bias=False)
            self.vision_model = InternVit(c)
            self.vision_proj = nn.Sequential(
                nn.LayerNorm(4 * c.vit_hidden, 1e-5), nn.Linear(4 * c.vit_hidden, c.hidden),
                nn.GELU(), nn.Linear(c.hidden, c.hidden))
            self.embedding, self.head = inner.embed_tokens, self.language_model.lm_head
        else:
            inner = self.model = nn.Module()
            inner.tok_embeddings = nn.Embedding(c.vocab + 1, c.hidden)
            inner.layers = nn.ModuleList(InternLm2Layer(c) for _ in range(c.layers))
            inner.norm = RmsNorm(c.hidden, c.eps)
            self.output = nn.Linear(c.hidden, c.vocab, bias=False)
            self.vit = nn.Module()
            self.vit.vision_tower = nn.Module()
            self.vit.vision_tower.vision_model = ClipEncoder(c)
            self.vision_proj = nn.Sequential(
                nn.Linear(c.vit_hidden, c.hidden), nn.GELU(), nn.Linear(c.hidden, c.hidden))
            self.embedding, self.head = inner.tok_embeddings, self.output
        self.layers, self.norm = inner.layers, inner.norm
        self.encoder = self.vision_model if c.phi3 else self.vit.vision_tower.vision_model
        self.gate = nn.Linear(c.hidden, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    # -- pictures

    def encode(self, pixels):
        """Normalized pixels [n, 3, S, S] -> (patch rows [n, P, C], what enters vision_proj)."""
        rows = self.encoder(pixels)
        return rows, (pixel_shuffle(rows) if self.config.phi3 else rows)

    # -- rope

    def rope(self, positions, length):
        """cos and sin, [B, 1, T, D]; length is that of the whole sequence, on which the base may depend."""
        c = self.config
        dim = c.head_dim
        theta, scale, factors = c.theta, 1.0, torch.ones(dim // 2)
        kind = (c.rope_scaling or {}).get("type")
        if kind == "dynamic" and length > c.max_positions:
            f = c.rope_scaling["factor"]
            theta = theta * (f * length / c.max_positions - (f - 1)) ** (dim / (dim - 2))
        elif kind in ("su", "longrope", "yarn"):
            long = length > c.original_positions
            factors = torch.tensor(c.rope_scaling["long_factor" if long else "short_factor"])
            ratio = c.max_positions / c.original_positions
            if ratio > 1:
                if kind == "yarn":
                    scale = 0.1 * math.log(ratio) + 1
                else:
                    scale = math.sqrt(1 + math.log(ratio) / math.log(c.original_positions))
        inverse = 1.0 / (factors * theta ** (torch.arange(0, dim, 2).float() / dim))
        angles = positions[:, None, :, None].float() * inverse
        angles = torch.cat([angles, angles], -1)
        return angles.cos() * scale, angles.sin() * scale

    # -- one pass of one layer

    def layer_pass(self, layer, x, rope, mask, image_rows, past):
        """x [B, T, H] -> y [B, T, H] and this pass's keys and values [B, kv_heads, T, D]."""
        attention_norm, attention, ffn_norm, ffn = layer.parts()
        q, k, v = attention.qkv(attention_norm(x), image_rows)
        cos, sin = rope
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        if past is None:
            keys, values = k, v
        else:
            keys = torch.cat([past[0].expand(k.shape[0], -1, -1, -1), k], 2)
            values = torch.cat([past[1].expand(k.shape[0], -1, -1, -1), v], 2)
        y = attend(q, keys, values, mask).transpose(1, 2).flatten(2)
        x = x + attention.out(y, image_rows)
        return x + ffn(ffn_norm(x), image_rows), (k, v)

    def traverse(self, x, rope, mask, n_prompt, image_rows=None, past=None, trace=None):
        """The decoder over B sequences of T rows, the first n_prompt of which are prompt rows.

        Prompt rows go through every layer twice and are mixed by the gate; the rest are answer rows,
        which go through once and see the keys and values of pass 1. mask [B, 1, T, S+T], additive.
        past: for each layer ((K1, V1), (K2, V2)). Returns hidden rows and the same for the new rows.
        """
        cached = []
        cos, sin = rope
        n_past = 0 if past is None else past[0][0][0].shape[2]
        prompt_mask = mask[:, :, :n_prompt, : n_past + n_prompt]
        prompt_image_rows = None if image_rows is None else image_rows[:, :n_prompt]
        prompt_rope = cos[:, :, :n_prompt], sin[:, :, :n_prompt]
        for i, layer in enumerate(self.layers):
            past1, past2 = past[i] if past is not None else (None, None)
            y1, kv1 = self.layer_pass(layer, x, rope, mask, image_rows, past1)
            kv2 = None
            if trace is not None:
                trace.append({"layer_in": x, "pass1_out": y1})
            x = y1
            if n_prompt > 0:
                y1 = y1[:, :n_prompt]
                y2, kv2 = self.layer_pass(layer, y1, prompt_rope, prompt_mask, prompt_image_rows, past2)
                s = 0.5 * torch.tanh(self.gate(y1).float()) + 0.5
                if trace is not None:
                    trace[-1]["gate"] = s[..., 0]
                mixed = (1 - s) * y1 + s * y2
                x = mixed if n_prompt == x.shape[1] else torch.cat([mixed, x[:, n_prompt:]], 1)
            cached.append((kv1, kv2))
        return x, cached

    def logits(self, x):
        return self.head(self.norm(x))


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def causal_mask(n_new, n_past, window=None):
    """[1, 1, n_new, n_past + n_new], additive."""
    query = torch.arange(n_past, n_past + n_new)[:, None]
    key = torch.arange(n_past + n_new)[None]
    seen = key <= query
    if window is not None:
        seen &= key >= query - window
    return torch.zeros(1, 1, n_new, n_past + n_new).masked_fill(~seen, float("-inf"))


# ---------------------------------------------------------------------------------------------------
# Plain generation over one sequence, by the book: what the C engine is compared with


class Run:
    """One prompt and its answer in one traversal mode; `step` returns the next logits [V]."""

    def __init__(self, model, ids, image_id, features, mode):
        self.model, self.mode, self.image_id = model, mode, image_id
        self.ids, self.features = list(ids), features
        self.past, self.trace = None, []
        self.prefill_logits = self.forward(self.ids, 0, answer=False)

    def forward(self, ids, start, answer):
        m = self.model
        ids = torch.tensor(ids)
        image = ids == self.image_id
        x = m.embedding(ids.masked_fill(image, 0))
        if image.any():
            x = x.masked_scatter(image[:, None], self.features)
        n, total = len(ids), start + len(ids)
        rope = m.rope(torch.arange(start, total)[None], total)
        mask = causal_mask(n, start, m.config.window)
        n_prompt = 0 if answer or self.mode == "off" else n
        self.trace = []
        x, new = m.traverse(x[None], rope, mask, n_prompt, image[None, :, None].float(), self.past, self.trace)
        if self.past is None:
            self.past = new
        else:
            self.past = [((torch.cat([a[0][0], b[0][0]], 2), torch.cat([a[0][1], b[0][1]], 2)), None)
                         for a, b in zip(self.past, new)]
        return m.logits(x)[0]

    def step(self, token):
        self.ids.append(token)
        if self.mode == "all":
            self.past = None
            return self.forward(self.ids, 0, answer=False)[-1]
        return self.forward([token], len(self.ids) - 1, answer=True)[-1]


@torch.no_grad()
def generate(model, ids, image_id, features, mode, n_tokens, end_tokens=()):
    """Greedy tokens and the logits each was chosen from, [n, V]."""
    run = Run(model, ids, image_id, features, mode)
    logits, tokens, rows = run.prefill_logits[-1], [], []
    while True:
        rows.append(logits)
        tokens.append(int(logits.argmax()))
        if len(tokens) == n_tokens or tokens[-1] in end_tokens:
            return tokens, torch.stack(rows)
        logits = run.step(tokens[-1])


# ---------------------------------------------------------------------------------------------------
# The published layout


def load(folder):
    """A model in float32 from config.json, model.safetensors (or its shards) and trol_gating.pt."""
    raw = json.load(open(os.path.join(folder, "config.json")))
    index = os.path.join(folder, "model.safetensors.index.json")
    names = ["model.safetensors"]
    if os.path.exists(index):
        names = sorted(set(json.load(open(index))["weight_map"].values()))
    state = {}
    for name in names:
        state.update(load_file(os.path.join(folder, name)))
    model = Trol(Config(raw, {name: tensor.shape for name, tensor in state.items()}))
    gate = torch.load(os.path.join(folder, "trol_gating.pt"), weights_only=True)
    for i in range(model.config.layers):
        if not torch.equal(gate[f"{i}.weight"], gate["0.weight"]):
            raise ValueError("layers with different gates are not supported here")
    state["gate.weight"], state["gate.bias"] = gate["0.weight"], gate["0.bias"]
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    missing = [name for name in missing if not name.startswith(ALIASES)]
    if missing or unexpected:
        raise ValueError(f"missing {missing}, unexpected {unexpected}")
    return model.eval()


# Second names that the modules above give to what the files name otherwise.
ALIASES = ("embedding.", "head.", "layers.", "norm.", "encoder.")


def save(model, folder, dtype):
    """Writes config.json, model.safetensors and trol_gating.pt; dtype torch.float16 or torch.bfloat16."""
    os.makedirs(folder, exist_ok=True)
    state = {name: tensor.detach().to(dtype).contiguous().clone() for name, tensor in model.state_dict().items()
             if not name.startswith(ALIASES) and not name.startswith("gate.")}
    save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    os.chmod(os.path.join(folder, "model.safetensors"), 0o644)
    json.dump(model.config.raw, open(os.path.join(folder, "config.json"), "w"), indent=1)
    gate = nn.Linear(model.config.hidden, 1).to(dtype)
    gate.load_state_dict({k: v.detach().to(dtype) for k, v in model.gate.state_dict().items()})
    shared = nn.ModuleList([gate] * model.config.layers)
    torch.save(shared.state_dict(), os.path.join(folder, "trol_gating.pt"))
