"""Random scenes: one to four coloured shapes on a background, drawn with Pillow and NumPy.

`random_scene(rng)` decides what is where; `draw(scene, rng)` returns the picture and one mask an object,
from which the training takes its labels for every patch.
"""
import io
import math

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart")
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "black", "white")

# Hue in degrees, saturation, value: the range each colour word covers.
COLOUR_RANGES = {
    "red": ((-10, 7), (0.75, 1.0), (0.62, 1.0)),
    "green": ((92, 152), (0.55, 1.0), (0.4, 0.95)),
    "blue": ((208, 244), (0.65, 1.0), (0.5, 1.0)),
    "yellow": ((50, 61), (0.72, 1.0), (0.86, 1.0)),
    "orange": ((23, 39), (0.8, 1.0), (0.86, 1.0)),
    "purple": ((266, 302), (0.45, 1.0), (0.42, 0.88)),
    "black": ((0, 360), (0.0, 0.25), (0.0, 0.14)),
    "white": ((0, 360), (0.0, 0.04), (0.94, 1.0)),
}

MIN_SIZE = 1 / 7  # of the picture's shorter side


def hsv(h, s, v):
    """Hue in degrees, s and v in 0..1 -> float RGB in 0..255."""
    h = (h % 360) / 60
    i = int(h)
    f = h - i
    p, q, t = v * (1 - s), v * (1 - s * f), v * (1 - s * (1 - f))
    return 255 * np.array([(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)][i % 6])


def shade(colour, rng):
    hue, saturation, value = COLOUR_RANGES[colour]
    return hsv(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))


def contrast(a, b):
    """Distance of two RGB colours, weighted by the eye's sensitivity (0 to about 765)."""
    mean = (a[0] + b[0]) / 2
    d = a - b
    return math.sqrt((2 + mean / 256) * d[0] ** 2 + 4 * d[1] ** 2 + (2 + (255 - mean) / 256) * d[2] ** 2)


# ---------------------------------------------------------------------------------------------------
# Shapes as polygons in a box of -1 .. 1


def polygon(shape, rng):
    """Points [n, 2] of the outline and, for a ring, the hole's radius."""
    if shape in ("circle", "ring"):
        angle = np.linspace(0, 2 * math.pi, 60, endpoint=False)
        points = np.stack([np.cos(angle), np.sin(angle)], 1)
        return points, (rng.uniform(0.42, 0.76) if shape == "ring" else 0.0)
    turn = rng.uniform(-12, 12) if rng.random() < 0.5 else 0.0
    if shape == "square":
        points = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float) * 0.93
    elif shape == "diamond":
        narrow = rng.uniform(0.6, 1.0) if rng.random() < 0.7 else 1.0
        points = np.array([(0, -1), (narrow, 0), (0, 1), (-narrow, 0)], float)
        turn *= 0.8
    elif shape == "triangle":
        if rng.random() < 0.5:
            points = np.array([(0, -1), (0.87, 0.5), (-0.87, 0.5)])
        else:
            wide = rng.uniform(0.75, 1.0)
            points = np.array([(rng.choice([0, 0, 0, -wide, wide]), -0.9), (wide, 0.9), (-wide, 0.9)])
        kind = rng.random()
        turn = turn if kind < 0.7 else turn + 180 if kind < 0.85 else rng.uniform(0, 360)
    elif shape == "star":
        tips = 5 if rng.random() < 0.93 else 6
        inner = rng.uniform(0.36, 0.55)
        angle = np.arange(2 * tips) * math.pi / tips - math.pi / 2
        radius = np.where(np.arange(2 * tips) % 2 == 0, 1.0, inner)
        points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
        turn = turn if rng.random() < 0.6 else rng.uniform(0, 360)
    elif shape == "cross":
        w = rng.uniform(0.2, 0.42)
        points = np.array([(-w, -1), (w, -1), (w, -w), (1, -w), (1, w), (w, w), (w, 1), (-w, 1), (-w, w),
                           (-1, w), (-1, -w), (-w, -w)])
        turn = turn if rng.random() < 0.85 else turn + 45
    else:  # heart
        if rng.random() < 0.5:
            t = np.linspace(0, 2 * math.pi, 60, endpoint=False)
            x = 16 * np.sin(t) ** 3
            y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
            points = np.stack([x / 17, (y - 2.5) / 15.5], 1)
        else:
            lobes = [(math.cos(a) * 0.5 - 0.5, math.sin(a) * 0.5 - 0.4) for a in np.linspace(math.pi * 0.8, 2 * math.pi, 16)]
            lobes += [(math.cos(a) * 0.5 + 0.5, math.sin(a) * 0.5 - 0.4) for a in np.linspace(math.pi, 2.2 * math.pi, 16)]
            points = np.array(lobes + [(0, rng.uniform(0.85, 1.0))])
        turn *= 1.4
    turn = math.radians(turn)
    rotation = np.array([(math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))])
    return points @ rotation, 0.0


# ---------------------------------------------------------------------------------------------------
# What is in a scene


def random_size(rng, aspect=None):
    """Width and height in pixels; aspect is width / height where the caller wants a certain one."""
    short = int(round(math.exp(rng.uniform(math.log(72), math.log(420)))))
    if rng.random() < 0.03:
        short = int(rng.integers(420, 800))
    if aspect is None:
        kind = rng.random()
        if kind < 0.2:
            aspect = 1.0
        elif kind < 0.5:
            aspect = [4 / 3, 3 / 2, 16 / 9, 5 / 4, 2.0, 3.0][rng.choice(6, p=[0.35, 0.2, 0.15, 0.15, 0.1, 0.05])]
        elif kind < 0.9:
            aspect = math.exp(rng.uniform(0, math.log(1.9)))
        else:
            aspect = rng.uniform(1.5, 3.2)
        if rng.random() < 0.4:
            aspect = 1 / aspect
    if aspect >= 1:
        return int(round(short * aspect)), short
    return short, int(round(short / aspect))


def random_scene(rng, width=None, height=None, n_objects=None, ease=0.0):
    """{"width", "height", "objects": [{"shape", "colour", "x", "y", "size"}, ...]}, in pixels; x, y the centre.

    ease from 0 to 1 makes objects larger and fewer, for the beginning of the training."""
    if width is None:
        width, height = random_size(rng)
    short = min(width, height)
    n = n_objects or int(rng.choice([1, 2, 3, 4], p=[0.17, 0.39, 0.23, 0.21]))
    if rng.random() < ease:
        n = min(n, int(rng.integers(1, 3)))
    largest = (0.5, 0.5, 0.42, 0.36, 0.3, 0.27)[n - 1]
    smallest = MIN_SIZE + (largest - MIN_SIZE) * 0.8 * ease
    objects = []
    while len(objects) < n:
        objects = []
        for _ in range(40 * n):
            size = short * rng.uniform(smallest, largest)
            if rng.random() < 0.3 and ease == 0.0:
                size = short * rng.uniform(MIN_SIZE, 0.25)
            reach = size / 2 + 1
            x, y = rng.uniform(reach, width - reach), rng.uniform(reach, height - reach)
            if any(math.hypot(x - o["x"], y - o["y"]) < 0.56 * (size + o["size"]) + 0.01 * short for o in objects):
                continue
            objects.append({"shape": SHAPES[rng.integers(8)], "colour": COLOURS[rng.integers(8)],
                            "x": float(x), "y": float(y), "size": float(size)})
            if len(objects) == n:
                break
    repeat = rng.random()  # make shared shapes and colours common enough to count and compare
    if n > 1 and repeat < 0.42:
        a, b = rng.choice(n, 2, replace=False)
        for key in (("shape",), ("colour",), ("shape", "colour"))[rng.choice(3, p=[0.52, 0.36, 0.12])]:
            objects[b][key] = objects[a][key]
        if n > 2 and rng.random() < 0.25:
            for o in objects:
                o["shape"] = objects[a]["shape"]
    return {"width": width, "height": height, "objects": objects}


# ---------------------------------------------------------------------------------------------------
# Drawing


def random_tone(rng):
    """A background colour: grey, pastel, dark or strong."""
    kind = rng.random()
    if kind < 0.3:
        return np.full(3, rng.uniform(0, 255)) + rng.uniform(-8, 8, 3)
    if kind < 0.6:
        return hsv(rng.uniform(0, 360), rng.uniform(0.05, 0.35), rng.uniform(0.7, 1.0))
    if kind < 0.8:
        return hsv(rng.uniform(0, 360), rng.uniform(0.1, 0.7), rng.uniform(0.12, 0.55))
    return hsv(rng.uniform(0, 360), rng.uniform(0.4, 1.0), rng.uniform(0.5, 1.0))


def background(width, height, shades, rng):
    """[height, width, 3] float in 0..255 from which every shade in the list stands out."""
    for _ in range(200):
        tone = random_tone(rng).clip(0, 255)
        if all(contrast(tone, s) > 190 for s in shades):
            break
    kind = rng.choice(["plain", "graded", "noisy", "textured"], p=[0.3, 0.25, 0.22, 0.23])
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = tone
    if kind in ("graded", "textured"):
        other = tone
        for _ in range(30):  # a second tone that is near the first and still keeps its distance from the objects
            candidate = (tone + rng.uniform(-75, 75, 3)).clip(0, 255)
            if contrast(candidate, tone) < 190 and all(contrast(candidate, s) > 150 for s in shades):
                other = candidate
                break
        ys = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
        xs = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None]
        if kind == "graded":
            if rng.random() < 0.7:
                angle = rng.choice([0, 90, 180, 270]) if rng.random() < 0.5 else rng.uniform(0, 360)
                c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
                weight = 0.5 + (xs * c + ys * s) / (abs(c) + abs(s))
            else:
                weight = np.sqrt(xs ** 2 + ys ** 2) * 1.41
        else:
            step = max(3.0, rng.uniform(0.02, 0.12) * min(width, height))
            px = np.arange(width, dtype=np.float32)[None] / step
            py = np.arange(height, dtype=np.float32)[:, None] / step
            pattern = rng.choice(["stripes", "checks", "dots", "waves", "grid"])
            if pattern == "stripes":
                angle = rng.uniform(0, math.pi)
                weight = np.floor(px * math.cos(angle) + py * math.sin(angle)) % 2
            elif pattern == "checks":
                weight = (np.floor(px) + np.floor(py)) % 2
            elif pattern == "dots":
                weight = ((px % 2 - 1) ** 2 + (py % 2 - 1) ** 2 < rng.uniform(0.1, 0.5)).astype(np.float32)
            elif pattern == "grid":
                weight = ((px % 2 < 0.3) | (py % 2 < 0.3)).astype(np.float32)
            else:
                weight = 0.5 + 0.5 * np.sin(px * 1.5 + 2 * np.sin(py * 0.7))
            weight = weight * rng.uniform(0.3, 1.0)
        canvas += weight[..., None] * (other - tone).astype(np.float32)
    if kind == "noisy" or rng.random() < 0.1:
        strength = rng.uniform(3, 22)
        block = 1 if rng.random() < 0.6 else int(rng.integers(2, 7))
        channels = 1 if rng.random() < 0.5 else 3
        noise = rng.standard_normal((-(-height // block), -(-width // block), channels), dtype=np.float32) * strength
        if block > 1:
            noise = noise.repeat(block, 0).repeat(block, 1)[:height, :width]
        canvas += noise
    return canvas


def object_mask(points, hole, centre, radius, smooth):
    """Coverage of a shape as float in 0..1, and its top left corner in the picture."""
    left, top = int(centre[0] - radius * 1.45) - 1, int(centre[1] - radius * 1.45) - 1
    side = int(radius * 2.9) + 3
    scale = 3 if smooth else 1
    image = Image.new("L", (side * scale, side * scale), 0)
    pen = ImageDraw.Draw(image)
    offset = np.array([centre[0] - left, centre[1] - top])
    pen.polygon([tuple(p) for p in ((points * radius + offset) * scale).tolist()], fill=255)
    if hole:
        angle = np.linspace(0, 2 * math.pi, 60, endpoint=False)
        inner = np.stack([np.cos(angle), np.sin(angle)], 1) * hole
        pen.polygon([tuple(p) for p in ((inner * radius + offset) * scale).tolist()], fill=0)
    if scale > 1:
        image = image.reduce(scale)
    return np.asarray(image, np.float32) / 255, left, top


def blend(canvas, mask, left, top, colour):
    """Paints colour ([3] or [h, w, 3]) through a mask that may hang over the canvas's edges."""
    height, width = canvas.shape[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + mask.shape[1], width), min(top + mask.shape[0], height)
    m = mask[y0 - top : y1 - top, x0 - left : x1 - left, None]
    if np.ndim(colour) == 3:
        colour = colour[y0 - top : y1 - top, x0 - left : x1 - left]
    canvas[y0:y1, x0:x1] += m * (colour - canvas[y0:y1, x0:x1])
    return m[..., 0], x0, y0


def draw(scene, rng):
    """The picture as [height, width, 3] uint8 and, for each object, (mask, left, top) inside it."""
    width, height = scene["width"], scene["height"]
    # Shades of one colour within a scene mostly agree, as in drawings by hand.
    shades = [shade(o["colour"], rng) for o in scene["objects"]]
    canvas = background(width, height, shades, rng)
    smooth = rng.random() < 0.85
    outlined = rng.random() < 0.18
    masks = []
    for o, fill in zip(scene["objects"], shades):
        points, hole = polygon(o["shape"], rng)
        reach = np.abs(points).max()
        radius = o["size"] / 2 / reach
        centre = (o["x"], o["y"])
        mask, left, top = object_mask(points, hole, centre, radius, smooth)
        if outlined and not hole:
            edge = fill * rng.uniform(0.35, 0.75) if fill.sum() > 90 else fill + rng.uniform(30, 80)
            blend(canvas, mask, left, top, edge)
            inner, il, it = object_mask(points * rng.uniform(0.82, 0.93), 0, centre, radius, smooth)
            blend(canvas, inner, il, it, fill)
            masks.append(clip_mask(mask, left, top, width, height))
            continue
        colour = fill.astype(np.float32)
        if rng.random() < 0.15:  # a light gradient over the object
            ramp = np.linspace(-1, 1, mask.shape[0], dtype=np.float32)[:, None, None] * rng.uniform(-18, 18)
            colour = np.broadcast_to(colour + ramp, mask.shape + (3,))
        masks.append(blend(canvas, mask, left, top, colour))
    if rng.random() < 0.12:
        canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * rng.uniform(1, 7)
    pixels = canvas.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.08:
        stored = io.BytesIO()
        Image.fromarray(pixels).save(stored, "JPEG", quality=int(rng.integers(55, 96)))
        pixels = np.asarray(Image.open(stored).convert("RGB"))
    return pixels, masks


def clip_mask(mask, left, top, width, height):
    x0, y0 = max(left, 0), max(top, 0)
    return mask[y0 - top : height - top, x0 - left : width - left], x0, y0


# ---------------------------------------------------------------------------------------------------
# Labels of patches


def patch_labels(scene, masks, columns, rows):
    """[rows, columns, 3] int64 for a grid laid over the picture: shape + 1, colour + 1 (0: background)
    of the object that covers a patch most, and 1 where an object's centre is. A patch with a centre always has
    a shape and a colour, so that small thin objects are not lost between patches."""
    width, height = scene["width"], scene["height"]
    best = np.full((rows, columns), 0.08, np.float32)
    labels = np.zeros((rows, columns, 3), np.int64)
    # Sums over cells by cumulative sums at (fractional) cell edges, rounded to pixels.
    xs = np.round(np.linspace(0, width, columns + 1)).astype(int)
    ys = np.round(np.linspace(0, height, rows + 1)).astype(int)
    for o, (mask, left, top) in zip(scene["objects"], masks):
        total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.float32)
        total[1:, 1:] = mask.cumsum(0).cumsum(1)
        cx = (xs - left).clip(0, mask.shape[1])
        cy = (ys - top).clip(0, mask.shape[0])
        cell = np.diff(np.diff(total[cy][:, cx], axis=0), axis=1)
        cell = cell / np.maximum(np.diff(ys)[:, None] * np.diff(xs)[None], 1)
        won = cell > best
        best = np.where(won, cell, best)
        labels[won, 0] = SHAPES.index(o["shape"]) + 1
        labels[won, 1] = COLOURS.index(o["colour"]) + 1
        cell_x = min(int(o["x"] / width * columns), columns - 1)
        cell_y = min(int(o["y"] / height * rows), rows - 1)
        labels[cell_y, cell_x, 2] = 1
        if labels[cell_y, cell_x, 0] == 0:
            labels[cell_y, cell_x, :2] = SHAPES.index(o["shape"]) + 1, COLOURS.index(o["colour"]) + 1
    return labels
