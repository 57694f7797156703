"""p(x|z): log-likelihoods, and the losses that are made of them."""

from __future__ import annotations

from . import cases as all_cases

OPERATORS = (*all_cases.LIKELIHOODS, *all_cases.LOSSES, *all_cases.CLASSES)


def cases(suite, device):
    return all_cases.operators(OPERATORS, suite, device)


def test_likelihood(record, case, variant):
    record(case, variant)
