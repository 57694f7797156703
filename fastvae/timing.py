"""Timing of rivals: rounds alternate among them, so that drift of the machine hits all alike."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from time import perf_counter

Call = Callable[[], object]


def interleaved(
    variants: Mapping[str, Call], rounds: Iterable[int], iterations: Mapping[str, int] | None = None
) -> dict[str, list[float]]:
    """Seconds for one call, by variant and round.

    Each round times every variant once, in an order drawn anew (which of them ran before is part of what one
    measures), as the mean over `iterations[name]` calls. The callables must be warm.
    """
    iterations = iterations or {}
    samples: dict[str, list[float]] = {name: [] for name in variants}
    order, shuffle = list(variants), random.Random(0).shuffle
    with _without_gc():
        for _ in rounds:
            shuffle(order)
            for name in order:
                samples[name].append(seconds(variants[name], iterations.get(name, 1)))
    return samples


def seconds(call: Call, iterations: int = 1) -> float:
    """Seconds for one call, as the mean over `iterations` of them."""
    start = perf_counter()
    for _ in range(iterations):
        call()
    return (perf_counter() - start) / iterations


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
