"""`python -m benchmarks [--suite quick|full] [--out DIR] [--device cpu|cuda] [--threads N]`, offline, without the CLI.

Leaves report.json and table.md in DIR. Further arguments go to pytest: -k "bernoulli and fp32".
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from fastvae.extras import MissingExtraError, require
from fastvae.files import whole_file, writable_directory
from fastvae.measure.reports import document, render

PACKAGES = ("pytest", "pytest_benchmark", "tqdm", "numpy")
INTERRUPTED = 2  # pytest's status


def main(arguments: list[str]) -> int:
    options, further = _parser().parse_known_args(arguments)
    try:
        require(*PACKAGES, extra="bench")
        writable_directory(options.out, ("report.json", "table.md"))
        return measure(
            options.out / "report.json",
            options.out / "table.md",
            [f"--suite={options.suite}", f"--device={options.device}", f"--threads={options.threads}", *further],
        )
    except (OSError, MissingExtraError, document.ReportError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def measure(report: Path, table: Path | None, options: Sequence[str]) -> int:
    """Run the suite; what was measured is written, also after Ctrl-C. Returns 0, 1 for a wrong variant of fastvae's,
    2 where nothing was measured, 130 after Ctrl-C."""
    import pytest
    import torch

    if "--device=cuda" in options and not torch.cuda.is_available():
        print("benchmarks: --device cuda: this torch sees no GPU", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Not saving anything")  # said below, in one line
        raw = Path(folder) / "report.json"
        status = int(pytest.main([*_arguments(raw), *options]))
        if not raw.exists():
            print("benchmarks: nothing was measured", file=sys.stderr)
            return 130 if status == INTERRUPTED else 2
        content = document.load(raw)
    parsed = document.parse(content, report.name)
    _write(report, json.dumps(content, separators=(",", ":"), allow_nan=False).replace('{"group"', '\n{"group"') + "\n")
    text = render.report(parsed, markdown=True)
    if table is not None:
        _write(table, text)
    print(f"\n{text}\nwritten: {report}{'' if table is None else f', {table}'}")
    return 130 if status == INTERRUPTED else min(status, 2)


def _arguments(raw: Path) -> list[str]:
    return [
        str(Path(__file__).parent),
        "-q",
        "-pno:randomly",  # the order is that of measuring
        "--no-header",
        "--no-summary",
        "--capture=no",
        "--show-capture=no",
        "--disable-warnings",
        "-pno:cacheprovider",  # writes nothing beside an installed package
        "--benchmark-enable",
        "--benchmark-quiet",  # its tables are long; --benchmark-verbose brings them back
        f"--benchmark-json={raw}",
        f"--benchmark-storage=file://{raw.parent}",  # which it makes, though it stores nothing
        "--override-ini=console_output_style=classic",
    ]


def _write(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument("--suite", choices=("quick", "full"), default="full", help="default: full")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="directory for report.json and table.md")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU where one is")
    parser.add_argument("--threads", type=_positive, default=2, help="CPU threads (default 2)")
    return parser


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
