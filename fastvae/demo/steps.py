"""What a training step costs in each way, and what of it the ELBO costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..measure.clock import Call, WallMeter, alternate
from ..models import MLPVAE
from ..training.loop import Objective, adam
from .ways import Way, network

NETWORK = {False: "network alone, eager", True: "network alone, compiled"}


@dataclass(frozen=True)
class StepTime:
    """Medians over rounds, in seconds. `elbo` is the step minus the same network's step without an objective."""

    step: float
    elbo: float


def network_step(model: MLPVAE, batch: Tensor, compiled: bool) -> Callable[[], None]:
    """A step of the same network and optimiser with given gradients in the place of an ELBO's."""
    function = torch.compile(network, dynamic=False) if compiled else network
    z = torch.randn(len(batch), model.latent, requires_grad=True)
    grads = [torch.randn(len(batch), size) / len(batch) for size in (model.latent, model.latent, model.pixels)]
    optimizer = adam(model)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        z.grad = None
        torch.autograd.backward(function(model, batch, z), grads)
        optimizer.step()

    return run


def training_step(model: MLPVAE, objective: Objective, batch: Tensor) -> Callable[[], object]:
    optimizer = adam(model)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        objective(model, batch, 0).loss.backward()
        optimizer.step()

    return run


def time_steps(
    ways: Iterable[Way], steps: Mapping[str, Callable[[], object]], rounds: Iterable[int]
) -> dict[str, StepTime]:
    """Time `steps`, by name of way or network, in alternating rounds of some steps each; warm them first.

    The ELBO's share is a difference of two steps rather than a timing of its operators alone: a compiler fuses them
    with their neighbours, and what a call costs outside a step (guards, autograd's set-up) is no part of it inside.
    """
    for call in steps.values():
        for _ in range(20):
            call()
    samples = alternate({name: WallMeter(_loop(call)) for name, call in steps.items()}, rounds)
    return {way.name: _summary(samples[way.name], samples[NETWORK[way.compiled]]) for way in ways}


def _loop(step: Callable[[], object]) -> Call:
    return Call(lambda i, state: step(), loop=True)


def _summary(step: list[float], network: list[float]) -> StepTime:
    differences = [whole - rest for whole, rest in zip(step, network, strict=True)]
    return StepTime(statistics.median(step), statistics.median(differences))
