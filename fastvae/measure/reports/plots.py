"""Pictures of one report, or of two beside each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ...files import whole_file, writable_directory
from .compare import Comparison
from .document import FUSED, Entry, Report
from .scaling import slopes

DPI = 150
# Okabe & Ito's colours, the same variant always in the same one.
COLOURS = {
    "native": "#D55E00", "triton": "#0072B2", "eager": "#000000", "compiled": "#009E73", "distributions": "#999999",
    "reduce-overhead": "#E69F00", "max-autotune": "#56B4E9",
}  # fmt: skip
OTHER = "#CC79A7"
RATIO_TICKS = (0.01, 0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 5, 10, 100)
LINES = ("-", "--")  # of the report, and of the one that it is compared with
DIRECTION, DTYPE = "forward+backward", "fp32"  # what the pictures show; the tables have the rest


def of_report(report: Report, folder: Path) -> list[Path]:
    return _write(folder, {
        "bandwidth.png": bandwidth([report]),
        "speedup.png": speedup(report),
        "memory.png": memory([report]),
        "scaling.png": scaling(report),
        "training.png": training(report),
    })  # fmt: skip


def of_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    both = [comparison.after, comparison.before]
    return _write(folder, {
        "bandwidth.png": bandwidth(both),
        "ratios.png": ratios(comparison),
        "memory.png": memory(both),
    })  # fmt: skip


def bandwidth(reports: Sequence[Report]) -> Figure | None:
    """Achieved GB/s against bytes that must move, below the roof that a copy reaches."""

    def draw(axis, operator: str) -> None:
        for report, line in zip(reports, LINES, strict=False):
            for variant, entries in _by_variant(report, operator).items():
                if "gb_per_s" not in entries[0].info:
                    continue
                points = sorted((entry["bytes"], entry["gb_per_s"]) for entry in entries)
                axis.loglog(*zip(*points, strict=True), line, label=variant, color=_colour(variant), marker="o", ms=3)
            if report.copy_bandwidth:
                axis.axhline(report.copy_bandwidth, color="#0072B2", lw=1, ls=":" if line == "-" else line)
        axis.set(title=operator, xlabel="bytes that must move")

    return _panels(
        _operators(reports[0]), draw, f"GB/s, {DIRECTION}, {DTYPE}; dotted: a copy{_line_styles(reports)}", "GB/s"
    )


def speedup(report: Report) -> Figure | None:
    """How many times longer the alternatives take than fastvae's fastest variant."""

    def draw(axis, operator: str) -> None:
        cases = [variants for variants in _cases(report, operator) if any(e.role == FUSED for e in variants.values())]
        rivals = list(dict.fromkeys(e.variant for variants in cases for e in variants.values() if e.role != FUSED))
        for i, rival in enumerate(rivals):
            offset = (i - (len(rivals) - 1) / 2) * 0.8 / len(rivals)
            heights = [variants[rival].median / _fused(variants) if rival in variants else 0.0 for variants in cases]
            axis.bar(np.arange(len(cases)) + offset, heights, 0.8 / len(rivals), label=rival, color=_colour(rival))
        axis.axhline(1, color=COLOURS["native"], lw=1)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_title(operator)
        axis.set_xticks(range(len(cases)), [_size(variants) for variants in cases], rotation=45, ha="right", fontsize=7)

    return _panels(_operators(report), draw, f"Times as long as fastvae, {DIRECTION}, {DTYPE}", "ratio")


def memory(reports: Sequence[Report]) -> Figure | None:
    """Bytes above the inputs for each element: peak where the device can tell, else what is saved for backward."""
    quantity = "peak_bytes" if any(e["peak_bytes"] is not None for e in reports[0].entries.values()) else "saved_bytes"
    what = {"peak_bytes": "peak above the inputs", "saved_bytes": "saved for backward beside the inputs"}[quantity]

    def draw(axis, operator: str) -> None:
        for report, line in zip(reports, LINES, strict=False):
            for variant, entries in _by_variant(report, operator).items():
                points = sorted(
                    (e["elements"], e[quantity] / e["elements"]) for e in entries if e[quantity] is not None
                )
                if points:
                    axis.semilogx(
                        *zip(*points, strict=True), line, label=variant, color=_colour(variant), marker="o", ms=3
                    )
        axis.set(title=operator, xlabel="elements")
        axis.set_ylim(bottom=-0.03 * axis.get_ylim()[1])  # what saves nothing lies on 0, in sight

    title = f"Memory {what}, {DIRECTION}, {DTYPE}{_line_styles(reports)}"
    return _panels(_operators(reports[0]), draw, title, "bytes per element")


def scaling(report: Report) -> Figure | None:
    lines = slopes(report)
    quantities = {"seconds": "seconds", "saved_bytes": "bytes saved for backward", "peak_bytes": "peak bytes"}
    shown = [q for q in quantities if any(v for line in lines for v in line.values(q))]

    def draw(axis, panel: tuple[str, str]) -> None:
        operator, quantity = panel
        for line in (line for line in lines if line.name == operator):
            points = [(n, v) for n, v in zip(line.elements, line.values(quantity), strict=True) if v]
            if points:
                fitted = {"seconds": line.time, "saved_bytes": line.saved, "peak_bytes": line.peak}[quantity]
                label = line.variant if fitted is None else f"{line.variant}, slope {fitted:.2f}"
                axis.loglog(*zip(*points, strict=True), "o-", ms=3, label=label, color=_colour(line.variant))
        axis.set(title=operator, xlabel="elements", ylabel=quantities[quantity])
        axis.legend(fontsize=7)

    panels = [(operator, q) for q in shown for operator in dict.fromkeys(line.name for line in lines)]
    return _panels(panels, draw, f"Cost against elements, {DIRECTION}, {DTYPE}", None)


def training(report: Report) -> Figure | None:
    """The step, and what of it the ELBO takes."""
    cases = report.of("training")

    def draw(axis, case: str) -> None:
        entries = [entry for entry in cases[case].values() if entry["elbo_seconds"] is not None]
        elbo = np.array([max(0.0, 1e3 * entry["elbo_seconds"]) for entry in entries])
        step = np.array([1e3 * entry.median for entry in entries])
        places = np.arange(len(entries))
        axis.barh(places, step - elbo, color="#BBBBBB", label="network")
        axis.barh(places, elbo, left=step - elbo, color=COLOURS["native"], label="ELBO")
        axis.set_yticks(places, [entry.variant for entry in entries], fontsize=8)
        axis.invert_yaxis()
        axis.set(title=case, xlabel="ms per step")

    return _panels(list(cases), draw, "Training steps", None)


def ratios(comparison: Comparison) -> Figure | None:
    """fastvae's cases, slowest on top, with their intervals; the band is noise."""
    rows = sorted((row for row in comparison.rows if row.after.role == FUSED), key=lambda row: row.ratio)
    if not rows:
        return None
    figure = Figure(figsize=(9, 1.5 + 0.16 * len(rows)), layout="constrained")
    axis, places = figure.subplots(), np.arange(len(rows))
    values = np.array([row.ratio for row in rows])
    errors = np.abs(np.array([[row.interval.low, row.interval.high] for row in rows]).T - values)
    for place, row in enumerate(rows):
        colour = "#999999" if not row.significant else "#D55E00" if row.ratio > 1 else "#009E73"
        axis.errorbar(values[place], place, xerr=errors[:, place : place + 1], fmt="o", ms=3, color=colour, lw=1)
    axis.axvspan(math.exp(-comparison.floor.log), math.exp(comparison.floor.log), color="#EEEEEE", zorder=0)
    axis.set_yticks(places, [f"{row.after.case} {row.after.variant}" for row in rows], fontsize=6)
    axis.set_ylim(-1, len(rows))
    axis.set(title="Time after / before: grey is noise, red slower, green faster", xlabel="ratio, 99 % interval")
    axis.set_xscale("log")
    low, high = min(0.8, values.min() / 1.2), max(1.25, values.max() * 1.2)  # a wild interval may leave the picture
    axis.set_xticks([tick for tick in RATIO_TICKS if low <= tick <= high])
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.set_xlim(low, high)
    axis.grid(axis="x", alpha=0.3)
    return figure


def _panels(panels: Sequence, draw, title: str, ylabel: str | None) -> Figure | None:
    """A picture with a panel for each of `panels` that has something to draw, legends merged; None without any."""
    if not panels:
        return None
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows + 0.8), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False)
    handles: dict[str, Any] = {}
    for axis, panel in zip(axes.flat, panels, strict=False):
        draw(axis, panel)
        axis.grid(alpha=0.3)
        if ylabel:
            axis.set_ylabel(ylabel)
        handles.update({label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)})
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_axis_off()
    if all(axis.get_legend() is None for axis in axes.flat):
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=6, fontsize=8)
    return figure


def _operators(report: Report) -> list[str]:
    shown = (entry for _, variants in _shown(report) for entry in variants.values())
    return list(dict.fromkeys(entry["operator"] for entry in shown))


def _shown(report: Report) -> Iterator[tuple[str, Mapping[str, Entry]]]:
    for case, variants in report.of("operator").items():
        first = next(iter(variants.values()))
        if (first["direction"], first["dtype"]) == (DIRECTION, DTYPE):
            yield case, variants


def _cases(report: Report, operator: str) -> list[Mapping[str, Entry]]:
    return [variants for _, variants in _shown(report) if next(iter(variants.values()))["operator"] == operator]


def _by_variant(report: Report, operator: str) -> dict[str, list[Entry]]:
    by_variant: dict[str, list[Entry]] = {}
    for variants in _cases(report, operator):
        for name, entry in variants.items():
            if _is_plain(entry):
                by_variant.setdefault(name, []).append(entry)
    return by_variant


def _is_plain(entry: Entry) -> bool:
    """Whether it may stand on one line with others: bytes instead of floats, or other layouts, are other curves."""
    return (entry["layout"], entry["target"], entry["samples"]) in (
        ("contiguous", "float", None),
        ("packed", "float", None),
    )


def _fused(variants: Mapping[str, Entry]) -> float:
    return min(entry.median for entry in variants.values() if entry.role == FUSED)


def _size(variants: Mapping[str, Entry]) -> str:
    return next(iter(variants.values()))["size"]


def _colour(variant: str) -> str:
    return COLOURS.get(variant, OTHER)


def _line_styles(reports: Sequence[Report]) -> str:
    return "" if len(reports) == 1 else f"\nfull lines {reports[0].name}, dashed {reports[1].name}"


def _write(folder: Path, figures: Mapping[str, Figure | None]) -> list[Path]:
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    writable_directory(folder, drawn)
    for name, figure in drawn.items():
        with whole_file(folder / name) as path:
            figure.savefig(path, dpi=DPI)
    return [folder / name for name in drawn]
