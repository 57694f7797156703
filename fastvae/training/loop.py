"""The training loop, for any model and any objective."""

from __future__ import annotations

import contextlib
import math
import signal
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from .average import Average
from .batches import Batches
from .data import Images
from .errors import BadBatchError
from .interrupt import Interruption, Stopped
from .parallel import ALONE, World


class Terms(Protocol):
    """What an objective returns: 0-d tensors, means over the batch, in nats. `fastvae.elbo` returns such."""

    @property
    def loss(self) -> Tensor: ...
    @property
    def log_likelihood(self) -> Tensor: ...
    @property
    def kl(self) -> Tensor: ...


Objective = Callable[[Any, Tensor, int], Terms]  # of a model, a batch and the number of the step
NAMES = ("log_likelihood", "kl", "loss", "gradient")  # what a step says of itself; the last is its norm


@dataclass(frozen=True)
class Step:
    """What is known of a step after it: nats per image of the whole batch."""

    number: int
    log_likelihood: float
    kl: float
    loss: float
    gradient: float

    @property
    def elbo(self) -> float:
        return self.log_likelihood - self.kl

    @property
    def bad(self) -> list[str]:
        return [name for name in NAMES if not math.isfinite(getattr(self, name))]


@dataclass
class Trainer:
    """A model on its way: what changes it, and what of it is averaged.

    Where it is `guarded`, with a fused optimiser, a step whose terms or gradient are not finite changes no weight, on
    every process alike, and asks no GPU: that is found out when the loop reads what steps said.
    """

    model: nn.Module
    objective: Objective
    optimizer: Optimizer
    world: World = ALONE
    schedule: Callable[[int], float] | None = None  # the learning rate of a step
    average: Average | None = None
    clip: float | None = None  # the gradient's largest norm
    autocast: torch.dtype | None = None
    guarded: bool = True
    called: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.called = self.world.data_parallel(self.model)

    def step(self, x: Tensor, number: int) -> Tensor:
        """One step on the batch `x`; its `NAMES`, means over the processes, [4]."""
        if self.schedule is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self.schedule(number)
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision():
            terms = self.objective(self.called, x, number)
        terms.loss.backward()
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = get_total_norm(grads)
        said = torch.stack([t.detach().float() for t in (terms.log_likelihood, terms.kl, terms.loss, norm)])
        self.world.mean(said)
        if self.guarded:
            # As a gradient scaler says it: the fused optimiser then changes nothing.
            self.optimizer.found_inf = (~said.isfinite()).any().float()  # type: ignore[attr-defined]
        if self.clip is not None:
            clip_grads_with_norm_(self.model.parameters(), self.clip, norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model, number)
        return said

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.world.device.type, self.autocast)


def adam(model: nn.Module, learning_rate: float = 1e-3) -> Optimizer:
    return torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)


def run(
    trainer: Trainer,
    batches: Batches,
    *,
    first: int,
    last: int,
    skip_bad: bool = False,
    interrupted: Interruption | None = None,
) -> Iterator[Step]:
    """Train on the batches of the steps `first` to `last` - 1, and say what each did.

    On a GPU steps are read some at a time, so that it never waits for the host.

    Raises:
        BadBatchError: a step was not finite, unless `skip_bad`; the weights are those of the steps before it, and of
            later ones where several were read together.
        Stopped: a signal came, and there are steps left.
    """
    trainer.model.train()
    every = 1 if trainer.world.device.type == "cpu" else 10
    said: list[Tensor] = []
    for number, x in enumerate(batches.steps_from(first, last), first):
        said.append(trainer.step(x, number))
        if len(said) < every and number + 1 < last:
            continue
        begin = number + 1 - len(said)
        steps = [Step(i, *values) for i, values in enumerate(torch.stack(said).tolist(), begin)]
        said.clear()
        for step in steps:
            if step.bad and not skip_bad:
                raise BadBatchError(_what_was_bad(step, batches))
            yield step
        if interrupted is not None and number + 1 < last:
            stop(interrupted, trainer.world, number + 1)


def stop(interrupted: Interruption, world: World, step: int) -> None:
    """Raise Stopped where any of the processes has got a signal: all of them stop after the same step."""
    got = interrupted.signal or 0
    if world.part.world > 1:
        any_got = world.sum(torch.tensor(float(got), device=world.device)).item()
        got = got or (signal.SIGTERM if any_got else 0)
    if got:
        raise Stopped(got, step)


def _what_was_bad(step: Step, batches: Batches) -> str:
    values = ", ".join(f"{name} {getattr(step, name):g}" for name in NAMES)
    text = f"step {step.number}: {step.bad[0]} is not finite ({values})"
    x = batches.at(step.number)
    if x.is_floating_point():
        rows = ~x.isfinite().flatten(1).all(1)
        images = batches.index(step.number)[rows.cpu()].tolist()
        if images:
            text += f"; nor are images {', '.join(map(str, images[:5]))} of the training data"
    return text


@dataclass
class History:
    """Means over each epoch's batches, in nats per image."""

    elbo: list[float] = field(default_factory=list)
    log_likelihood: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)

    def append(self, steps: Sequence[Step]) -> None:
        for name in ("elbo", "log_likelihood", "kl"):
            getattr(self, name).append(statistics.fmean(getattr(step, name) for step in steps))


def train(
    model: nn.Module,
    objective: Objective,
    images: Images,
    *,
    epochs: int,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
    on_epoch: Callable[[History], object] = lambda history: None,
) -> History:
    """Train `model` in place with Adam on `images` [n, *image_shape]; `on_epoch` sees the history after each epoch.

    `seed` decides the order of the images and nothing else; noise is the objective's. What is not finite is
    trained on like all else, and seen in the history.
    """
    batches, history = Batches(images, batch_size, seed), History()
    trainer = Trainer(model, objective, adam(model, learning_rate), guarded=False)
    for epoch in range(epochs):
        first, last = epoch * batches.steps, (epoch + 1) * batches.steps
        history.append(list(run(trainer, batches, first=first, last=last, skip_bad=True)))
        on_epoch(history)
    return history
