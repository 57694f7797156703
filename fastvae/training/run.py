"""`fastvae train`: from its arguments to the files in its directory."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..models import Settings
from . import checkpoint as checkpoints
from . import history, loop, setup
from .arguments import Arguments, resumed
from .batches import resident
from .checkpoint import Checkpoint
from .data import Dataset, open_dataset
from .directory import check_unused, claimed
from .errors import TrainingError
from .evaluation import bound
from .interrupt import Interruption, Stopped, interruption
from .parallel import World, world
from .progress import Progress
from .show import PICTURES, write_pictures


def train(out: Path, now: Mapping[str, Any], *, resume: bool, device: str) -> int:
    """Train as `now` says, or go on with the run in `out`; 0, or 128 and the signal that ended it.

    Raises TrainingError or OSError, with the files in `out` as the last checkpoint has them.
    """
    with interruption() as interrupted, world(device) as here:
        if not resume:
            check_unused(out)
        run = Run(out, now, resume, here)
        with claimed(out, PICTURES) if here.first else contextlib.nullcontext():
            run.begin()
            try:
                run.train(interrupted)
            except Stopped as stopped:
                run.save(stopped.step)
                run.say(f"stopped by signal {stopped.signal} after step {stopped.step}; --resume goes on from there")
                return 128 + stopped.signal
    return 0


class Run:
    """A run at its checkpoint, or at its beginning."""

    def __init__(self, out: Path, now: Mapping[str, Any], resume: bool, here: World) -> None:
        self.out, self.here, self.path = out, here, out / checkpoints.NAME
        found = checkpoints.load(self.path) if resume and self.path.exists() else None
        with checkpoints.understood(self.path):
            self.arguments = _arguments(now, found)
            saved = None if found is None else Settings.from_dict(found.model)
        self.data = open_dataset(self.arguments.data)
        self.settings = _settings(self.arguments, self.data, saved)
        setup.check_values(self.data, self.arguments.data, self.settings.likelihood)
        self.batches = setup.batches(self.arguments, self.data, here)
        self.trainer = setup.trainer(self.arguments, self.settings, self.batches.steps, here)
        self.step = self.skipped = 0
        if found is not None:
            with checkpoints.understood(self.path):
                self._load(found)

    def begin(self) -> None:
        """Of the files there is what the checkpoint knows of; from the first step on there is one."""
        if self.here.first:
            history.keep(self.out / history.NAME, self.step // self.batches.steps)
        if self.step == 0:
            self.save(0)

    def train(self, interrupted: Interruption) -> None:
        steps, arguments = self.batches.steps, self.arguments
        show = Progress(
            self.out,
            total=steps * arguments.epochs,
            done=self.step,
            batch_size=arguments.batch_size,
            show=self.here.first,
        )
        try:
            for epoch in range(self.step // steps, arguments.epochs):
                self._epoch(epoch, show, interrupted)
                loop.stop(interrupted, self.here, self.step)
        finally:
            show.close()
        if self.here.first:
            self._finish()

    def _epoch(self, epoch: int, show: Progress, interrupted: Interruption) -> None:
        first, last = max(self.step, epoch * self.batches.steps), (epoch + 1) * self.batches.steps
        begin = time.perf_counter()
        for step in loop.run(
            self.trainer,
            self.batches,
            first=first,
            last=last,
            skip_bad=self.arguments.skip_bad_batches,
            interrupted=interrupted,
        ):
            self.skipped += bool(step.bad)
            show.step(step)
        speed = (last - first) * self.arguments.batch_size / (time.perf_counter() - begin)
        found = self.test()._asdict()
        metrics = {"epoch": epoch + 1, "step": last, **found, "images_per_second": round(speed, 1)}
        if self.here.first:
            history.append(self.out / history.NAME, metrics)
        self.save(last)
        show.epoch(metrics)

    def test(self) -> Any:
        """The test ELBO of the averaged weights."""
        with self.trainer.precision():
            return bound(
                self.model,
                resident(self.data.test.images, self.here.device),
                self.arguments.seed,
                binarize=self.arguments.binarize,
                world=self.here,
            )

    @property
    def model(self) -> torch.nn.Module:
        """What is evaluated and drawn."""
        average = self.trainer.average
        return (self.trainer.model if average is None else average.model).eval()

    def save(self, step: int) -> None:
        self.step = step
        parts = {"model": self.trainer.model.state_dict(), "rng": checkpoints.rng_tensors()}
        parts["optimizer"] = checkpoints.optimizer_tensors(self.trainer.optimizer)
        if self.trainer.average is not None:
            parts["average"] = self.trainer.average.model.state_dict()
        tensors = {f"{part}.{name}": tensor for part, values in parts.items() for name, tensor in values.items()}
        about = Checkpoint(
            step=step,
            epoch=step // self.batches.steps,
            model=self.settings.as_dict(),
            arguments=self.arguments.as_data(),
            skipped=self.skipped,
            tensors=tensors,
        )
        if self.here.first:
            checkpoints.save(self.path, about)

    def _load(self, found: Checkpoint) -> None:
        self.step, self.skipped = found.step, found.skipped
        checkpoints.load_weights(self.trainer.model, found.part("model"), self.path)
        if self.trainer.average is not None:
            checkpoints.load_weights(self.trainer.average.model, found.part("average"), self.path)
        checkpoints.load_optimizer(self.trainer.optimizer, found.part("optimizer"), self.path)
        checkpoints.load_rng(found.part("rng"))

    def _finish(self) -> None:
        epochs = history.read(self.out / history.NAME)
        written = write_pictures(self.out, self.model, self.data, epochs, self.arguments.seed, self.here.device)
        if epochs:
            last = epochs[-1]
            print(
                f"test ELBO {last['elbo']:.3f} nats after {last['epoch']} epochs: "
                f"log-likelihood {last['log_likelihood']:.3f}, KL {last['kl']:.3f}"
            )
        if self.skipped:
            print(f"bad batches that were skipped: {self.skipped}")
        print("written: " + ", ".join(map(str, [self.path, self.out / history.NAME, *written])))

    def say(self, text: str) -> None:
        if self.here.first:
            print(f"fastvae: {text}", file=sys.stderr)


def _arguments(now: Mapping[str, Any], found: Checkpoint | None) -> Arguments:
    if found is not None:
        return resumed(found.arguments, now)
    if "data" not in now:
        raise TrainingError("--data is wanted: digits, mnist:DIR, npy:FILE or images:DIR")
    return Arguments(**now)


def _settings(arguments: Arguments, data: Dataset, saved: Settings | None) -> Settings:
    settings = arguments.settings(data.image_shape)
    if saved is not None:
        settings = replace(settings, fused_head=saved.fused_head)  # as it began
    if saved is not None and settings != saved:
        had = list(saved.image_shape)
        raise TrainingError(f"{arguments.data}: images of {list(data.image_shape)}, the run to resume has {had}")
    return settings
