"""`metrics.jsonl`: one JSON object an epoch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import naming, whole_file

NAME = "metrics.jsonl"


def read(path: Path) -> list[dict[str, Any]]:
    """Its epochs; a last line that a killed process left torn is none."""
    if not path.exists():
        return []
    epochs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            epochs.append(json.loads(line))
        except ValueError:
            break
    return epochs


def keep(path: Path, epoch: int) -> list[dict[str, Any]]:
    """Leave the first epochs, to `epoch`: those that the checkpoint has seen. The others come again."""
    kept = [metrics for metrics in read(path) if metrics["epoch"] <= epoch]
    with whole_file(path, durable=True) as temporary:
        temporary.write_text("".join(map(_line, kept)), encoding="utf-8")
    return kept


def append(path: Path, metrics: Mapping[str, Any]) -> None:
    """On the disk when this returns."""
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(_line(metrics))
        file.flush()
        os.fsync(file.fileno())


def _line(metrics: Mapping[str, Any]) -> str:
    known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
    return json.dumps(known, allow_nan=False) + "\n"
