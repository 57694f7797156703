"""Schedules for beta, free bits or a capacity: 0-d tensors, for which a compiled step needs no further graph."""

from __future__ import annotations

import torch
from torch import Tensor


def linear(
    step: int | Tensor,
    steps: int,
    *,
    start: float = 0.0,
    stop: float = 1.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """From `start` to `stop` in so many steps, and `stop` ever after.

    Args:
        step: of the training, counted from 0; a tensor is read on its device, without a word to the host.
        steps: how long it takes; 0: nothing, it is `stop` at once.
        start: the value at step 0.
        stop: the value from step `steps` on.
        device: of the result, where `step` is an int.

    Returns:
        0-d, float32.

    Raises:
        ValueError: steps below 0.

    Reference:
        Bowman et al. 2016, "Generating sentences from a continuous space".
    """
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    return _between(start, stop, _as_number(step, device) / max(steps, 1) if steps else _as_number(1, device))


def cyclical(
    step: int | Tensor,
    steps: int,
    *,
    cycles: int = 4,
    ramp: float = 0.5,
    start: float = 0.0,
    stop: float = 1.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """`cycles` times from `start` to `stop` within `steps`, and `stop` ever after.

    Args:
        step: as of `linear`.
        steps: how long all cycles take.
        cycles: how many there are.
        ramp: the part of a cycle in which the value rises; in the rest of it the value is `stop`.
        start: the value at the start of a cycle.
        stop: the value that it reaches.
        device: of the result, where `step` is an int.

    Returns:
        0-d, float32.

    Raises:
        ValueError: steps or cycles below 1, or a ramp outside (0, 1].

    Reference:
        Fu et al. 2019, "Cyclical annealing schedule: a simple approach to mitigating KL vanishing", eq. 6.
    """
    for name, value in (("steps", steps), ("cycles", cycles)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 0 < ramp <= 1:
        raise ValueError(f"ramp must be in (0, 1], got {ramp}")
    at = _as_number(step, device)
    within = torch.where(at < steps, at.remainder(steps / cycles) * (cycles / steps), 1.0)
    return _between(start, stop, within / ramp)


def _as_number(step: int | Tensor, device: torch.device | str | None) -> Tensor:
    if isinstance(step, Tensor):
        return step.detach().to(torch.float32)
    return torch.full((), step, dtype=torch.float32, device=device)


def _between(start: float, stop: float, fraction: Tensor) -> Tensor:
    """Exactly `stop` from 1 on."""
    return torch.where(fraction >= 1, stop, start + (stop - start) * fraction)
