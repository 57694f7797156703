"""Coloured shapes, 64x64 pixels, in a folder for each kind: a data set that needs no download.

    python examples/shapes/draw.py out/shapes
    fastvae train --data images:out/shapes --model conv --width 16 --likelihood gaussian --latents 16 \
        --epochs 10 --batch-size 32 --amp bf16 --out out/shapes-vae
    fastvae sample out/shapes-vae --interpolate --out shapes.png

One shape of a random place, size and colour on a background of another: numbers for the latents to find. bf16 is for
processors that have it: without, a convolution is slower by tens of times.
"""

from __future__ import annotations

import argparse
import colorsys
import random
from pathlib import Path

from PIL import Image, ImageDraw

SIZE, OVERSAMPLED = 64, 4  # drawn larger and reduced, so that edges are smooth
KINDS = ("disc", "square", "triangle")


def colour(chance: random.Random, value: float) -> tuple[int, ...]:
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(chance.random(), 0.7, value))


def draw(kind: str, chance: random.Random) -> Image.Image:
    side = SIZE * OVERSAMPLED
    image = Image.new("RGB", (side, side), colour(chance, 0.35))
    radius = chance.uniform(0.15, 0.3) * side
    x, y = (chance.uniform(radius, side - radius) for _ in range(2))
    fill, pen = colour(chance, 0.95), ImageDraw.Draw(image)
    if kind == "disc":
        pen.circle((x, y), radius, fill)
    else:
        corners = 4 if kind == "square" else 3
        pen.regular_polygon((x, y, radius), corners, fill=fill)
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1500, help="images, of all kinds together (default: 1500)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    for i in range(options.count):
        kind = KINDS[i % len(KINDS)]
        (options.folder / kind).mkdir(parents=True, exist_ok=True)
        draw(kind, chance).save(options.folder / kind / f"{i:05}.png")


if __name__ == "__main__":
    main()
