"""The demo's pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ..files import whole_file
from ..training.loop import History

DPI = 150
# Okabe & Ito's colours, and a dash for each: the curves lie on top of one another.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#000000", "linestyle": "-", "linewidth": 3.0, "alpha": 0.35},
    {"color": "#D55E00", "linestyle": "--"},
    {"color": "#0072B2", "linestyle": "-."},
    {"color": "#009E73", "linestyle": ":", "linewidth": 2.0},
)
CURVES = (
    ("elbo", "ELBO"),
    ("log_likelihood", "log-likelihood, E[log p(x|z)]"),
    ("kl", "KL(q(z|x) || N(0, I))"),
)


def samples(path: Path, images: Tensor, title: str, columns: int = 12) -> None:
    """`images` [n, height, width] in [0, 1], row by row."""
    rows = -(-len(images) // columns)
    figure, axes = _grid(rows, columns, title)
    for axis, image in zip(axes.flat, images, strict=False):
        _show(axis, image)
    _save(figure, path)


def reconstructions(path: Path, originals: Tensor, decoded: Tensor, title: str, columns: int = 12) -> None:
    """Pairs, the original above its reconstruction; both [n, height, width] in [0, 1]."""
    pairs = -(-len(originals) // columns)
    figure, axes = _grid(2 * pairs, columns, title)
    for row, images in enumerate((originals, decoded)):
        for i, image in enumerate(images):
            _show(axes[2 * (i // columns) + row, i % columns], image)
    for row, axis in enumerate(axes[:, 0]):
        label = ("original", "reconstruction")[row % 2]
        axis.text(-0.15, 0.5, label, transform=axis.transAxes, ha="right", va="center", fontsize=9)
    _save(figure, path)


def training(path: Path, histories: Mapping[str, History], title: str) -> None:
    """One panel for each of ELBO, likelihood and KL, one curve for each way."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    figure.suptitle(title)
    for axis, (name, label) in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        for style, (way, history) in zip(STYLES, histories.items(), strict=False):
            values = getattr(history, name)
            axis.plot(range(1, len(values) + 1), values, label=way, **style)
        axis.set(title=label, xlabel="epoch", ylabel="nats per image")
        axis.set_ylim(*_without_start(histories, name))
        axis.grid(alpha=0.3)
    axis.legend(loc="best", fontsize=9)
    _save(figure, path)


def _without_start(histories: Mapping[str, History], name: str) -> tuple[float, float]:
    """Limits that the first epochs, far from all others, do not decide."""
    values = np.concatenate([np.asarray(getattr(h, name))[len(getattr(h, name)) // 40 :] for h in histories.values()])
    values = values[np.isfinite(values)]  # a way that diverged is missing from the picture; the verdict names it
    if not len(values):
        return -1.0, 1.0
    margin = 0.05 * (values.max() - values.min()) or 1.0
    return values.min() - margin, values.max() + margin


def _grid(rows: int, columns: int, title: str):
    figure = Figure(figsize=(0.75 * columns, 0.75 * rows + 0.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def _show(axis, image: Tensor) -> None:
    axis.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
