"""What a run says while it runs: a bar, and TensorBoard's files where that is installed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .loop import Step

TAGS = {**{name: f"test/{name}" for name in ("elbo", "log_likelihood", "kl")}, "images_per_second": "images_per_second"}


class Progress:
    """Images seen and images/s; the training ELBO, averaged over some steps, and the last test ELBO."""

    def __init__(self, out: Path, *, total: int, done: int, batch_size: int, show: bool) -> None:
        quiet = not sys.stderr.isatty()  # a log gets a line now and then
        self.bar = tqdm(
            desc="training",
            total=total * batch_size,
            initial=done * batch_size,
            unit="images",
            unit_scale=True,
            mininterval=5 if quiet else 0.1,
            ncols=110,
            disable=not show,
        )
        self.batch_size, self.test = batch_size, ""
        self.elbo: float | None = None
        self.board = _board(out, done) if show else None

    def step(self, step: Step) -> None:
        if not step.bad:
            self.elbo = step.elbo if self.elbo is None else 0.9 * self.elbo + 0.1 * step.elbo
            self.bar.set_postfix_str(f"ELBO {self.elbo:.2f}{self.test}", refresh=False)
        self.bar.update(self.batch_size)

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        self.test = f", test {metrics['elbo']:.2f}"
        if self.board is not None:
            for name, tag in TAGS.items():
                self.board.add_scalar(tag, metrics[name], metrics["step"])

    def close(self) -> None:
        self.bar.close()
        if self.board is not None:
            self.board.close()


def _board(out: Path, done: int) -> Any:
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "tensorboard"), purge_step=done)
