"""Timing of rivals: rounds alternate among them, so that drift of the machine hits all alike."""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any

SAMPLE_SECONDS = 2e-3  # in a shorter sample the timer and the scheduler would show
LOOP_SECONDS = 20e-3  # of steps, which take milliseconds
WARM_CALLS = 5

Meter = Callable[[], float]  # takes one sample: seconds for one call


@dataclass(frozen=True)
class Call:
    """What a clock times: `run(i, prepare(i))` on input set i, `prepare` being left out of the time."""

    run: Callable[[int, Any], object]
    prepare: Callable[[int], Any] | None = None
    captured: bool = True  # whether a CUDA graph may record it
    context: Callable[[], AbstractContextManager] = nullcontext  # entered around samples, never timed
    loop: bool = False  # made over and over by its users, as a training step is: finds its own code and data in caches

    def once(self, i: int = 0) -> object:
        with self.context():
            return self.run(i, self.state(i))

    def state(self, i: int) -> Any:
        return None if self.prepare is None else self.prepare(i)


class WallMeter:
    """Mean over as many calls as fill a sample, by perf_counter. Results are freed at once, as in a training step.

    What is called in a `loop` is called once before: a variant that has just run has left its own in the caches.
    """

    def __init__(self, call: Call) -> None:
        self.call, self.calls = call, 1
        self.seconds = min(self() for _ in range(WARM_CALLS))
        self.calls = math.ceil((LOOP_SECONDS if call.loop else SAMPLE_SECONDS) / self.seconds)
        self.sample_seconds = self.seconds * (self.calls + call.loop)

    def __call__(self) -> float:
        run = self.call.run
        with self.call.context():
            if self.call.loop:
                run(0, self.call.state(0))
            states = [self.call.state(0) for _ in range(self.calls)]
            start = perf_counter()
            while states:
                run(0, states.pop())
            return (perf_counter() - start) / self.calls


def alternate(meters: Mapping[str, Meter], rounds: Iterable[int]) -> dict[str, list[float]]:
    """One sample of every meter in each round. The order is drawn anew, since what ran before affects a sample."""
    samples: dict[str, list[float]] = {name: [] for name in meters}
    order, shuffle = list(meters), random.Random(0).shuffle
    with _without_gc():
        for _ in rounds:
            shuffle(order)
            for name in order:
                samples[name].append(meters[name]())
    return samples


@contextmanager
def _without_gc():
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
