"""Numbers that are functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from torch import Tensor

from ..models import schedules
from .errors import TrainingError


def beta(text: str) -> Callable[..., Tensor] | float:
    """Weight of the KL: a number; `linear:STEPS`, from 0 to 1 in so many; `cyclical:STEPS`, four times within so many.

    A schedule is called with the step and `device`, see `fastvae.models.schedules`.
    """
    kind, _, number = text.partition(":")
    try:
        if kind in ("linear", "cyclical") and (steps := int(number)) > 0:
            return partial(getattr(schedules, kind), steps=steps)
        if math.isfinite(value := float(text)):
            return value
    except ValueError:
        pass
    raise TrainingError(f"--beta {text}: wanted a number, linear:STEPS or cyclical:STEPS")


def cosine(learning_rate: float, steps: int) -> Callable[[int], float]:
    """From `learning_rate` to nearly 0 in so many steps (Loshchilov & Hutter 2017, without restarts)."""
    return lambda step: learning_rate * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
