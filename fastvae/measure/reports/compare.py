"""Two reports beside each other: what moved, and whether that is more than noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .document import FUSED, Entry, Report, ReportError
from .statistics import Floor, Interval, noise_floor, ratio_interval


@dataclass(frozen=True)
class Row:
    """A variant of a case that both reports have."""

    before: Entry
    after: Entry
    interval: Interval
    significant: bool

    @property
    def ratio(self) -> float:
        return self.interval.ratio


@dataclass(frozen=True)
class Comparison:
    before: Report
    after: Report
    rows: tuple[Row, ...]
    floor: Floor

    @property
    def environment(self) -> list[tuple[str, str, str]]:
        """(name, before, after) of what differs."""
        before = {"commit": self.before.commit, "suite": self.before.suite, **self.before.machine}
        after = {"commit": self.after.commit, "suite": self.after.suite, **self.after.machine}
        names = dict.fromkeys([*before, *after])
        facts = ((name, before.get(name, "absent"), after.get(name, "absent")) for name in names)
        return [(name, old, new) for name, old, new in facts if old != new]

    @property
    def only_before(self) -> list[str]:
        return _names(self.before, self.after)

    @property
    def only_after(self) -> list[str]:
        return _names(self.after, self.before)

    def slower_than(self, threshold: float) -> list[Row]:
        """fastvae's variants, not those that it replaces, whose time grew past `threshold` by more than noise."""
        return [row for row in self.rows if row.significant and row.after.role == FUSED and row.ratio > threshold]


def compare(before: Report, after: Report) -> Comparison:
    """Raises ReportError where the reports have nothing in common."""
    pairs = [(entry, after.entries[key]) for key, entry in before.entries.items() if key in after.entries]
    if not pairs:
        raise ReportError(f"{before.name} and {after.name} have no case in common")
    controls = [(a.case, _log_ratio(a, b)) for a, b in pairs if a.role != FUSED]
    same = before.environment == after.environment
    floor = noise_floor([log for _, log in controls], len(pairs), same)
    case_noise: dict[str, float] = {}  # how far a case's own controls moved, which ran in the same rounds
    for case, log in controls if same else ():
        case_noise[case] = max(case_noise.get(case, 0.0), abs(log))
    rows = tuple(_row(a, b, floor, case_noise.get(a.case, 0.0)) for a, b in pairs)
    return Comparison(before, after, rows, floor)


def _row(before: Entry, after: Entry, floor: Floor, case_noise: float) -> Row:
    interval = ratio_interval(before.seconds, after.seconds)
    least = max(floor.log, case_noise) if before.role == FUSED else floor.log
    return Row(before, after, interval, interval.excludes_one and abs(math.log(interval.ratio)) > least)


def _log_ratio(before: Entry, after: Entry) -> float:
    return math.log(after.median / before.median)


def _names(report: Report, other: Report) -> list[str]:
    return [f"{case} {variant}" for case, variant in report.entries if (case, variant) not in other.entries]
