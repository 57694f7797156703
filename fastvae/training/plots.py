"""Curves of a run, and the encoded test set of two latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from ..files import whole_file

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
Curves = Mapping[str, Sequence[float]]  # a number an epoch under each name of CURVES


def curves(path: Path, runs: Mapping[str, Curves], title: str) -> None:
    """One panel for each of ELBO, likelihood and KL, one curve for each run."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    figure.suptitle(title)
    for axis, (name, label) in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        for style, (run, values) in zip(STYLES, runs.items(), strict=False):
            axis.plot(range(1, len(values[name]) + 1), values[name], label=run, **style)
        axis.set(title=label, xlabel="epoch", ylabel="nats per image")
        axis.set_ylim(*_without_start([values[name] for values in runs.values()]))
        axis.grid(alpha=0.3)
    if len(runs) > 1:
        axis.legend(loc="best", fontsize=9)
    save(figure, path)


def latents(path: Path, means: Tensor, labels: Tensor | None, title: str) -> None:
    """Posterior means [n, 2], coloured by class where `labels` [n] are known."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    axis = figure.subplots()
    classes = [0] if labels is None else labels.unique().tolist()
    colours = colormaps["tab10" if len(classes) <= 10 else "nipy_spectral"].resampled(len(classes))
    for number, label in enumerate(classes):
        points = means if labels is None else means[labels == label]
        axis.scatter(points[:, 0].numpy(), points[:, 1].numpy(), s=12, alpha=0.8, color=colours(number), label=label)
    axis.set(title=title, xlabel="mean of latent 0", ylabel="mean of latent 1", aspect="equal")
    axis.grid(alpha=0.3)
    if labels is not None:
        axis.legend(title="class", loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)


def _without_start(curves: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Limits that the first epochs, far from all others, do not decide."""
    values = np.concatenate([np.asarray(curve, float)[len(curve) // 40 :] for curve in curves])
    values = values[np.isfinite(values)]  # a run that diverged is missing from the picture
    if not len(values):
        return -1.0, 1.0
    margin = 0.05 * (values.max() - values.min()) or 1.0
    return values.min() - margin, values.max() + margin


def save(figure: Figure, path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
