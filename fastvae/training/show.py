"""What a trained model draws: samples, reconstructions, interpolations, and the plane of two latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import pictures, plots
from .data import Dataset, Images
from .evaluation import test_batches
from .seeds import generator

COLUMNS, PLANE = 12, 20
CPU = torch.device("cpu")
ALWAYS = ("curves.png",)
OF_IMAGES = ("samples.png", "reconstructions.png", "interpolations.png")
OF_TWO_LATENTS = ("latents.png", "plane.png")
PICTURES = (*ALWAYS, *OF_IMAGES, *OF_TWO_LATENTS)


@torch.no_grad()
def write_pictures(
    out: Path, model: Any, data: Dataset, epochs: Sequence[Mapping[str, Any]], seed: int, device: torch.device
) -> list[Path]:
    """Those of PICTURES that there are of this model; where it wrote them."""
    written = []
    if epochs:
        run = {name: [float("nan") if e[name] is None else e[name] for e in epochs] for name, _ in plots.CURVES}
        plots.curves(out / "curves.png", {"test": run}, "Test ELBO and its parts")
        written.append("curves.png")
    _of_images(out, model, data.test.images, seed, device)
    written += OF_IMAGES
    if model.latents == 2:
        latents(out / "latents.png", model, data.test.images, data.test.labels, device)
        plane(out / "plane.png", model, device)
        written += OF_TWO_LATENTS
    return [out / name for name in written]


def _of_images(out: Path, model: Any, images: Images, seed: int, device: torch.device) -> None:
    originals = images[torch.arange(min(len(images), 3 * COLUMNS))].to(device)
    columns = min(len(originals), COLUMNS)
    originals = originals[: len(originals) // columns * columns]
    pairs = pictures.pairs(_shown(originals), _shown(model.reconstruct(originals)), columns)
    pictures.save_grid(out / "samples.png", _shown(model.sample(6 * COLUMNS, seed=seed)), COLUMNS)
    pictures.save_grid(out / "reconstructions.png", pairs, columns)
    ends = model.encode(originals)[0][: len(originals) // 2 * 2]
    between = model.pixels(lines(ends[0::2], ends[1::2], COLUMNS).flatten(0, 1)) if len(ends) else originals
    pictures.save_grid(out / "interpolations.png", _shown(between), COLUMNS)


@torch.no_grad()
def latents(path: Path, model: Any, images: Images, labels: Tensor | None, device: torch.device = CPU) -> None:
    """Posterior means of images, by class where that is known: of a model with two latents."""
    means = torch.cat([model.encode(x)[0].cpu() for _, x in test_batches(images, 0, False, device)])
    plots.latents(path, means, labels, "Posterior means of the test images")


@torch.no_grad()
def plane(path: Path, model: Any, device: torch.device = CPU) -> None:
    """The decoded plane of two latents: z at quantiles of N(0, I), the first to the right, the second upwards.

    Kingma & Welling 2014, "Auto-encoding variational Bayes", figure 4.
    """
    quantiles = torch.special.ndtri(torch.linspace(0.02, 0.98, PLANE))
    second, first = torch.meshgrid(quantiles.flip(0), quantiles, indexing="ij")
    z = torch.stack([first, second], -1).flatten(0, 1)
    pictures.save_grid(path, _shown(model.pixels(z.to(device))), PLANE)


def lines(begin: Tensor, end: Tensor, count: int) -> Tensor:
    """[n, count, L]: from each of `begin` [n, L] straight to its `end`."""
    return torch.lerp(begin.unsqueeze(1), end.unsqueeze(1), torch.linspace(0, 1, count, device=begin.device)[:, None])


def arcs(begin: Tensor, end: Tensor, count: int) -> Tensor:
    """[n, count, L]: from each of `begin` [n, L] to its `end` along the sphere, where draws of N(0, I) lie.

    White 2016, "Sampling generative networks", eq. 1.
    """
    cosine = torch.nn.functional.cosine_similarity(begin, end, dim=-1).clamp(-1, 1)
    angle = torch.acos(cosine)[:, None, None].clamp_min(1e-4)
    share = torch.linspace(0, 1, count, device=begin.device)[:, None]
    of_begin, of_end = torch.sin((1 - share) * angle), torch.sin(share * angle)
    return (of_begin * begin.unsqueeze(1) + of_end * end.unsqueeze(1)) / torch.sin(angle)


def drawn(model: Any, count: int, seed: int, interpolate: bool, device: torch.device) -> tuple[Tensor, int | None]:
    """`count` images of z ~ N(0, I), or rows of them between two such z; and the columns of their grid."""
    if not interpolate:
        return model.sample(count, seed=seed), None
    columns = min(count, COLUMNS)
    rows = max(count // columns, 1)
    ends = torch.randn(2, rows, model.latents, generator=generator(seed, "interpolate")).to(device)
    return model.pixels(arcs(ends[0], ends[1], columns).flatten(0, 1)), columns


def _shown(images: Tensor) -> Tensor:
    """On the CPU, with one channel or three."""
    channels = images.shape[1]
    return pictures.as_float(images[:, : 1 if channels == 2 else min(channels, 3)]).cpu()
