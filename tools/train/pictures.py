"""From a picture to what the encoders take: the two resizes and the tiles, as the published code does them."""
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Candidate grids (columns, rows) in the order that decides ties.
GRIDS = ((1, 1), (1, 2), (2, 1), (3, 1), (1, 3), (4, 1), (1, 4), (2, 2), (1, 5), (5, 1), (6, 1), (2, 3), (1, 6), (3, 2))


def choose_grid(width, height, size):
    best, best_difference = (1, 1), float("inf")
    for i, j in GRIDS:
        difference = abs(width / height - i / j)
        if difference < best_difference:
            best, best_difference = (i, j), difference
        elif difference == best_difference and width * height > 0.5 * size * size * i * j:
            best = (i, j)
    return best


def resize_clip(pixels, width, height):
    """[h, w, 3] uint8 -> [height, width, 3] uint8, torch's bicubic on bytes."""
    x = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
    return F.interpolate(x, size=(height, width), mode="bicubic", align_corners=False)[0].permute(1, 2, 0).numpy()


def resize_pillow(image, width, height):
    """Pillow 10's bicubic: the width first whatever the picture's form."""
    image = image.resize((width, image.height), Image.BICUBIC) if image.width != width else image
    return image.resize((width, height), Image.BICUBIC) if image.height != height else image


def cut_tiles(pixels, size):
    """[h, w, 3] uint8 -> tiles [n, size, size, 3] uint8, the thumbnail last, and the grid (columns, rows)."""
    image = Image.fromarray(pixels)
    columns, rows = choose_grid(image.width, image.height, size)
    large = np.asarray(resize_pillow(image, size * columns, size * rows))
    tiles = large.reshape(rows, size, columns, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)
    if len(tiles) > 1:
        tiles = np.concatenate([tiles, np.asarray(resize_pillow(image, size, size))[None]])
    return tiles, (columns, rows)


def to_tiles(pixels, config):
    """[h, w, 3] uint8 -> [n, S, S, 3] uint8 for either family, and the grid."""
    if config.phi3:
        return cut_tiles(pixels, config.image_size)
    return resize_clip(pixels, config.image_size, config.image_size)[None], (1, 1)


def normalize(tiles, config):
    """[..., S, S, 3] uint8 tensor -> [..., 3, S, S] float32."""
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if config.phi3 else (CLIP_MEAN, CLIP_STD)
    x = (tiles.float() / 255 - torch.tensor(mean)) / torch.tensor(std)
    return x.movedim(-1, -3).contiguous()


def open_rgb(path):
    """The first frame, alpha dropped."""
    image = Image.open(path)
    return np.asarray(image.convert("RGBA").convert("RGB") if "A" in image.mode else image.convert("RGB"))
