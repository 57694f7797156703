"""Reports and comparisons in words and tables: plain, or as a Markdown document with headings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import geometric_mean

from .compare import Comparison, Row
from .document import FUSED, Entry, Report
from .scaling import slopes
from .tables import duration, number, size, table, without_empty

DISTURBED = 0.2  # above it, a noise floor says only that something else ran at the time

Variants = Mapping[str, Entry]  # of one case, by name

COLUMNS = {
    "median": lambda e: duration(e.median),
    "p20 - p80": lambda e: f"{duration(e['p20'])} - {duration(e['p80'])}",
    "GB/s": lambda e: number(e["gb_per_s"]),
    "% of copy": lambda e: number(e["copy_percent"], 0),
    "saved": lambda e: size(e["saved_bytes"]),
    "peak": lambda e: size(e["peak_bytes"]),
    "kernels": lambda e: number(e["kernels"], 0),
    "launch": lambda e: duration(e["launch_seconds"]),
    "first call": lambda e: duration(e["first_call_seconds"]),
    "energy": lambda e: "" if e["energy_joules"] is None else f"{1e3 * e['energy_joules']:.3g} mJ",
    "power": lambda e: "" if e["power_watts"] is None else f"{e['power_watts']:.0f} W",
    "clock": lambda e: "" if e["sm_mhz"] is None else f"{e['sm_mhz']} MHz",
    "throttled": lambda e: ", ".join(e["throttle_reasons"] or ()),
}


def report(report: Report, markdown: bool = False) -> str:
    """Everything a report says but its samples."""
    sections = {
        "What was measured": _origin(report),
        "Bounds on this machine": _floors(report),
        "How many times longer the alternatives take": _ratios(report),
        "Operators": _cases(report.of("operator")),
        "Training steps": _training(report.of("training")),
        "Scaling": _scaling(report),
        "Wrong, and so without a speed": "\n".join(f"- {line}" for line in report.wrong),
    }
    return _document(f"Report {report.name}", sections, markdown)


def comparison(comparison: Comparison, threshold: float | None = None, markdown: bool = False) -> str:
    """Differences of environment first: they explain more than any commit."""
    sections = {
        "Differences of environment": _environment(comparison),
        "Verdict": _verdict(comparison, threshold),
        "Cases": _rows(comparison.rows),
        f"Only in {comparison.before.name}": _list(comparison.only_before),
        f"Only in {comparison.after.name}": _list(comparison.only_after),
    }
    return _document(f"From {comparison.before.name} to {comparison.after.name}", sections, markdown)


def _document(title: str, sections: Mapping[str, str], markdown: bool) -> str:
    head = "{}\n\n{}" if not markdown else "## {}\n\n{}"
    parts = [head.format(heading, text) for heading, text in sections.items() if text]
    return "\n\n".join([f"# {title}" if markdown else title, *parts]) + "\n"


def _origin(report: Report) -> str:
    facts = [f"{name} {value}" for name, value in report.machine.items()]
    whole = "" if report.complete else " The run was broken off: cases are missing."
    return f"Suite {report.suite}: {', '.join(facts)}, commit {report.commit}.{whole}"


def _floors(report: Report) -> str:
    entries = [entry for variants in report.of("floor").values() for entry in variants.values()]
    return "\n".join(f"- {entry['what']}: {_floor(entry)}" for entry in entries)


def _floor(entry: Entry) -> str:
    if entry["gb_per_s"] is None:
        return duration(entry.median)
    percent = entry["peak_percent"]
    peak = "" if percent is None else f", {percent:.0f} % of the datasheet's {entry['peak_gb_per_s']:,} GB/s"
    return f"{entry['gb_per_s']:,.1f} GB/s{peak}"


def _ratios(report: Report) -> str:
    """Geometric mean and minimum over the cases, by what is measured and by rival."""
    ratios: dict[tuple[str, ...], list[tuple[float, str]]] = {}  # (ratio, case)
    for case, variants in report.of("operator").items():
        for ours in (entry for entry in variants.values() if entry.role == FUSED):
            for rival in (entry for entry in variants.values() if entry.role != FUSED):
                key = (ours.variant, rival.variant, ours["dtype"], ours["direction"])
                ratios.setdefault(key, []).append((rival.median / ours.median, case))
    rows = [
        [*key, str(len(pairs)), f"{geometric_mean(r for r, _ in pairs):.2f}x", f"{min(pairs)[0]:.2f}x", min(pairs)[1]]
        for key, pairs in ratios.items()
    ]
    header = ("fastvae", "than", "dtype", "direction", "cases", "geometric mean", "minimum", "minimum at")
    return table(header, rows, "llllrrrl") if rows else ""


def _cases(cases: Mapping[str, Variants]) -> str:
    rows = [
        [case, name, *(cell(entry) for cell in COLUMNS.values())]
        for case, variants in cases.items()
        for name, entry in variants.items()
    ]
    header, rows = without_empty(["case", "variant", *COLUMNS], rows)
    return table(header, rows, "ll" + "r" * (len(header) - 2)) if rows else ""


def _training(cases: Mapping[str, Variants]) -> str:
    rows = [
        [case, name, duration(e.median), duration(e["elbo_seconds"]), _elbo_percent(e), duration(e["p80"])]
        for case, variants in cases.items()
        for name, e in variants.items()
    ]
    header = ("network", "variant", "step", "of it the ELBO", "share", "p80")
    return table(header, rows, "llrrrr") if rows else ""


def _elbo_percent(entry: Entry) -> str:
    elbo = entry["elbo_seconds"]
    return "" if elbo is None else f"{100 * elbo / entry.median:.0f} %"


def _scaling(report: Report) -> str:
    rows = [
        [line.name, line.variant, f"{line.elements[0]:.0e} to {line.elements[-1]:.0e}", number(line.time, 2),
         number(line.saved, 2), number(line.peak, 2)]
        for line in slopes(report)
    ]  # fmt: skip
    if not rows:
        return ""
    header, rows = without_empty(["operator", "variant", "elements", "time", "saved bytes", "peak bytes"], rows)
    text = "Slopes on logarithmic axes over the largest hundredfold of sizes: 1 is proportional to the elements."
    return f"{text}\n\n{table(header, rows, 'lll' + 'r' * (len(header) - 3))}"


def _environment(comparison: Comparison) -> str:
    rows = comparison.environment
    return table(("", comparison.before.name, comparison.after.name), rows, "lll") if rows else "None."


def _verdict(comparison: Comparison, threshold: float | None) -> str:
    significant = [row for row in comparison.rows if row.significant]
    lines = [
        f"{len(significant)} of {len(comparison.rows)} common cases differ significantly: the 99 % bootstrap interval "
        f"of the ratio excludes 1, and the ratio exceeds the noise of {comparison.floor.reason}."
    ]
    if comparison.floor.log > DISTURBED:
        lines.append(
            "Something else ran beside one of these runs: with so much noise, measure again before concluding."
        )
    lines += [f"- {row.after.case} {row.after.variant}: {row.ratio:.3f}" for row in significant]
    if threshold is not None:
        slower = comparison.slower_than(threshold)
        lines.append(
            f"{len(slower)} of fastvae's are slower by more than {threshold:g}: past the threshold."
            if slower
            else f"None of fastvae's is significantly slower by more than {threshold:g}."
        )
    return "\n".join(lines)


def _rows(rows: Sequence[Row]) -> str:
    cells = (
        (
            row.after.case,
            row.after.variant,
            duration(row.before.median),
            duration(row.after.median),
            f"{row.ratio:.3f}",
            f"{row.interval.low:.3f} - {row.interval.high:.3f}",
            ("slower" if row.ratio > 1 else "faster") if row.significant else "",
        )
        for row in rows
    )
    return table(("case", "variant", "before", "after", "ratio", "99 % interval", "significant"), cells, "llrrrrl")


def _list(names: Iterable[str]) -> str:
    return "\n".join(f"- {name}" for name in names)
