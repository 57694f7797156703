"""What bounds the small and the large cases on this machine, whatever computes them."""

from __future__ import annotations

from .experiments import BOUNDS


def cases(suite, device):
    return BOUNDS


def test_floor(record, case, variant):
    record(case, variant)
