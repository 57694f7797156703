"""p(x|z) of pixels, beside a Bernoulli's and a Gaussian's: Laplace, continuous Bernoulli, discretized logistic."""

from __future__ import annotations

import functools
import math

import numpy as np
import oracles
import pytest
import torch
from torch.distributions import ContinuousBernoulli, Laplace

import fastvae

pytestmark = pytest.mark.usefixtures("backend")

EXCESS_BITS = 4
INF, NAN = math.inf, math.nan
ANY = None  # no limit: nothing is asked

laplace = functools.partial(fastvae.laplace_log_prob, event_ndim=0)
continuous_bernoulli = functools.partial(fastvae.continuous_bernoulli_log_prob, event_ndim=0)
discretized_logistic = functools.partial(fastvae.discretized_logistic_log_prob, event_ndim=0)


def accurate(name, call, formula, points, dtype, backend):
    for quantity, measured in oracles.measure(call, formula, points, dtype):
        oracles.record(f"{name} {quantity}", dtype, backend, measured)
        assert measured.excess_bits.max() <= EXCESS_BITS, quantity


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale_as", ["scale", "log_scale"])
def test_laplace_is_accurate(scale_as, dtype, backend):
    generator = np.random.default_rng(21)
    log_scale, mean = generator.uniform(-40, 40, 100), generator.standard_normal(100)
    distance = oracles.signed(generator, oracles.log_uniform(generator, 1e-3, 1e3, 100))
    points = mean + np.exp(log_scale) * distance, mean, log_scale if scale_as == "log_scale" else np.exp(log_scale)
    formula = functools.partial(oracles.laplace_log_prob, log_scale=scale_as == "log_scale")
    accurate(
        f"laplace_log_prob {scale_as}", functools.partial(laplace, scale_as=scale_as), formula, points, dtype, backend
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("targets", ["soft", "hard"])
def test_continuous_bernoulli_is_accurate(targets, dtype, backend):
    generator = np.random.default_rng(22)
    x = generator.uniform(0, 1, 200) if targets == "soft" else generator.integers(0, 2, 200).astype(float)
    logits = oracles.signed(generator, oracles.log_uniform(generator, 1e-4, 1e4, 200))
    logits[:20] = oracles.signed(generator, generator.uniform(0.9, 1.1, 20))  # where one regime meets another
    formula = oracles.continuous_bernoulli_log_prob
    accurate(f"continuous_bernoulli_log_prob {targets}", continuous_bernoulli, formula, (x, logits), dtype, backend)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bins", [2, 256])
def test_discretized_logistic_is_accurate(bins, dtype, backend):
    generator, count = np.random.default_rng(23), 150
    x = generator.integers(0, bins, count) / (bins - 1)
    x[:20] = generator.integers(0, 2, 20)  # the open bins
    log_scale = generator.uniform(-7, 5, count)
    distance = oracles.signed(generator, oracles.log_uniform(generator, 1e-3, 1e3, count))
    points = x, x - np.exp(log_scale) * distance, log_scale
    call, formula = (
        functools.partial(f, bins=bins) for f in (discretized_logistic, oracles.discretized_logistic_log_prob)
    )
    accurate(f"discretized_logistic_log_prob {bins} bins", call, formula, points, dtype, backend)


# Its arguments, its value there, and its gradient in each argument, as mathematics has them.
LIMITS = [
    (laplace, (0.5, 0.5, 0), INF, (0, 0, -INF)),
    (laplace, (1, 0.5, 0), -INF, (-INF, INF, INF)),
    (laplace, (1, 0.5, INF), -INF, (0, 0, 0)),
    (laplace, (INF, 0.5, 2), -INF, (-0.5, 0.5, INF)),
    (laplace, (0.5, 0.5, -1), NAN, (ANY, ANY, NAN)),
    (laplace, (0.5, NAN, 2), NAN, (NAN, NAN, NAN)),
    (functools.partial(laplace, scale_as="log_scale"), (0.5, 0.5, -INF), INF, (0, 0, -1)),
    (functools.partial(laplace, scale_as="log_scale"), (1, 0.5, -INF), -INF, (-INF, INF, INF)),
    (functools.partial(laplace, scale_as="log_scale"), (1, 0.5, INF), -INF, (0, 0, -1)),
    # Certain of its target, a density there is infinite.
    (continuous_bernoulli, (1, INF), INF, (ANY, 0)),
    (continuous_bernoulli, (0, -INF), INF, (ANY, 0)),
    (continuous_bernoulli, (0, INF), -INF, (INF, -1)),
    (continuous_bernoulli, (0.5, -INF), -INF, (-INF, 0.5)),
    (continuous_bernoulli, (0.25, 0), 0, (0, -0.25)),
    (continuous_bernoulli, (0, NAN), NAN, (NAN, NAN)),
    (continuous_bernoulli, (NAN, 2), NAN, (2, NAN)),
    (discretized_logistic, (0.4, 0.4, -INF), 0, (0, 0, 0)),
    (discretized_logistic, (0.4, 0.5, -INF), -INF, (INF, -INF, INF)),
    (discretized_logistic, (1, 3, -INF), 0, (0, 0, 0)),
    (discretized_logistic, (0, -3, -INF), 0, (0, 0, 0)),
    (discretized_logistic, (0.4, 0.5, INF), -INF, (0, 0, -1)),
    (discretized_logistic, (0, 0.5, INF), -math.log(2), (0, 0, 0)),
    (discretized_logistic, (1, 0.5, INF), -math.log(2), (0, 0, 0)),
    (discretized_logistic, (0.4, 0.5, 100), -math.log(4 * 255) - 100, (0, 0, -1)),  # a bin that is no float of scales
    (discretized_logistic, (0.4, NAN, 0), NAN, (NAN, NAN, NAN)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("call", "arguments", "value", "gradients"), LIMITS)
def test_limits(call, arguments, value, gradients, dtype):
    operands = [torch.tensor(float(a), dtype=dtype).requires_grad_() for a in arguments]
    if call is discretized_logistic and dtype == torch.bfloat16 and math.isfinite(value) and value < -100:
        return  # 0.4 in bfloat16 is another bin's
    result = call(*operands)
    torch.testing.assert_close(result.item(), float(value), rtol=1e-6, atol=1e-6, equal_nan=True)
    for found, wanted in zip(torch.autograd.grad(result, operands), gradients, strict=True):
        if wanted is not ANY:
            torch.testing.assert_close(found.item(), float(wanted), rtol=1e-2, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("bins", [2, 5, 256])
@pytest.mark.parametrize("log_scale", [-7.0, -2.0, 1.0, 5.0])
def test_the_masses_of_all_bins_sum_to_1(log_scale, bins):
    x = torch.arange(bins, dtype=torch.float64) / (bins - 1)
    for mean in (-0.3, 0.4, 0.999, 50.0):
        masses = discretized_logistic(x, torch.tensor(mean), torch.tensor(log_scale), bins=bins).exp()
        assert masses.sum().item() == pytest.approx(1, rel=1e-12)


def test_bytes_are_the_bins():
    x, mean, log_scale = torch.randint(0, 256, (4, 9), dtype=torch.uint8), torch.rand(4, 9), torch.randn(9) - 3
    x[0, 0], x[0, 1] = 0, 255
    found = fastvae.discretized_logistic_log_prob(x, mean, log_scale)
    torch.testing.assert_close(found, fastvae.discretized_logistic_log_prob(x / 255, mean, log_scale))
    few = fastvae.discretized_logistic_log_prob(x // 64, mean, log_scale, bins=4, x_scale=1 / 3)
    torch.testing.assert_close(few, fastvae.discretized_logistic_log_prob((x // 64) / 3, mean, log_scale, bins=4))


def test_it_is_what_pixelcnn_computes_in_its_units():
    """Salimans et al.'s lines, in float64 and where their fallback is not taken."""
    x = torch.randint(0, 256, (500,), dtype=torch.uint8).double() / 127.5 - 1
    x[:2] = torch.tensor([-1.0, 1.0])
    mean, log_scale = x + 0.1 * torch.randn(500, dtype=torch.float64), torch.randn(500, dtype=torch.float64) - 3
    inverse, centred = torch.exp(-log_scale), x - mean
    plus, minus = inverse * (centred + 1 / 255), inverse * (centred - 1 / 255)
    middle = torch.log(torch.sigmoid(plus) - torch.sigmoid(minus))
    wanted = torch.where(x < -0.999, torch.nn.functional.logsigmoid(plus), middle)
    wanted = torch.where(x > 0.999, torch.nn.functional.logsigmoid(-minus), wanted)
    found = discretized_logistic((x + 1) / 2, (mean + 1) / 2, log_scale - math.log(2))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)  # their difference cancels


def test_the_tails_are_no_density_nor_a_bound():
    """PixelCNN++'s fallback at its least scale, in its units, and torch's bounds on a continuous Bernoulli."""
    x, mean, log_scale = torch.tensor(200 / 255), torch.tensor(0.5), torch.tensor(-7.0) - math.log(2)
    middle, width = (x - mean) / log_scale.exp(), log_scale.neg().exp() / 255
    density = -middle + width.log()
    assert (discretized_logistic(x, mean, log_scale) - density).item() == pytest.approx(2.15, abs=0.01)
    one, logits = torch.ones(()), torch.tensor(17.0)
    bounded = ContinuousBernoulli(logits=logits).log_prob(one)
    assert (continuous_bernoulli(one, logits) - bounded).abs().item() == pytest.approx(0.06, abs=0.01)


def test_the_densities_are_those_of_torch():
    x, mean, scale, logits = torch.rand(50), torch.randn(50), torch.rand(50) + 0.1, 3 * torch.randn(50)
    torch.testing.assert_close(laplace(x, mean, scale), Laplace(mean, scale).log_prob(x))
    torch.testing.assert_close(laplace(x, mean, 0.5), Laplace(mean, 0.5).log_prob(x))
    logarithm = laplace(x, mean, scale.log(), scale_as="log_scale")
    torch.testing.assert_close(logarithm, Laplace(mean, scale).log_prob(x))
    wanted = ContinuousBernoulli(logits=logits.double()).log_prob(x.double())
    torch.testing.assert_close(continuous_bernoulli(x, logits).double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("logit", [-30.0, -0.01, 0.0, 17.0])
def test_a_continuous_bernoulli_integrates_to_1(logit):
    nodes, weights = (torch.tensor(part) for part in np.polynomial.legendre.leggauss(60))
    density = continuous_bernoulli((nodes + 1) / 2, torch.tensor(logit, dtype=torch.float64)).exp()
    assert ((density * weights).sum() / 2).item() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: fastvae.laplace_log_prob(x, x, x, scale_as="std"), ValueError, "scale_as must be one of 'scale'"),
        (
            lambda x: fastvae.discretized_logistic_log_prob(x, x, x, bins=1),
            ValueError,
            "bins must be at least 2, got 1",
        ),
        (lambda x: fastvae.discretized_logistic_log_prob(x, x, x, bins=2.5), TypeError, "bins must be an int"),
    ],
)
def test_what_is_no_keyword_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.rand(3, 4))


def test_a_shared_scale_gets_one_gradient():
    x, mean = torch.rand(6, 5), torch.rand(6, 5)
    for function, keywords in (
        (fastvae.laplace_log_prob, {"scale_as": "log_scale"}),
        (fastvae.discretized_logistic_log_prob, {}),
    ):
        shared = torch.tensor(-1.0, requires_grad=True)
        each = shared.detach().expand(6, 5).clone().requires_grad_()
        grads = [torch.autograd.grad(function(x, mean, s, **keywords).sum(), s)[0] for s in (shared, each)]
        torch.testing.assert_close(grads[0], grads[1].sum())
