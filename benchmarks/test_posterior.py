"""Sampling and KL against the naive snippets."""

from __future__ import annotations

import pytest

from .cases import cases_of


@pytest.mark.parametrize("case", cases_of("rsample_kl"), ids=str)
def test_rsample_kl(case, compare):
    compare(case)


@pytest.mark.parametrize("case", cases_of("kl_standard_normal"), ids=str)
def test_kl_standard_normal(case, compare):
    compare(case)
