"""Sums of many terms: as accurate as few."""

from __future__ import annotations

import pytest
import torch

import fastvae

pytestmark = pytest.mark.usefixtures("backend")

TOLERANCE = 1e-6  # of the sum of magnitudes: a few roundings of float32, whatever the number of terms


# A running sum in float32 is off by 9e-6 at a thousand samples, by 1e-3 at a hundred thousand.
@pytest.mark.interpreted(where=lambda num_samples: num_samples <= 400)
@pytest.mark.parametrize("num_samples", [3, 400, 100_000])
def test_gradients_summed_over_samples(num_samples):
    mean, log_std = torch.randn(2, 4).requires_grad_(), torch.randn(2, 4).requires_grad_()
    z = fastvae.rsample(mean, log_std, scale_as="log_std", num_samples=num_samples, seed=5)
    upstream = torch.full_like(z, 1 / num_samples)
    upstream += torch.rand_like(z) * upstream / 8
    of_mean, of_log_std = torch.autograd.grad(z, (mean, log_std), upstream)
    terms = upstream.double()
    of_std = terms * (fastvae.rsample(mean * 0, log_std * 0, num_samples=num_samples, seed=5).detach().double())
    assert ((of_mean - terms.sum(0)).abs() <= TOLERANCE * terms.sum(0)).all()
    std = log_std.detach().double().exp()
    assert ((of_log_std - of_std.sum(0) * std).abs() <= TOLERANCE * of_std.abs().sum(0) * std).all()


def test_an_infinite_gradient_of_a_sample_comes_through():
    mean = torch.zeros(4).requires_grad_()
    z = fastvae.rsample(mean, torch.zeros(4), num_samples=3, seed=5)
    upstream = torch.ones_like(z)
    upstream[0, 0], upstream[1, 1], upstream[1, 2] = torch.inf, -torch.inf, torch.nan
    (gradient,) = torch.autograd.grad(z, mean, upstream)
    torch.testing.assert_close(gradient, torch.tensor([torch.inf, -torch.inf, torch.nan, 3.0]), equal_nan=True)
