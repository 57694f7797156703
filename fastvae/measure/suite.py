"""Finds the benchmark suite and runs it: installed as `fastvae.benchmarks`, beside the package in a checkout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from ..extras import require
from ..files import writable_directory


class MissingSuiteError(ImportError):
    """fastvae was installed without its benchmarks."""


def measure(report: Path, options: Sequence[str]) -> int:
    """Run the suite with `options` of its own and write `report`. Returns the exit status."""
    require("pytest", "pytest_benchmark", "tqdm", extra="bench")
    runner = import_module(f"{_package()}.__main__")
    writable_directory(report.parent, (report.name,))
    return runner.measure(report, None, options)


def _package() -> str:
    if find_spec("fastvae.benchmarks") is not None:
        return "fastvae.benchmarks"
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / "cases.py").is_file():
        raise MissingSuiteError("the benchmarks are not installed; reinstall fastvae, or run this in a checkout of it")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))  # not the current directory's `benchmarks`, whatever that is
    return "benchmarks"
