"""`python -m benchmarks [--out DIR] [--threads N] [--quick]`; further arguments go to pytest (-k bernoulli)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from fastvae.training.files import writable_directory


def main(arguments: list[str]) -> int:
    options, further = _parser().parse_known_args(arguments)
    try:
        out = writable_directory(options.out)
    except OSError as error:
        print(f"benchmarks: cannot write to {options.out}: {error.strerror}", file=sys.stderr)
        return 2
    report, table = out / "report.json", out / "table.md"
    quick = ["--quick"] if options.quick else []
    run = [
        str(Path(__file__).parent),
        "--capture=no",
        "--show-capture=no",
        "-Wignore::DeprecationWarning",
        "--benchmark-enable",
        "--benchmark-quiet",  # its tables are long; --benchmark-verbose brings them back
        f"--benchmark-json={report}",
        f"--table={table}",
        f"--threads={options.threads}",
        "--override-ini=console_output_style=classic",
    ]
    status = int(pytest.main([*run, *quick, *further]))
    if status == 0:
        print(f"Written: {table}, {report}")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="directory for table.md and report.json")
    parser.add_argument("--threads", type=_positive, default=2, help="threads for torch and fastvae (default 2)")
    parser.add_argument("--quick", action="store_true", help="fewer cases, fewer rounds")
    return parser


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
