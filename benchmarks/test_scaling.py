"""Cost against the number of elements."""

from __future__ import annotations

from . import cases as all_cases


def cases(suite, device):
    return all_cases.scaling(suite, device)


def test_scaling(record, case, variant):
    record(case, variant)
