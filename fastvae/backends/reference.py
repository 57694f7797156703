"""Plain torch, on any device: the formulas, handed out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..ops import Contract


def functions(contracts: Mapping[str, Contract]) -> dict[str, Callable[..., Any]]:
    return {name: contract.formula for name, contract in contracts.items()}
