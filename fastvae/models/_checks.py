"""Errors that models have in common."""

from __future__ import annotations

from collections.abc import Sequence


def check_among(name: str, value: object, among: Sequence[str]) -> None:
    if value not in among:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, among))}, got {value!r}")
