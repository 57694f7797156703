"""When two runs differ: the samples of one run are correlated, and two runs differ by more than their samples show.

Within a run, medians are resampled in blocks of neighbouring rounds (Künsch 1989), so that drift stays in the blocks.
Between runs, memory pages and clock rates change, which no resampling of one run shows. The controls show it, which are
the variants without fastvae: in one environment they should not differ, so how far they do is the noise. An effect has
to exceed the largest that chance makes among as many cases (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.99
RESAMPLES = 2000
CONTROL_QUANTILE = 0.975  # by itself it keeps cases called significant below a twentieth, whatever the distribution
FAMILY_ERROR = 0.05  # the chance that any of the cases is called significant where nothing changed
LEAST_CONTROLS = 20
LEAST_FLOOR = math.log(1.02)  # smaller effects are not worth an argument
STATED_FLOOR = math.log(1.05)  # where controls cannot tell: too few, or the environment has changed and they with it


@dataclass(frozen=True)
class Interval:
    """A ratio of medians and its bootstrap confidence interval."""

    ratio: float
    low: float
    high: float

    @property
    def excludes_one(self) -> bool:
        return not self.low <= 1 <= self.high


@dataclass(frozen=True)
class Floor:
    """How far a logarithm of a ratio must lie from 0 to count, and why."""

    log: float
    reason: str


def ratio_interval(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Of median(after) / median(before). The same samples give the same interval."""
    random = np.random.default_rng(0)
    ratios = _medians(np.asarray(after), random) / _medians(np.asarray(before), random)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(ratios, (tail, 100 - tail))
    return Interval(float(np.median(after) / np.median(before)), float(low), float(high))


def _medians(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Of resamples made of blocks, which wrap around the end."""
    n = len(samples)
    block = math.ceil(math.sqrt(n))
    starts = random.integers(n, size=(RESAMPLES, math.ceil(n / block)))
    index = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :n] % n
    return np.median(samples[index], axis=1)


def noise_floor(controls: Sequence[float], cases: int, same_environment: bool) -> Floor:
    """From the logarithms of the controls' ratios, for so many cases."""
    stated = _percent(STATED_FLOOR)
    if not same_environment:
        return Floor(STATED_FLOOR, f"{stated}, stated: the environment changed, and the controls may have with it")
    if len(controls) < LEAST_CONTROLS:
        return Floor(STATED_FLOOR, f"{stated}, stated: {len(controls)} controls are too few to tell")
    spread = float(np.quantile(np.abs(controls), 0.95)) / _normal_quantile(0.05)
    tail = float(np.quantile(np.abs(controls), CONTROL_QUANTILE))
    floor = max(LEAST_FLOOR, tail, spread * _normal_quantile(FAMILY_ERROR / cases))
    return Floor(floor, f"{_percent(floor)}, from {len(controls)} controls, which fastvae has no part in")


def _normal_quantile(two_sided: float) -> float:
    return NormalDist().inv_cdf(1 - two_sided / 2)


def _percent(log: float) -> str:
    return f"{100 * math.expm1(log):.1f} %"
