"""How long and how often: rounds and iterations from what a call takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from fastvae.timing import interleaved, seconds

SAMPLE_SECONDS = 2e-3  # a shorter sample would measure the timer's and the scheduler's whims
WARM_CALLS = 5


@dataclass(frozen=True)
class Budget:
    """Rounds fill `seconds` for each case, within bounds."""

    seconds: float
    least: int
    most: int

    def rounds(self, round_seconds: float) -> int:
        return min(self.most, max(self.least, int(self.seconds / round_seconds)))


FULL = Budget(seconds=2.0, least=15, most=150)
QUICK = Budget(seconds=0.5, least=5, most=30)


@dataclass(frozen=True)
class Sample:
    """Seconds for one call, by round; each is the mean over `iterations` calls."""

    seconds: list[float]
    iterations: int

    @property
    def median(self) -> float:
        return median(self.seconds)


def measure(calls: Mapping[str, Callable[[], object]], budget: Budget) -> dict[str, Sample]:
    """Time `calls`, which must agree and be compiled already, round by round in changing order."""
    single = {name: min(seconds(call) for _ in range(WARM_CALLS)) for name, call in calls.items()}
    iterations = {name: math.ceil(SAMPLE_SECONDS / time) for name, time in single.items()}
    rounds = budget.rounds(sum(single[name] * iterations[name] for name in calls))
    samples = interleaved(calls, range(rounds), iterations)
    return {name: Sample(samples[name], iterations[name]) for name in calls}
