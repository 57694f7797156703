"""q(z|x): sampling and KL."""

from __future__ import annotations

from . import cases as all_cases

OPERATORS = all_cases.LATENT


def cases(suite, device):
    return all_cases.operators(OPERATORS, suite, device)


def test_posterior(record, case, variant):
    record(case, variant)
