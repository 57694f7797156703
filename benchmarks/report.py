"""The table: from pytest-benchmark's JSON report to Markdown.

`python -m benchmarks.report FILE` prints the table of a stored report.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean

FUSED = "fastvae"
RIVALS = ("eager", "compiled")

EXPLANATION = (
    "Medians of forward + backward in microseconds, variants interleaved round by round. Ratios are of medians: how\n"
    "many times longer the naive snippet takes, eager and under torch.compile(dynamic=False)."
)


@dataclass(frozen=True)
class Result:
    """A case's medians in seconds, by variant."""

    operator: str
    size: str
    dtype: str
    medians: Mapping[str, float]

    def ratio(self, rival: str) -> float:
        return self.medians[rival] / self.medians[FUSED]

    @property
    def name(self) -> str:
        return f"{self.operator} {self.size}"


@dataclass(frozen=True)
class Summary:
    """Ratios to one rival over the cases of one dtype."""

    dtype: str
    rival: str
    mean: float
    minimum: float
    slowest: str
    cases: int


def results(document: Mapping) -> list[Result]:
    """The complete cases of a report: those that have every variant."""
    medians: dict[tuple[str, str, str], dict[str, float]] = {}
    for entry in document["benchmarks"]:
        info = entry["extra_info"]
        if "operator" in info:
            key = (info["operator"], "x".join(map(str, info["shape"])), info["dtype"])
            medians.setdefault(key, {})[info["variant"]] = entry["stats"]["median"]
    return [Result(*key, found) for key, found in medians.items() if {FUSED, *RIVALS} <= found.keys()]


def summaries(found: Sequence[Result]) -> list[Summary]:
    return [
        _summary(dtype, rival, [result for result in found if result.dtype == dtype])
        for dtype in dict.fromkeys(result.dtype for result in found)
        for rival in RIVALS
    ]


def _summary(dtype: str, rival: str, found: Sequence[Result]) -> Summary:
    slowest = min(found, key=lambda result: result.ratio(rival))
    mean = geometric_mean(result.ratio(rival) for result in found)
    return Summary(dtype, rival, mean, slowest.ratio(rival), slowest.name, len(found))


def render(document: Mapping) -> str:
    found = results(document)
    parts = [EXPLANATION, _cases_table(found), _summary_table(found), _floors(document), _origin(document)]
    return "\n\n".join(part for part in parts if part) + "\n"


def line(medians: Mapping[str, float]) -> str:
    """A case in one line, for progress."""
    ratios = "   ".join(f"{rival} {medians[rival] / medians[FUSED]:5.2f}x" for rival in RIVALS)
    return f"{FUSED} {_microseconds(medians[FUSED]):>10} us   {ratios}"


def _cases_table(found: Sequence[Result]) -> str:
    if not found:
        return "No case was measured completely."
    header = ("operator", "shape", "dtype", *(f"{name} (us)" for name in (FUSED, *RIVALS)), *_ratio_names())
    rows = [
        (
            result.operator,
            result.size,
            result.dtype,
            *(_microseconds(result.medians[name]) for name in (FUSED, *RIVALS)),
            *(f"{result.ratio(rival):.2f}x" for rival in RIVALS),
        )
        for result in found
    ]
    return _table(header, rows, "lllrrrrr")


def _summary_table(found: Sequence[Result]) -> str:
    rows = [
        (s.dtype, f"{s.rival}/{FUSED}", str(s.cases), f"{s.mean:.2f}x", f"{s.minimum:.2f}x", s.slowest)
        for s in summaries(found)
    ]
    return (
        _table(("dtype", "ratio", "cases", "geometric mean", "minimum", "minimum at"), rows, "llrrrl") if rows else ""
    )


def _floors(document: Mapping) -> str:
    """What bounds the cases on this machine; each measurement words itself."""
    entries = [entry for entry in document["benchmarks"] if "floor" in entry["extra_info"]]
    return "\n".join(f"- {entry['extra_info']['floor']}" for entry in entries)


def _origin(document: Mapping) -> str:
    commit = document["commit_info"]
    dirty = " with uncommitted changes" if commit.get("dirty") else ""
    facts = [f"{name} {value}" for name, value in document["machine_info"].items()]
    return ", ".join([*facts, f"commit {commit['id'][:12]}{dirty}"]) + "."


def _ratio_names() -> tuple[str, ...]:
    return tuple(f"{rival}/{FUSED}" for rival in RIVALS)


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], sides: str) -> str:
    """Markdown; `sides` has "l" or "r" for each column."""
    rows = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * width if side == "l" else "-" * (width - 1) + ":" for width, side in zip(widths, sides, strict=True)]
    return "\n".join(_row(cells, widths, sides) for cells in (header, rule, *rows[1:]))


def _row(cells: Sequence[str], widths: Sequence[int], sides: str) -> str:
    columns = zip(cells, widths, sides, strict=True)
    padded = (cell.ljust(width) if side == "l" else cell.rjust(width) for cell, width, side in columns)
    return "| " + " | ".join(padded) + " |"


if __name__ == "__main__":
    print(render(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), end="")
