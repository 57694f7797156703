"""How far pytest came, whatever ended it: `-p benchmarks.reach --reach FILE` notes what is planned, and over."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import IO

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reach", type=Path, help="file that gets a line for each test planned, each over")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--reach")
    if path is not None and not hasattr(config, "workerinput"):  # of xdist's processes the first writes
        config.pluginmanager.register(Recorder(path.open("w", encoding="utf-8", buffering=1)))


class Recorder:
    def __init__(self, file: IO[str]) -> None:
        self._file, self._planned = file, False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._plan({item.nodeid: _label(item) for item in session.items})

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._plan({name: name.split("::")[0] for name in ids})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self._write("over", report.nodeid)

    def _plan(self, labels: dict[str, str]) -> None:
        if not self._planned:  # each of xdist's processes collects the same
            for name, label in labels.items():
                self._write("planned", name, label)
        self._planned = self._planned or bool(labels)

    def _write(self, *entry: str) -> None:
        self._file.write(json.dumps(entry) + "\n")


def _label(item: pytest.Item) -> str:
    """A benchmark's case, else the test's file."""
    call = getattr(item, "callspec", None)
    return str(call.params["case"]) if call and "variant" in call.params else item.nodeid.split("::")[0]


def missing(path: Path, most: int = 6) -> str | None:
    """One line with what was planned and is not over; None where that is nothing. The file itself names every test."""
    whole = (line for line in _lines(path) if line.endswith("]"))  # a killed process may leave half a line
    entries = [json.loads(line) for line in whole]
    planned = {name: label for kind, name, *rest in entries if kind == "planned" for label in rest}
    over = {name for kind, name, *_ in entries if kind == "over"}
    left = [name for name in planned if name not in over]
    if not left:
        return None
    counts = Counter(planned[name] for name in left)
    named = ", ".join(f"{label} ({count})" for label, count in [*counts.items()][:most])
    more = f", and {len(counts) - most} more" if len(counts) > most else ""
    return f"not reached, {len(left)} of {len(planned)}: {named}{more}"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
