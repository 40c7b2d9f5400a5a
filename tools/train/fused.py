"""packed.py's forward on fused.c: the same rows and the same result, in about half the time.

Needs a CPU with AVX-512 and bfloat16, a C compiler, and 32 as the head dimension; see `available()`.
"""
import ctypes
import hashlib
import os
import subprocess
import tempfile

import numpy as np
import torch
from torch.autograd import Function

LIBRARY = None


def available():
    global LIBRARY
    if LIBRARY is None:
        LIBRARY = build() or False
    return bool(LIBRARY)


def build():
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fused.c")
    try:
        flags = open("/proc/cpuinfo").read()
        if "avx512_bf16" not in flags:
            return None
        digest = hashlib.sha256(open(source, "rb").read()).hexdigest()[:16]
        target = os.path.join(tempfile.gettempdir(), f"trol-fused-{os.getuid()}-{digest}.so")
        if not os.path.exists(target):
            made = f"{target}.{os.getpid()}"
            subprocess.run(["cc", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-o", made, source, "-lm"], check=True)
            os.replace(made, target)
        return ctypes.CDLL(target)
    except (OSError, subprocess.CalledProcessError):
        return None


def at(tensor):
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


class Norm(Function):
    """sum = x + added (added may be None), y = norm(sum) in bfloat16."""

    @staticmethod
    def forward(ctx, x, added, weight, eps):
        rows, width = x.shape
        total = x if added is None else torch.empty_like(x)
        y, scale = torch.empty(rows, width, dtype=torch.bfloat16), torch.empty(rows)
        LIBRARY.norm_forward(rows, width, at(x), at(added), at(total), at(weight), ctypes.c_float(eps), at(y), at(scale))
        ctx.save_for_backward(total, weight, scale)
        ctx.two = added is not None
        return (total, y) if ctx.two else y

    @staticmethod
    def backward(ctx, *gradients):
        total, weight, scale = ctx.saved_tensors
        dy = gradients[-1].contiguous()
        d_total = gradients[0].contiguous() if ctx.two and gradients[0] is not None else None
        dx, dw = torch.empty_like(total), torch.zeros_like(weight)
        d_added = torch.empty(total.shape, dtype=torch.bfloat16) if ctx.two else None
        LIBRARY.norm_backward(*total.shape, at(dy), at(total), at(weight), at(scale), at(d_total), at(dx), at(d_added), at(dw))
        return dx, d_added, dw, None


class Linear(Function):
    """Rows below n_image through one matrix, the others through another; all bfloat16."""

    @staticmethod
    def forward(ctx, x, n_image, weight, image_weight):
        ctx.save_for_backward(x, weight, image_weight)
        ctx.n_image = n_image
        y = torch.empty(len(x), len(weight), dtype=x.dtype)
        torch.mm(x[:n_image], image_weight.t(), out=y[:n_image])
        torch.mm(x[n_image:], weight.t(), out=y[n_image:])
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight, image_weight = ctx.saved_tensors
        n = ctx.n_image
        dx = torch.empty_like(x)
        torch.mm(dy[:n], image_weight, out=dx[:n])
        torch.mm(dy[n:], weight, out=dx[n:])
        return dx, None, dy[n:].t() @ x[n:], dy[:n].t() @ x[:n]


class Swiglu(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        y = torch.empty(len(x), x.shape[1] // 2, dtype=x.dtype)
        LIBRARY.swiglu_forward(*y.shape, at(x), at(y))
        return y

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        dx = torch.empty_like(x)
        LIBRARY.swiglu_backward(len(x), x.shape[1] // 2, at(dy.contiguous()), at(x), at(dx))
        return dx


class Mix(Function):
    """y1 [R, H] with its first rows mixed with half + added [M, H] by the gate."""

    @staticmethod
    def forward(ctx, y1, half, added, weight, bias):
        out, tanhs = torch.empty_like(y1), torch.empty(len(half))
        LIBRARY.mix_forward(len(y1), *half.shape, at(y1), at(half), at(added), at(weight), ctypes.c_float(float(bias)), at(out), at(tanhs))
        ctx.save_for_backward(y1, half, added, weight, tanhs)
        return out

    @staticmethod
    def backward(ctx, d):
        y1, half, added, weight, tanhs = ctx.saved_tensors
        dy1, d_half, d_added = torch.empty_like(y1), torch.empty_like(half), torch.empty_like(added)
        dw, db = torch.zeros_like(weight), torch.zeros(1)
        LIBRARY.mix_backward(len(y1), *half.shape, at(d.contiguous()), at(y1), at(half), at(added), at(weight), at(tanhs),
                             at(dy1), at(d_half), at(d_added), at(dw), at(db))
        return dy1, d_half, d_added, dw, db


class Geometry(ctypes.Structure):
    """The struct of the same name in fused.c."""
    _fields_ = [(name, ctypes.c_int) for name in ("batch", "n_image", "n_system", "n_segments", "heads", "kv_heads", "stride")] + [
        (name, ctypes.c_void_p) for name in ("q_column", "k_column", "v_column", "positions", "cosines", "sines", "segments")]


class Attention(Function):
    @staticmethod
    def forward(ctx, qkv, geometry, answers):
        rows, heads = len(qkv), geometry.heads
        out, lse = torch.zeros(rows, heads * 32, dtype=torch.bfloat16), torch.zeros(rows, heads)
        if LIBRARY.attention_forward(ctypes.byref(geometry), at(qkv), int(answers), at(out), at(lse)):
            raise ValueError("too many rows for fused.c")
        ctx.save_for_backward(qkv, lse)
        ctx.geometry, ctx.answers = geometry, answers
        return out

    @staticmethod
    def backward(ctx, d):
        qkv, lse = ctx.saved_tensors
        g = ctx.geometry
        dqkv, d_system = torch.zeros_like(qkv), torch.zeros(g.kv_heads, g.n_system, 2, 32)
        LIBRARY.attention_backward(ctypes.byref(g), at(qkv), int(ctx.answers), at(d.contiguous()), at(lse), at(dqkv), at(d_system))
        return dqkv, None, None


def columns(config):
    """First columns of every head's query and every KV head's key and value in a row of the fused projection."""
    heads, kv, dim = config.heads, config.kv_heads, config.head_dim
    group = heads // kv
    if config.phi3:
        return ([h * dim for h in range(heads)], [(heads + i) * dim for i in range(kv)], [(heads + kv + i) * dim for i in range(kv)])
    block = (group + 2) * dim
    return ([h // group * block + h % group * dim for h in range(heads)], [i * block + group * dim for i in range(kv)],
            [i * block + (group + 1) * dim for i in range(kv)])


def merged(linear):
    """The matrices for text rows and for image rows, bfloat16."""
    weight = linear.ffn.weight
    return weight.bfloat16(), (weight + linear.lora_B.weight @ linear.lora_A.weight).bfloat16()


def matrices(layer, config):
    """Four pairs (text rows, image rows): qkv, attention output, gate and up, down."""
    _, attention, _, ffn = layer.parts()
    if config.phi3:
        return [(m.weight.bfloat16(), None) for m in (attention.qkv_proj, attention.o_proj, ffn.gate_up_proj, ffn.down_proj)]
    gate, up = merged(ffn.w1), merged(ffn.w3)
    return [merged(attention.wqkv), merged(attention.wo), (torch.cat([gate[0], up[0]]), torch.cat([gate[1], up[1]])), merged(ffn.w2)]


def linear(x, pair, n_image):
    return x @ pair[0].t() if pair[1] is None else Linear.apply(x, n_image, *pair)


class FusedForward:
    """One batch; `hidden` as in packed.PackedForward. No rope that depends on the length."""

    def __init__(self, model, system_ids, features, groups):
        c = model.config
        self.groups = groups
        batch, n_image, width = features.shape
        n_system = len(system_ids)
        ids = [system_ids] + [g.prompt_ids.flatten() for g in groups] + [g.answer_ids.flatten() for g in groups]
        sizes = [batch * n_image] + [len(part) for part in ids]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        n_prompt = int(starts[2 + len(groups)])
        positions = torch.cat([torch.arange(n_system, n_system + n_image).repeat(batch), torch.arange(n_system)]
                              + [g.positions[..., : g.length].flatten() for g in groups]
                              + [g.positions[..., g.length:].flatten() for g in groups]).int()
        longest = int(positions.max()) + 1
        cosines, sines = (t[0, 0, :, :16].contiguous() for t in model.rope(torch.arange(longest)[None], longest))
        segments = []
        for i, g in enumerate(groups):
            used = (g.targets != -100).sum(-1) - 1
            for b in range(batch):
                for q in range(g.count):
                    n = b * g.count + q
                    segments.append((b, starts[2 + i] + n * g.length, g.length, int(g.pad[b, q]),
                                     starts[2 + len(groups) + i] + n * g.answer_length, int(used[b, q])))
        arrays = [np.array(x, dtype=np.int32) for x in columns(c)] + [positions.numpy(), cosines.numpy(), sines.numpy(), np.array(segments, dtype=np.int32)]
        geometry = Geometry(batch, n_image, n_system, len(segments), c.heads, c.kv_heads, (c.heads + 2 * c.kv_heads) * c.head_dim,
                            *[a.ctypes.data for a in arrays])
        geometry.arrays = arrays  # kept alive with it
        x = torch.cat([features.flatten(0, 1).float(), model.embedding(torch.cat(ids))])
        n = sizes[0]
        gate_weight, gate_bias = model.gate.weight[0], model.gate.bias
        self.taps = []  # for each layer: pass 1's queries, keys and values before rope; what leaves the layer
        for layer in model.layers:
            norm1, _, norm2, _ = layer.parts()
            pairs = matrices(layer, c)

            def one_pass(x, answers):
                """Up to the last sum: the pass's result is half + added."""
                qkv = linear(Norm.apply(x, None, norm1.weight, norm1.eps), pairs[0], n)
                if answers:
                    self.taps.append([qkv])
                attended = linear(Attention.apply(qkv, geometry, answers), pairs[1], n)
                half, y = Norm.apply(x, attended, norm2.weight, norm2.eps)
                return half, linear(Swiglu.apply(linear(y, pairs[2], n)), pairs[3], n)

            half, added = one_pass(x, True)
            y1 = half + added
            half, added = one_pass(y1[:n_prompt], False)
            x = Mix.apply(y1, half, added, gate_weight, gate_bias)
            self.taps[-1].append(x)
        parts = x.split(sizes)
        self.geometry, self.columns, self.starts = geometry, columns(c), [int(start) for start in starts]
        self.positions, self.rope = positions, (cosines, sines)
        self.hidden = []
        for i, g in enumerate(groups):
            prompts = parts[2 + i].view(g.batch, g.count, g.length, width)
            answers = parts[2 + len(groups) + i].view(g.batch, g.count, g.answer_length, width)
            self.hidden.append(torch.cat([prompts[:, :, -1:], answers], 2))
