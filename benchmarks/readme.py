"""`python -m benchmarks.readme [REPORT]`: the README's tables, made from the reports that their markers name.

With REPORT, a file below benchmarks/reports, the block measured on the same processor or GPU is made from it from now
on, if REPORT has all that the block has; its own tables are written beside it in any case. `make test` fails where a
table and its report differ.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean

from fastvae.files import whole_file
from fastvae.measure.reports import document, render
from fastvae.measure.reports.document import FUSED, ReportError
from fastvae.measure.reports.tables import duration, table

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"<!-- measured: (?P<path>\S+) -->\n.*?<!-- end of what was measured -->", re.DOTALL)
RIVALS = ("eager", "compiled")
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
LEAST_OPERATORS = 3  # a size has a column where so many operators were measured at it; the report has the others


@dataclass(frozen=True)
class Result:
    """A case of forward + backward: medians in seconds of fastvae and of its rivals."""

    operator: str
    size: str
    dtype: str
    fused: float
    rivals: Mapping[str, float]

    def ratio(self, rival: str) -> float:
        return self.rivals[rival] / self.fused


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__)
    parser.add_argument("report", nargs="?", type=Path, help="the report of a new measurement")
    options, readme = parser.parse_args(arguments), ROOT / "README.md"
    try:
        text = readme.read_text(encoding="utf-8")
        if options.report is not None:
            text = adopted(text, options.report.resolve())
        _write(readme, generated(text))
    except (OSError, ReportError) as error:
        print(f"benchmarks.readme: {error}", file=sys.stderr)
        return 2
    return 0


def generated(text: str) -> str:
    """`text` with every block made anew from the report that its marker names."""
    return BLOCK.sub(lambda block: _block(block["path"]), text)


def adopted(text: str, report: Path) -> str:
    """`text` with `report` named by the marker of the block from the same processor or GPU."""
    if not report.is_relative_to(ROOT / "benchmarks" / "reports"):
        raise ReportError(f"{report}: copy it to benchmarks/reports first, named by date and machine")
    new, path = document.load(report), report.relative_to(ROOT).as_posix()
    if document.version_of(new) == document.VERSION:
        _write(report.with_suffix(".md"), render.report(document.parse(new, report.name), markdown=True))
    kept = []
    for block in BLOCK.finditer(text):
        shown = document.load(ROOT / block["path"])
        if _processor(shown) != _processor(new):
            continue
        if not _cases(shown) - _cases(new):
            return text.replace(f"<!-- measured: {block['path']} -->", f"<!-- measured: {path} -->")
        kept.append(block["path"])
    if kept:
        print(f"{path}: README.md keeps {' and '.join(kept)}, which have cases more", file=sys.stderr)
        return text
    raise ReportError(
        f"README.md has no block from {_processor(new)}: put <!-- measured: {path} --> and "
        "<!-- end of what was measured --> on two lines where its tables belong"
    )


def results(report: Mapping) -> list[Result]:
    """The complete cases of a report of any version, of plain operands."""
    medians: dict[tuple[str, str, str], dict[str, float]] = {}
    for entry in report["benchmarks"]:
        info = entry["extra_info"]
        if _shown(info):
            key = info["operator"], "x".join(map(str, info["shape"])), info["dtype"]
            # The first version called it fastvae; now variants are named by backend, the one that serves first.
            name = "fastvae" if info.get("role") == FUSED else info["variant"]
            medians.setdefault(key, {}).setdefault(name, entry["stats"]["median"])
    complete = {key: times for key, times in medians.items() if {"fastvae", *RIVALS} <= times.keys()}
    return [Result(*key, times["fastvae"], {r: times[r] for r in RIVALS}) for key, times in complete.items()]


def _cases(report: Mapping) -> set[tuple[str, ...]]:
    """What a block shows of a report."""
    steps = {(info["case"], info["variant"]) for info, _ in _steps(report)}
    return steps | {(result.operator, result.size, result.dtype) for result in results(report)}


def _shown(info: Mapping) -> bool:
    plain = info.get("layout", "contiguous"), info.get("target", "float"), info.get("samples")
    kind = info.get("kind", "operator"), info.get("direction", "forward+backward")
    return "operator" in info and plain == ("contiguous", "float", None) and kind == ("operator", "forward+backward")


def _block(path: str) -> str:
    report = document.load(ROOT / path)
    cases = results(report)
    sizes = [size for size in dict.fromkeys(r.size for r in cases) if _operators_at(cases, size) >= LEAST_OPERATORS]
    dtypes = list(dict.fromkeys(result.dtype for result in cases if result.size in sizes))
    shown = [result for result in cases if result.size in sizes and result.dtype in dtypes]
    parts = [*(_ratios(shown, dtype, sizes) for dtype in dtypes), _means(shown, dtypes), _training(report)]
    link = Path(path).with_suffix(".md").as_posix()
    parts.append(f"Times, and everything else that was measured: [{Path(link).name}]({link}).")
    body = "\n\n".join(part for part in parts if part)
    return f"<!-- measured: {path} -->\n{body}\n<!-- end of what was measured -->"


def _operators_at(cases: Sequence[Result], size: str) -> int:
    return len({result.operator for result in cases if result.size == size})


def _ratios(cases: Sequence[Result], dtype: str, sizes: Sequence[str]) -> str:
    cells = {(r.operator, r.size): " / ".join(f"{r.ratio(v):.2f}" for v in RIVALS) for r in cases if r.dtype == dtype}
    operators = dict.fromkeys(operator for operator, _ in cells)
    rows = [[f"`{operator}`", *(cells.get((operator, size), "") for size in sizes)] for operator in operators]
    return table([DTYPES[dtype], *sizes], rows, "lr", padded=False)


def _means(cases: Sequence[Result], dtypes: Sequence[str]) -> str:
    rows = []
    for dtype in dtypes:
        ratios = [[result.ratio(rival) for result in cases if result.dtype == dtype] for rival in RIVALS]
        rows.append([DTYPES[dtype], *(f"{geometric_mean(values):.2f} ({min(values):.2f})" for values in ratios)])
    return table(["geometric mean (minimum)", *RIVALS], rows, "lr", padded=False) if rows else ""


def _training(report: Mapping) -> str:
    """Steps, and what of them the ELBO takes; the first version measured none."""
    rows = [
        [info["case"], info["variant"], duration(seconds), duration(info["elbo_seconds"])]
        for info, seconds in _steps(report)
    ]
    return table(["training step", "", "step", "of it the ELBO"], rows, "lr", padded=False) if rows else ""


def _steps(report: Mapping) -> list[tuple[Mapping, float]]:
    entries = [(entry["extra_info"], entry["stats"]["median"]) for entry in report["benchmarks"]]
    return [(info, seconds) for info, seconds in entries if info.get("kind") == "training" and "elbo_seconds" in info]


def _processor(report: Mapping) -> str:
    machine = report["machine_info"]
    return machine.get("gpu", machine["cpu"])


def _write(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
