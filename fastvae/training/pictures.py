"""Pictures of images: grids to the pixel, by Pillow. Curves and latents are plots, see `plots.py`."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from ..files import whole_file

GAP = 1  # pixels between images
LEAST = 640  # a smaller picture is enlarged, each pixel by the same whole number


def grid(images: Tensor, columns: int | None = None) -> Tensor:
    """One image [channels, height, width] of `images` [n, channels, height, width], row by row, uint8.

    Floating images are in [0, 1]; what lies outside is cut off. Without `columns` the grid is about a square.
    """
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    pixels = images if images.dtype == torch.uint8 else (images.float().clamp(0, 1) * 255).round().byte()
    canvas = torch.full((channels, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), 255, dtype=torch.uint8)
    for i, image in enumerate(pixels.cpu()):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        canvas[:, top : top + height, left : left + width] = image
    return canvas


def save_grid(path: Path, images: Tensor, columns: int | None = None) -> None:
    """`grid` as a file in the format of its name."""
    from PIL import Image

    canvas = grid(images, columns)
    array = canvas[0].numpy() if len(canvas) == 1 else canvas[:3].permute(1, 2, 0).numpy()
    scale = max(1, LEAST // max(canvas.shape[1:]))
    picture = Image.fromarray(array).resize(
        (canvas.shape[2] * scale, canvas.shape[1] * scale), Image.Resampling.NEAREST
    )
    with whole_file(path) as temporary:
        picture.save(temporary, optimize=True)


def pairs(originals: Tensor, decoded: Tensor, columns: int) -> Tensor:
    """Both [n, ...], `n` a multiple of `columns`, as rows of originals, each above the row of what was decoded."""
    shape = (-1, columns, *decoded.shape[1:])
    rows = [as_float(t).reshape(shape) for t in (originals, decoded)]
    return torch.stack(rows, 1).reshape(-1, *decoded.shape[1:])


def as_float(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
