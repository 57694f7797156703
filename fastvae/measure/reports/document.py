"""Reading reports: pytest-benchmark's JSON with fastvae's `extra_info`, checked before anything relies on it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

SCHEMA = "fastvae_report"  # the key of the version, at the top of the document
VERSION = 2

FULL_HASH = 40

FUSED, NAIVE, FLOOR = "fused", "naive", "floor"  # roles: fastvae; what it replaces; what bounds both
ENVIRONMENT_MAY_DIFFER = ("load average before",)  # differs from run to run and explains no difference by itself


class ReportError(ValueError):
    """A file that is no report; the message is one line for the user and names the file."""


@dataclass(frozen=True)
class Entry:
    """One variant of one case: a sample for each round, in seconds for one call."""

    case: str
    variant: str
    role: str
    seconds: tuple[float, ...]
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def key(self) -> tuple[str, str]:
        return self.case, self.variant

    def __getitem__(self, name: str) -> Any:
        """A field of `extra_info`; None where the machine could not tell."""
        return self.info.get(name)


@dataclass(frozen=True)
class Report:
    name: str
    entries: Mapping[tuple[str, str], Entry]
    machine: Mapping[str, str]
    commit: str
    suite: str
    wrong: tuple[str, ...] = ()
    complete: bool = True

    def cases(self) -> dict[str, dict[str, Entry]]:
        """Variants by case, in the order in which they were measured."""
        variants: dict[str, dict[str, Entry]] = {}
        for entry in self.entries.values():
            variants.setdefault(entry.case, {})[entry.variant] = entry
        return variants

    def of(self, kind: str) -> dict[str, dict[str, Entry]]:
        """The cases of one kind: "operator", "scaling", "training" or "floor"."""
        return {
            case: variants for case, variants in self.cases().items() if next(iter(variants.values()))["kind"] == kind
        }

    @property
    def copy_bandwidth(self) -> float | None:
        """GB/s, bytes read and written, measured in the same run."""
        return next((e["gb_per_s"] for e in self.entries.values() if e.role == FLOOR and e.variant == "copy"), None)

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in self.machine.items() if name not in ENVIRONMENT_MAY_DIFFER}


def read(path: Path) -> Report:
    """Raises ReportError for what is no report of this version, OSError for what cannot be read."""
    return parse(load(path), str(path))


def load(path: Path) -> dict:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ReportError(f"{path}: is no report: not text") from None
    except json.JSONDecodeError as error:
        raise ReportError(f"{path}: is no JSON, or was cut off, at line {error.lineno}") from None
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
        raise ReportError(f"{path}: is no report of `fastvae bench`: it holds no benchmarks")
    return document


def version_of(document: Mapping) -> int:
    return document.get(SCHEMA, 1)  # the first version did not say


def parse(document: Mapping, name: str) -> Report:
    version = version_of(document)
    if version != VERSION:
        raise ReportError(f"{name}: is a report of schema version {version}; this fastvae reads version {VERSION}")
    try:
        entries = [_entry(benchmark) for benchmark in document["benchmarks"]]
        return Report(
            name=name,
            entries={entry.key: entry for entry in entries},
            machine={str(key): str(value) for key, value in document["machine_info"].items()},
            commit=_commit(document["commit_info"]),
            suite=document["suite"],
            wrong=tuple(document["wrong"]),
            complete=document["complete"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportError(f"{name}: is a damaged report: {type(error).__name__}: {error}") from None


def _entry(benchmark: Mapping) -> Entry:
    info, seconds = benchmark["extra_info"], tuple(float(sample) for sample in benchmark["stats"]["data"])
    if not seconds or not all(math.isfinite(sample) and sample > 0 for sample in seconds):
        raise ValueError(f"{benchmark['name']} has samples that are no times")
    return Entry(info["case"], info["variant"], info["role"], seconds, info)


def _commit(commit: Mapping) -> str:
    name = str(commit["id"])
    short = name[:12] if len(name) == FULL_HASH else name
    return f"{short}{' with uncommitted changes' if commit.get('dirty') else ''}"
