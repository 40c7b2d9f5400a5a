"""The training forward: many questions about many pictures in one pass, nothing computed twice.

All prompts begin with the same system text, and several questions share a picture, so the rows are laid out
as streams that see each other's keys and values:

    system    [S]             sees itself                                  one for the whole batch
    image     [B, I]          sees system and itself
    questions [B, Q, L]       see system, their picture and themselves     right-aligned, padded on the left
    answers   [B, Q, A]       see all of the above and themselves          pass 1 only (traversal mode `prompt`)

Questions come in groups of similar lengths, each with a Q, L and A of its own. Text rows of all streams lie
in one tensor [N, H] in the order system, questions of each group, answers of each group, so that every
linear is one product over all of them; image rows [B * I, H] go apart for they have the LoRA term.
The result is what `model.Run` computes in mode `prompt`, question by question (train.py --check compares).
"""
import torch
import torch.nn.functional as F

from model import rotate


class Group:
    """Q questions for each of B pictures. Lists of token ids, [B][Q]; answers end with the end token."""

    def __init__(self, questions, answers, pad_id, prefix_length):
        self.batch, self.count = len(questions), len(questions[0])
        flat_q = [q for row in questions for q in row]
        flat_a = [x for row in answers for x in row]
        self.length = length = max(len(q) for q in flat_q)
        self.answer_length = width = max(len(x) for x in flat_a) - 1
        shape = (self.batch, self.count)
        self.prompt_ids = torch.full((len(flat_q), length), pad_id)
        self.answer_ids = torch.full((len(flat_q), width), pad_id)
        self.targets = torch.full((len(flat_q), width + 1), -100)
        for i, (q, x) in enumerate(zip(flat_q, flat_a)):
            self.prompt_ids[i, length - len(q):] = torch.tensor(q)
            self.answer_ids[i, : len(x) - 1] = torch.tensor(x[:-1], dtype=torch.long)
            self.targets[i, : len(x)] = torch.tensor(x)
        self.targets = self.targets.view(*shape, -1)
        pad = torch.tensor([length - len(q) for q in flat_q])
        rows = torch.arange(length + width)
        self.positions = (prefix_length + rows[None] - pad[:, None]).clamp(min=0).view(*shape, -1)
        self.pad = pad.view(shape)

    def mask(self, width):
        """[B, 1, 1, Q, width, width], additive, over the first `width` rows of every question."""
        rows = torch.arange(width)
        seen = (rows[None] <= rows[:, None]) & (rows[None, None] >= self.pad.view(-1, 1, 1))
        seen |= torch.eye(width, dtype=torch.bool)
        mask = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))
        return mask.view(self.batch, 1, 1, self.count, width, width)


def heads(x, kv_heads):
    """[..., heads, D] -> [..., kv_heads, heads / kv_heads, D]"""
    return x.unflatten(-2, (kv_heads, -1))


def question_attention(q, context_k, context_v, own_k, own_v, mask):
    """q [B, Q, R, kv, g, D], context [B, kv, C, D], own keys [B, Q, K, kv, D], mask [B, 1, 1, Q, R, K] -> [B, Q, R, kv * g * D]"""
    batch, count, rows, kv, group, dim = q.shape
    q = q * dim ** -0.5
    by_picture = q.permute(0, 3, 4, 1, 2, 5).reshape(batch, kv, group * count * rows, dim)
    context = (by_picture @ context_k.transpose(-1, -2)).view(batch, kv, group, count, rows, -1)
    by_question = q.permute(0, 1, 3, 4, 2, 5).reshape(batch, count, kv, group * rows, dim)
    own = (by_question @ own_k.permute(0, 1, 3, 4, 2)).view(batch, count, kv, group, rows, -1).permute(0, 2, 3, 1, 4, 5)
    n_context = context.shape[-1]
    weights = torch.cat([context, own + mask.to(own.dtype)], -1).softmax(-1, dtype=torch.float32).to(own_v.dtype)
    y = weights[..., :n_context].reshape(batch, kv, -1, n_context) @ context_v
    y = y.view(batch, kv, group, count, rows, dim)
    own_weights = weights[..., n_context:].permute(0, 3, 1, 2, 4, 5).reshape(batch, count, kv, group * rows, -1)
    own_y = (own_weights @ own_v.transpose(2, 3)).view(batch, count, kv, group, rows, dim)
    return (y.permute(0, 3, 4, 1, 2, 5) + own_y.permute(0, 1, 4, 2, 3, 5)).reshape(batch, count, rows, kv * group * dim)


def causal_attention(q, k, v, past_k, past_v, mask):
    """q [B, R, kv, g, D], k and v [B, R, kv, D], past [B, kv, C, D] or None, mask [R, C + R] -> [B, R, kv * g * D]"""
    batch, rows, kv, group, dim = q.shape
    k, v = k.transpose(1, 2), v.transpose(1, 2)
    if past_k is not None:
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    q = (q * dim ** -0.5).permute(0, 2, 3, 1, 4).reshape(batch, kv, group * rows, dim)
    scores = (q @ k.transpose(-1, -2)).view(batch, kv, group, rows, -1)
    weights = (scores + mask.to(scores.dtype)).softmax(-1, dtype=torch.float32).to(v.dtype)
    y = weights.view(batch, kv, group * rows, -1) @ v
    return y.view(batch, kv, group, rows, dim).permute(0, 3, 1, 2, 4).reshape(batch, rows, -1)


def project(layer, kv_heads, x, rope, image_rows):
    """x [N, H] -> rotated q [N, kv, g, D], rotated k and v [N, kv, D]"""
    norm, attention, _, _ = layer.parts()
    q, k, v = (t[0].transpose(0, 1) for t in attention.qkv(norm(x)[None], image_rows))
    cos, sin = (t.to(q.dtype) for t in rope)
    return heads(rotate(q, cos, sin), kv_heads), rotate(k, cos, sin), v


def finish(layer, x, attended, image_rows):
    """The rest of a layer after its attention, [N, H]."""
    _, attention, norm, ffn = layer.parts()
    x = x + attention.out(attended[None], image_rows)[0]
    return x + ffn(norm(x)[None], image_rows)[0]


def layer_pass(layer, kv, text, image, text_rope, image_rope, masks, system_mask, image_mask, batch, groups):
    """One pass of one layer over text rows [N, H] and image rows [B * I, H].

    groups: for each (Q, L, A), A being 0 where answers take no part. Returns both and what later rows attend to.
    """
    q, k, v = project(layer, kv, text, text_rope, None)
    iq, ik, iv = (t.unflatten(0, (batch, -1)) for t in project(layer, kv, image, image_rope, True))
    n = system_mask.shape[0]
    system = causal_attention(q[None, :n], k[None, :n], v[None, :n], None, None, system_mask)
    past_k = k[:n].transpose(0, 1)[None].expand(batch, -1, -1, -1)
    past_v = v[:n].transpose(0, 1)[None].expand(batch, -1, -1, -1)
    image_y = causal_attention(iq, ik, iv, past_k, past_v, image_mask)
    context_k = torch.cat([past_k, ik.transpose(1, 2)], 2)
    context_v = torch.cat([past_v, iv.transpose(1, 2)], 2)
    prompt_y, answer_y, own = [], [], []
    at, answer_at = n, n + sum(batch * count * length for count, length, _ in groups)
    for (count, length, width), mask in zip(groups, masks):
        end, answer_end = at + batch * count * length, answer_at + batch * count * width
        rows = [t[at:end].unflatten(0, (batch, count, length)) for t in (q, k, v)]
        if width:
            more = [t[answer_at:answer_end].unflatten(0, (batch, count, width)) for t in (q, k, v)]
            rows = [torch.cat(pair, 2) for pair in zip(rows, more)]
        at, answer_at = end, answer_end
        y = question_attention(rows[0], context_k, context_v, rows[1], rows[2], mask)
        prompt_y.append(y[:, :, :length].flatten(0, 2))
        if width:
            answer_y.append(y[:, :, length:].flatten(0, 2))
        own.append(rows[1:])
    text = finish(layer, text, torch.cat([system[0]] + prompt_y + answer_y), None)
    image = finish(layer, image, image_y.flatten(0, 1), True)
    return text, image, (context_k, context_v, own)


class PackedForward:
    """One batch; `hidden` after construction holds, for each group, [B, Q, 1 + A, H]: the rows that predict."""

    def __init__(self, model, system_ids, features, groups, keep_cache=False):
        self.model, self.groups = model, groups
        c = model.config
        self.kv = c.kv_heads
        self.n_system = len(system_ids)
        self.batch, self.n_image, width = features.shape
        n_context = self.n_system + self.n_image
        ids = [system_ids] + [g.prompt_ids.flatten() for g in groups] + [g.answer_ids.flatten() for g in groups]
        self.sizes = [len(part) for part in ids]
        self.n_prompt = sum(self.sizes[: 1 + len(groups)])
        text = model.embedding(torch.cat(ids))
        image = features.flatten(0, 1)
        longest = n_context + max(g.length + g.answer_length for g in groups)
        cos, sin = (t[0, 0] for t in model.rope(torch.arange(longest)[None], longest))
        positions = torch.cat([torch.arange(self.n_system)] + [g.positions[..., : g.length].flatten() for g in groups]
                              + [g.positions[..., g.length:].flatten() for g in groups])
        self.text_rope = cos[positions][:, None], sin[positions][:, None]
        image_positions = torch.arange(self.n_system, n_context).repeat(self.batch)
        self.image_rope = cos[image_positions][:, None], sin[image_positions][:, None]
        future = torch.full((n_context, n_context), float("-inf")).triu(1)
        self.system_mask, self.image_mask = future[: self.n_system, : self.n_system], future[self.n_system:]
        self.masks = [g.mask(g.length + g.answer_length) for g in groups]
        self.cache, self.cos, self.sin = [], cos, sin

        for layer in model.layers:
            text1, image1, cache = self.layer_pass(layer, text, image, answers=True)
            if keep_cache:
                self.cache.append(cache)
            prompt1 = text1[: self.n_prompt]
            prompt2, image2, _ = self.layer_pass(layer, prompt1, image1, answers=False)
            text = torch.cat([self.mix(prompt1, prompt2), text1[self.n_prompt:]])
            image = self.mix(image1, image2)
        parts = text.split(self.sizes)
        self.hidden = []
        for i, g in enumerate(groups):
            prompts = parts[1 + i].view(g.batch, g.count, g.length, c.hidden)
            answers = parts[1 + len(groups) + i].view(g.batch, g.count, g.answer_length, c.hidden)
            self.hidden.append(torch.cat([prompts[:, :, -1:], answers], 2))

    def mix(self, y1, y2):
        s = 0.5 * torch.tanh(self.model.gate(y1).float()) + 0.5
        return y1 + s * (y2 - y1)

    def layer_pass(self, layer, text, image, answers):
        """Text rows [N, H], without the answers' if `answers` is false, and image rows [B * I, H]."""
        n = len(text)
        widths = [g.length + (g.answer_length if answers else 0) for g in self.groups]
        masks = [mask[..., :w, :w] for mask, w in zip(self.masks, widths)]
        return layer_pass(layer, self.kv, text, image, tuple(t[:n] for t in self.text_rope), self.image_rope, masks,
                          self.system_mask, self.image_mask, self.batch,
                          tuple((g.count, g.length, g.answer_length if answers else 0) for g in self.groups))

    def generate(self, limit, end_id):
        """Greedy answers to group 0, whose answers must have been given as [end] alone: list [B][Q] of token lists."""
        m, g = self.model, self.groups[0]
        own = [[t for t in layer[2][0]] for layer in self.cache]
        logits = m.logits(self.hidden[0][:, :, 0])
        out = [[[] for _ in range(g.count)] for _ in range(g.batch)]
        done = torch.zeros(g.batch, g.count, dtype=torch.bool)
        seen = torch.arange(g.length) >= g.pad[..., None]
        for step in range(limit):
            tokens = logits.argmax(-1)
            done |= tokens == end_id
            for b in range(g.batch):
                for i in range(g.count):
                    if not done[b, i]:
                        out[b][i].append(int(tokens[b, i]))
            if done.all() or step == limit - 1:
                return out
            positions = self.n_system + self.n_image + g.length - g.pad + step
            rope = m.rope(positions.view(1, -1), int(positions.max()) + 1)
            rope = rope[0][0, 0][:, None], rope[1][0, 0][:, None]
            seen = torch.cat([seen, torch.ones(g.batch, g.count, 1, dtype=torch.bool)], -1)
            mask = torch.zeros(seen.shape).masked_fill(~seen, float("-inf")).view(g.batch, 1, 1, g.count, 1, -1)
            x = m.embedding(tokens.flatten())
            for i, layer in enumerate(m.layers):
                q, k, v = (t.unflatten(0, (g.batch, g.count, 1)) for t in project(layer, self.kv, x, rope, None))
                own[i] = [torch.cat([own[i][0], k], 2), torch.cat([own[i][1], v], 2)]
                y = question_attention(q, self.cache[i][0], self.cache[i][1], own[i][0], own[i][1], mask)
                x = finish(layer, x, y.flatten(0, 2), None)
            logits = m.logits(x).view(g.batch, g.count, -1)


def answer_loss(model, forward, token_weights):
    """Cross entropy over all groups, each target weighted by its token's weight."""
    total, norm = 0.0, 0.0
    for hidden, g in zip(forward.hidden, forward.groups):
        keep = g.targets != -100
        targets = g.targets[keep]
        loss = F.cross_entropy(model.logits(hidden[keep]).float(), targets, reduction="none")
        weights = token_weights[targets]
        total = total + (loss * weights).sum()
        norm = norm + weights.sum()
    return total / norm
