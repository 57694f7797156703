"""How cost grows with the number of elements: slopes on logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .document import Entry, Report

TAIL = 100  # the slope is fitted where elements, and not calls, decide: over the largest hundredfold


@dataclass(frozen=True)
class Line:
    """A variant's cost by size, smallest first; slopes are None where there is nothing to fit."""

    name: str
    variant: str
    entries: tuple[Entry, ...]

    @property
    def elements(self) -> list[int]:
        return [entry["elements"] for entry in self.entries]

    def values(self, quantity: str) -> list[float | None]:
        return [entry.median if quantity == "seconds" else entry[quantity] for entry in self.entries]

    @property
    def time(self) -> float | None:
        return slope(self.elements, self.values("seconds"))

    @property
    def saved(self) -> float | None:
        return slope(self.elements, self.values("saved_bytes"))

    @property
    def peak(self) -> float | None:
        return slope(self.elements, self.values("peak_bytes"))


def slopes(report: Report) -> list[Line]:
    by_line: dict[tuple[str, str], list[Entry]] = {}  # by operator and variant
    for variants in report.of("scaling").values():
        for name, entry in variants.items():
            by_line.setdefault((entry["operator"], name), []).append(entry)
    return [Line(*key, tuple(sorted(entries, key=lambda entry: entry["elements"]))) for key, entries in by_line.items()]


def slope(elements: Sequence[int], values: Sequence[float | None]) -> float | None:
    """Least squares of log(value) against log(elements), over the sizes that are known and positive."""
    points = [(n, v) for n, v in zip(elements, values, strict=True) if v and n * TAIL >= max(elements)]
    if len(points) < 2:
        return None
    x, y = np.log(np.array(points, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])
