"""Log-likelihoods against the naive snippets."""

from __future__ import annotations

import pytest

from .cases import cases_of


@pytest.mark.parametrize("case", cases_of("bernoulli_log_prob"), ids=str)
def test_bernoulli_log_prob(case, compare):
    compare(case)


@pytest.mark.parametrize("case", cases_of("gaussian_log_prob"), ids=str)
def test_gaussian_log_prob(case, compare):
    compare(case)
