"""Training steps, and what of them the ELBO takes."""

from __future__ import annotations

from . import training


def cases(suite, device):
    return training.cases(suite)


def test_training_step(record, case, variant):
    record(case, variant)
