"""A third task, in training only: words look at what they name.

Questions of this kind improve slowly until a first attention head finds the patches a word stands for, and fast after
that. So two query heads get targets to attend to, in pass 1:

    layer 0   a colour or shape word looks at the patches with that label
    layer 1   at the centres of the objects that it means with the word before it (the red circle: both labels)
    layer 2   the row that is about to say such a word looks at the patches of what it will name
    layer 3   the row that is about to say where, how many, larger, yes or no looks at the question's last word for what
              it asks about

and at the system prompt where there is nothing of the kind. After layer 1 a linear probe reads from each word that
means exactly one object where that lies, how large it is, its colour and its shape; after layer 2 another reads from
the question's words how many objects they mean, and how the last one lies to the one named before it, which is larger,
and whether colour and shape are the same. Needs fused.py's forward.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

import model as trol
import questions
import scenes

NOUNS = ("object", "shape", "thing", "figure", "item")


class Words:
    """For each token id: colour and shape (1 .. 8; 0: none), and whether it is a noun for any object, or its plural."""

    def __init__(self, tokenizer, vocabulary):
        self.colour, self.shape = torch.zeros(vocabulary + 1, dtype=torch.long), torch.zeros(vocabulary + 1, dtype=torch.long)
        self.noun, self.nouns = torch.zeros(vocabulary + 1, dtype=torch.bool), torch.zeros(vocabulary + 1, dtype=torch.bool)

        def mark(table, word, value):
            for piece in ("\u2581" + word, word):
                found = tokenizer.pieces.piece_to_id(piece)
                if found != tokenizer.pieces.unk_id():
                    table[found] = value

        for i, name in enumerate(scenes.COLOURS):
            mark(self.colour, name, i + 1)
        for i, name in enumerate(scenes.SHAPES):
            mark(self.shape, name, i + 1)
            mark(self.shape, questions.PLURAL[name], i + 1)
        for name in NOUNS + ("one",):
            mark(self.noun, name, True)
        self.where, self.telling = torch.zeros(vocabulary + 1, dtype=torch.bool), torch.zeros(vocabulary + 1, dtype=torch.bool)
        for name in ("left", "right", "above", "below"):
            mark(self.where, name, True)
        for name in ("left", "right", "above", "below", "top", "bottom", "larger", "smaller", "yes", "Yes", "No", "both", *questions.NUMBERS):
            mark(self.telling, name, True)
        for name in NOUNS:
            mark(self.noun, name + "s", True)
            mark(self.nouns, name + "s", True)

    def meant(self, ids):
        """ids [n, T] -> colour and shape that each word means together with the word before it, and whether it means any object."""
        colour, shape = self.colour[ids], self.shape[ids]
        before = F.pad(colour[:, :-1], (1, 0))
        noun = self.noun[ids] & (before > 0)
        both = torch.where((shape > 0) | noun, before, colour)
        return both, shape, (both > 0) | (shape > 0) | self.nouns[ids]


class Probe(nn.Module):
    """What a row knows of the objects that its word means: place and size [4], colour [8], shape [8] of one; how many [5]."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, 4 + 8 + 8)
        self.count_norm, self.count = nn.LayerNorm(width), nn.Linear(width, 5)
        self.pair_norm, self.pair = nn.LayerNorm(width), nn.Linear(width, 3 + 2 + 4)

    def one(self, rows):
        return self.linear(self.norm(rows)).split([4, 8, 8], -1)

    def number(self, rows):
        return self.count(self.count_norm(rows))

    def two(self, rows):
        """The position of the first relative to the second and the ratio of their sizes [3]; logits of: same colour, same shape [2], left,
        right, above, below [4]."""
        return self.pair(self.pair_norm(rows)).split([3, 2, 4], -1)


def image_labels(labels, batch, config):
    """Patch labels [tiles, P, 3] -> [B, I, patches of an image token, 3]"""
    if config.phi3:
        tiles, patches, _ = labels.shape
        labels = trol.pixel_shuffle(labels.float()).long().view(tiles, patches // 4, 4, 3)
    else:
        labels = labels.long()[:, :, None]
    return labels.reshape(batch, -1, *labels.shape[2:])


def find(labels, picture, colour, shape, centres):
    """[M, I]: image tokens of picture [M] with a patch of this colour and shape [M] (0: any)."""
    own = labels[picture]
    hit = (own[..., 0] > 0) & ((shape[:, None, None] == 0) | (own[..., 0] == shape[:, None, None]))
    hit &= (colour[:, None, None] == 0) | (own[..., 1] == colour[:, None, None])
    if centres:
        hit &= own[..., 2] > 0
    return hit.any(-1)


def text_rows(forward):
    """For each group: ids [n, L + A], their rows in the batch [n, L + A], their picture [n]; -1 where there is nothing."""
    n_groups, found = len(forward.groups), []
    for i, g in enumerate(forward.groups):
        n = g.batch * g.count
        ids = torch.cat([g.prompt_ids, g.answer_ids], 1)
        prompt = forward.starts[2 + i] + torch.arange(n * g.length).view(n, -1)
        answer = forward.starts[2 + n_groups + i] + torch.arange(n * g.answer_length).view(n, -1)
        used = (g.targets.view(n, -1) != -100).sum(-1) - 1
        answer = torch.where(torch.arange(g.answer_length) < used[:, None], answer, -1)
        prompt = torch.where(torch.arange(g.length) >= g.pad.view(n, 1), prompt, -1)
        found.append((ids, torch.cat([prompt, answer], 1), torch.arange(n) // g.count))
    return found


def attention_loss(forward, layer, rows, picture, target):
    """-log of the attention that two heads of rows [M] spend on target [M, I], among system and picture;
    on the system prompt where the target is empty."""
    geometry = forward.geometry
    batch, n_image, n_system = geometry.batch, geometry.n_image, geometry.n_system
    group = len(forward.columns[0]) // geometry.kv_heads
    keys = torch.arange(batch * n_image + n_system)
    losses = 0.0
    missing = ~target.any(-1)
    wanted = torch.cat([missing[:, None].expand(-1, n_system), target], 1)
    for head in (0, len(forward.columns[0]) // 2):
        q = rotated(forward, layer, forward.columns[0][head], rows) * 32 ** -0.5
        k = rotated(forward, layer, forward.columns[1][head // group], keys)
        image = torch.einsum("md,bid->mbi", q, k[: batch * n_image].view(batch, n_image, 32))
        image = image[torch.arange(len(rows)), picture]
        scores = torch.cat([q @ k[batch * n_image :].t(), image], 1).log_softmax(-1)
        losses = losses - scores.masked_fill(~wanted, -1e9).logsumexp(-1).mean()
    return losses / 2


def rotated(forward, layer, column, rows):
    """The queries or keys [..., 32] of a layer's pass 1 that begin at this column, of any rows, after rope."""
    x = forward.taps[layer][0][rows, column : column + 32].float()
    cos, sin = (t[forward.positions[rows].long()] for t in forward.rope)
    low, high = x[..., :16], x[..., 16:]
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


def scene_objects(chosen):
    """[B, 6, 2] colour and shape (1 .. 8, 0: none), [B, 6, 4] place and size as the probe gives them, [B, 6, 3] the same
    with both directions in one unit."""
    kinds, places = torch.zeros(len(chosen), 6, 2, dtype=torch.long), torch.zeros(len(chosen), 6, 4)
    scaled = torch.zeros(len(chosen), 6, 3)
    for b, picture in enumerate(chosen):
        scene = picture.scene
        width, height = scene["width"], scene["height"]
        for i, o in enumerate(scene["objects"]):
            kinds[b, i] = torch.tensor([scenes.COLOURS.index(o["colour"]) + 1, scenes.SHAPES.index(o["shape"]) + 1])
            places[b, i] = torch.tensor([4 * o["x"] / width - 2, 4 * o["y"] / height - 2,
                                         2 * math.log(o["size"] / min(width, height)) + 2.5, 2 * math.log(width / height)])
            short = min(width, height)
            scaled[b, i] = torch.tensor([3 * o["x"] / short, 3 * o["y"] / short, 2 * math.log(o["size"] / short)])
    return kinds, places, scaled


def loss(forward, words, probe, chosen, labels, config):
    """The sum of the attention losses, the probe's loss, and the shares of attention on the targets."""
    labels = image_labels(labels, len(chosen), config)
    parts, known = text_rows(forward), [words.meant(ids) for ids, _, _ in text_rows(forward)]
    total, shares = 0.0, []

    def add(layer, pieces, centres, only_present=False):
        nonlocal total
        rows, picture, colour, shape = (torch.cat(x) for x in zip(*pieces))
        target = find(labels, picture, colour, shape, centres)
        if only_present:
            keep = target.any(-1)
            rows, picture, target = rows[keep], picture[keep], target[keep]
        value = attention_loss(forward, layer, rows, picture, target)
        total = total + value
        shares.append(value.item())

    own, both, said = [], [], []
    for (ids, rows, picture), (colour, shape, any_object), g in zip(parts, known, forward.groups):
        plain_colour, plain_shape = words.colour[ids], words.shape[ids]
        keep = ((plain_colour > 0) | (plain_shape > 0)) & (rows >= 0)
        spread = picture[:, None].expand_as(rows)
        own.append((rows[keep], spread[keep], plain_colour[keep], plain_shape[keep]))
        keep = any_object & (rows >= 0)
        both.append((rows[keep], spread[keep], colour[keep], shape[keep]))
        targets = g.targets.view(len(ids), -1).clamp(min=0)
        colour, shape = words.colour[targets], words.shape[targets]
        after, before = F.pad(shape[:, 1:], (0, 1)), F.pad(colour[:, :-1], (1, 0))
        colour, shape = torch.where(shape > 0, before, colour), torch.where(colour > 0, after, shape)
        speaking = rows[:, g.length - 1 :]
        keep = ((colour > 0) | (shape > 0)) & ((words.colour[targets] > 0) | (words.shape[targets] > 0)) & (speaking >= 0)
        spread = picture[:, None].expand_as(speaking)
        said.append((speaking[keep], spread[keep], colour[keep], shape[keep]))
    add(0, own, False)
    add(1, both, True)
    add(2, said, False, True)

    kinds, places, scaled = scene_objects(chosen)
    rows, picture, colour, shape = (torch.cat(x) for x in zip(*both))
    match = matches(kinds[picture], colour, shape)
    asked = rows < forward.starts[2 + len(forward.groups)]
    counted = F.cross_entropy(probe.number(forward.taps[2][1][rows[asked]]), match.sum(-1)[asked].clamp(max=4))
    one = match.sum(-1) == 1
    at = match[one].int().argmax(-1)
    own_kinds, own_places = kinds[picture][one, at], places[picture][one, at]
    place, said_colour, said_shape = probe.one(forward.taps[1][1][rows[one]])
    probed = F.smooth_l1_loss(place, own_places, beta=0.2) * 4
    probed = probed + 0.5 * (F.cross_entropy(said_colour, own_kinds[:, 0] - 1) + F.cross_entropy(said_shape, own_kinds[:, 1] - 1))
    paired, looked = pair_loss(forward, parts, known, words, probe, kinds, scaled)
    shares += [counted.item(), paired.item(), float(looked)]
    return total + looked, probed + counted + paired, shares


def matches(kinds, colour, shape):
    """kinds [..., 6, 2], colour and shape [...] -> [..., 6]: which objects are meant."""
    colour, shape = colour[..., None], shape[..., None]
    return (kinds[..., 0] > 0) & ((colour == 0) | (kinds[..., 0] == colour)) & ((shape == 0) | (kinds[..., 1] == shape))


def pair_loss(forward, parts, known, words, probe, kinds, scaled):
    """On the last word of a question that means one object, where another does so before it: the position of the one
    that the answer is about relative to the other; on words that mean two: whether they are alike. And where the answer
    names one, layer 3 looks at that word of the question. Returns both losses."""
    rows, first, second, picture, looks = [], [], [], [], []
    for (ids, all_rows, pictures), (colour, shape, any_object), g in zip(parts, known, forward.groups):
        n = g.length
        match = matches(kinds[pictures][:, None], colour, shape) & (any_object & (all_rows >= 0))[..., None]
        count, which = match.sum(-1), match.int().argmax(-1)
        answer_one, answer_which = count[:, n:] == 1, which[:, n:]
        count, which, match = count[:, :n], which[:, :n], match[:, :n]
        order = torch.arange(1, n + 1)
        last = ((count == 1) * order).max(-1)
        object2 = which.gather(1, last.indices[:, None])[:, 0]
        before = (((count == 1) & (which != object2[:, None])) * order * (order <= last.values[:, None])).max(-1)
        object1 = which.gather(1, before.indices[:, None])[:, 0]
        # "Which side of the ring is the star on": the answer's first object, if it names a direction, is the first.
        targets = g.targets.view(len(ids), -1).clamp(min=0)
        says_where = words.where[targets].any(-1)
        spoken = answer_one & ((answer_which == object1[:, None]) | (answer_which == object2[:, None]))
        reversed_ = says_where & spoken.any(-1) & (answer_which.gather(1, spoken.int().argmax(-1)[:, None])[:, 0] == object2)
        object1, object2 = torch.where(reversed_, object2, object1), torch.where(reversed_, object1, object2)
        keep = (last.values > 0) & (before.values > 0)
        pair_rows = all_rows.gather(1, last.indices[:, None])[:, 0]
        rows.append(pair_rows[keep])
        first.append(object1[keep])
        second.append(object2[keep])
        picture.append(pictures[keep])
        speaking = all_rows[:, n - 1 :]
        named = ((any_object & (all_rows >= 0))[:, :n] * order).max(-1)
        at = torch.where(keep, last.indices, named.indices)
        telling = (named.values > 0)[:, None] & words.telling[targets] & (speaking >= 0)
        looks.append((speaking[telling], all_rows[:, None, :n].expand(-1, speaking.shape[1], -1)[telling], at[:, None].expand_as(speaking)[telling]))
        two = count == 2
        rows.append(all_rows[:, :n][two])
        first.append(which[two])
        second.append(5 - match[two].int().flip(-1).argmax(-1))
        picture.append(pictures[:, None].expand(-1, n)[two])
    pairs = sum(len(r) for r in rows[::2])
    rows, first, second, picture = (torch.cat(x[::2] + x[1::2]) for x in (rows, first, second, picture))
    difference = scaled[picture, first] - scaled[picture, second]
    same = (kinds[picture, first] == kinds[picture, second]).float()
    where, equal, direction = probe.two(forward.taps[2][1][rows])
    loss = F.binary_cross_entropy_with_logits(equal, same)
    if pairs:
        where, direction, difference = where[:pairs], direction[:pairs], difference[:pairs]
        across, down = difference[:, 0].abs(), difference[:, 1].abs()
        label = torch.where(across > down, 0 + (difference[:, 0] > 0).long(), 2 + (difference[:, 1] > 0).long())
        clear = torch.maximum(across, down) > 1.15 * torch.minimum(across, down)
        loss = loss + F.smooth_l1_loss(where, difference, beta=0.2) * 2
        if clear.any():
            loss = loss + F.cross_entropy(direction[clear], label[clear])
    return loss, sum(question_look(forward, 3, *look) for look in looks if len(look[0])) / len(looks)


def question_look(forward, layer, rows, keys, wanted):
    """-log of the attention that two heads of rows [M] spend, of all on their question's rows keys [M, L], on keys[:, wanted]."""
    group = len(forward.columns[0]) // forward.geometry.kv_heads
    losses, absent = 0.0, keys < 0
    keys = keys.clamp(min=0)
    for head in (0, len(forward.columns[0]) // 2):
        q = rotated(forward, layer, forward.columns[0][head], rows) * 32 ** -0.5
        k = rotated(forward, layer, forward.columns[1][head // group], keys)
        scores = (k @ q[..., None])[..., 0].masked_fill(absent, -1e9).log_softmax(-1)
        losses = losses - scores.gather(1, wanted[:, None]).mean()
    return losses / 2
