"""p(x|z) inside a model: any likelihood that is declared, every variance mode, the mean that pictures show."""

from __future__ import annotations

import copy
import inspect
import math

import pytest
import torch
from test_models import GAUSSIAN, small
from torch.distributions import Bernoulli, ContinuousBernoulli, Laplace, NegativeBinomial, Normal, Poisson

import fastvae
from fastvae.models import likelihood
from fastvae.ops import OPERATORS
from fastvae.ops._contract import parse


@pytest.mark.parametrize("name", likelihood.names())
def test_any_likelihood_trains(name):
    model = small(likelihood=name)
    x = torch.randint(0, 2, (6, 1, 8, 8)).float()
    terms = model(x, num_samples=2, objective="iwae")
    terms.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_likelihood_that_comes_later_needs_no_change(monkeypatch):
    """One output of the decoder for each tensor of the schema; the mean is the first."""
    operator = copy.copy(OPERATORS["gaussian_log_prob"])
    operator.name, operator.operands = "of_tests_log_prob", ("x", "middle", "slope")
    operator.arguments = parse("Tensor x, Tensor middle, Tensor slope, Tensor? weight, int event_ndim, float x_scale")
    monkeypatch.setitem(OPERATORS, operator.name, operator)

    def of_tests_log_prob(x, middle, slope, *, event_ndim, reduction):
        assert event_ndim == 3
        each = -(slope * (x - middle)).abs().flatten(-3).sum(-1)
        return each.mean() if reduction == "mean" else each

    monkeypatch.setattr(fastvae.functional, operator.name, of_tests_log_prob, raising=False)
    model = small(likelihood="of_tests")
    assert model.observation.num_outputs == 2
    z = torch.randn(4, 3)
    assert torch.equal(model.pixels(z), model.decode(z)[0].clamp(0, 1))
    for keywords in ({}, {"num_samples": 2, "objective": "iwae"}):
        model.zero_grad()
        model(torch.rand(4, 64), **keywords).loss.backward()
        assert all(p.grad.isfinite().all() and p.grad.any() for p in model.decoder.parameters())


def test_a_declaration_without_a_public_function_is_no_likelihood_of_a_model(monkeypatch):
    monkeypatch.setitem(OPERATORS, "private_log_prob", OPERATORS["gaussian_log_prob"])
    assert "private" not in likelihood.names()


MEANS = {
    "gaussian": lambda mean, log_var: Normal(mean, (log_var / 2).exp()).mean,
    "bernoulli": lambda logits: Bernoulli(logits=logits).mean,
    "laplace": lambda mean, log_scale: Laplace(mean, log_scale.exp()).mean,
    "continuous_bernoulli": lambda logits: ContinuousBernoulli(logits=logits).mean,
    "poisson": lambda log_rate: Poisson(log_rate.exp()).mean,
    "negative_binomial": lambda m, t: NegativeBinomial(t.exp(), logits=m - t).mean,
    "zero_inflated_negative_binomial": lambda m, t, zero: (
        NegativeBinomial(t.exp(), logits=m - t).mean * (1 - Bernoulli(logits=zero).mean)
    ),
}


@pytest.mark.parametrize("name", likelihood.READINGS)
def test_pictures_show_the_mean_of_the_distribution(name):
    count = len(inspect.signature(MEANS[name]).parameters)
    parameters = torch.randn(count, 50, dtype=torch.float64).unbind()
    torch.testing.assert_close(likelihood.READINGS[name].mean(*parameters), MEANS[name](*parameters))


def test_optimal_variance_has_its_closed_form():
    """NLL per dimension = (log(2 pi MSE) + 1) / 2 (Rybkin et al. 2021, eq. 6)."""
    model, x = small(**GAUSSIAN, variance="optimal").double(), torch.rand(32, 64, dtype=torch.float64)
    z = torch.randn(2, 32, 3, dtype=torch.float64)
    mse = (model.decode(z)[0] - x.reshape(32, 1, 8, 8)).square().mean()
    wanted = -(torch.log(2 * math.pi * mse) + 1) / 2 * 64
    torch.testing.assert_close(model.log_prob(x, z).mean(), wanted, rtol=1e-13, atol=0)
    # Evaluation takes what training has seen, whatever is evaluated.
    for _ in range(300):
        model.log_prob(x, z)
    model.eval()
    torch.testing.assert_close(model.observation.log_var, mse.log(), rtol=1e-9, atol=0)
    each = torch.cat([model.log_prob(x[i : i + 1], z[:, i : i + 1]) for i in range(32)], 1)
    torch.testing.assert_close(each, model.log_prob(x, z))


def test_a_variance_that_is_not_of_the_decoder_is_one_tensor():
    for variance, shape in (("fixed", ()), ("shared", (1,)), ("optimal", ())):
        assert small(**GAUSSIAN, variance=variance).observation.log_var.shape == shape
    assert small(**GAUSSIAN, variance="per-pixel").observation.log_var is None
    assert small(model="linear", **GAUSSIAN, variance="per-pixel").observation.log_var.shape == (1, 8, 8)


def test_a_constant_pixel_does_not_diverge():
    model = small(**GAUSSIAN, variance="per-pixel")
    with torch.no_grad():
        model.decoder[-1].bias[64:] = -100.0
    terms = model(torch.zeros(4, 64, dtype=torch.uint8))
    assert terms.elbo < 64 * 6
    terms.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
