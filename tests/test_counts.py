"""p(x|z) of counts."""

from __future__ import annotations

import functools
import math

import numpy as np
import oracles
import pytest
import torch

import fastvae

pytestmark = pytest.mark.usefixtures("backend")

EXCESS_BITS = 4
INF, NAN = math.inf, math.nan
COUNT_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool, torch.bfloat16)

MEAN_AS = {
    "mean": lambda mean, dispersion: mean,
    "log_mean": lambda mean, dispersion: np.log(mean),
    "logits": lambda mean, dispersion: np.log(mean) - np.log(dispersion),
}
USUAL = ("mean", "inverse_dispersion")
DISPERSION_AS = {"inverse_dispersion": lambda dispersion: dispersion, "log_inverse_dispersion": np.log}


def counts(generator, mean):
    """Zeros, small ones, those that the mean would give, and any up to a million."""
    kinds = np.stack(
        [
            np.zeros(mean.size),
            generator.integers(1, 20, mean.size),
            generator.poisson(mean),
            np.floor(oracles.log_uniform(generator, 1, 1e6, mean.size)),
        ]
    )
    return kinds[generator.integers(0, 4, mean.size), np.arange(mean.size)]


def read_as(mean_as, dispersion_as):
    return {
        "log_mean": mean_as != "mean",
        "odds": mean_as == "logits",
        "log_dispersion": dispersion_as != "inverse_dispersion",
    }


# --- accuracy ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rate_as", ["log_rate", "rate"])
def test_poisson_is_accurate(rate_as, dtype, backend):
    generator = np.random.default_rng(7)
    rate = oracles.log_uniform(generator, 1e-8, 1e6, 60)
    points = (counts(generator, rate), np.log(rate) if rate_as == "log_rate" else rate)
    call = functools.partial(fastvae.poisson_log_prob, event_ndim=0, rate_as=rate_as)
    formula = functools.partial(oracles.poisson_log_prob, log_rate=rate_as == "log_rate")
    for name, measured in oracles.measure(call, formula, points, dtype):
        oracles.record(f"poisson_log_prob {rate_as} {name}", dtype, backend, measured)
        assert measured.excess_bits.max() <= EXCESS_BITS, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dispersion_as", DISPERSION_AS)
@pytest.mark.parametrize("mean_as", MEAN_AS)
def test_negative_binomial_is_accurate(mean_as, dispersion_as, dtype, backend):
    generator, count = np.random.default_rng(8), 48 if (mean_as, dispersion_as) == USUAL else 12
    mean, dispersion = (
        oracles.log_uniform(generator, 1e-8, 1e6, count),
        oracles.log_uniform(generator, 1e-4, 1e8, count),
    )
    points = (counts(generator, mean), MEAN_AS[mean_as](mean, dispersion), DISPERSION_AS[dispersion_as](dispersion))
    call = functools.partial(
        fastvae.negative_binomial_log_prob, event_ndim=0, mean_as=mean_as, dispersion_as=dispersion_as
    )
    formula = functools.partial(oracles.negative_binomial_log_prob, **read_as(mean_as, dispersion_as))
    for name, measured in oracles.measure(call, formula, points, dtype):
        oracles.record(f"negative_binomial_log_prob {mean_as} {dispersion_as} {name}", dtype, backend, measured)
        assert measured.excess_bits.max() <= EXCESS_BITS, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_inflated_negative_binomial_is_accurate(dtype, backend):
    generator = np.random.default_rng(9)
    mean, dispersion = oracles.log_uniform(generator, 1e-8, 1e6, 48), oracles.log_uniform(generator, 1e-4, 1e8, 48)
    x = counts(generator, mean)
    logits = generator.uniform(-80, 80, 48) * generator.choice((1, 0.02), 48)
    # Where the counts' zero is below the least float there is nothing left to differentiate.
    mean = np.where(x == 0, np.minimum(mean, 60), mean)
    call = functools.partial(_turned, event_ndim=0)
    for name, measured in oracles.measure(call, _turned_truth, (mean, dispersion, logits, x), dtype, constants=1):
        oracles.record(f"zero_inflated_negative_binomial_log_prob {name}", dtype, backend, measured)
        assert measured.excess_bits.max() <= EXCESS_BITS, name


def _turned(mean, dispersion, logits, x, **keywords):
    """What gets no gradient is the last."""
    return fastvae.negative_binomial_log_prob(x, mean, dispersion, logits, **keywords)


def _turned_truth(mean, dispersion, logits, x):
    return oracles.zero_inflated_negative_binomial_log_prob(x, mean, dispersion, logits)


@pytest.mark.not_interpreted
@pytest.mark.parametrize("dispersion", [1e30, INF])
def test_a_large_dispersion_is_poisson_to_the_last_bits(dispersion):
    generator = np.random.default_rng(10)
    rate = oracles.log_uniform(generator, 1e-8, 1e6, 100)
    x, rate = (torch.tensor(v, dtype=torch.float32) for v in (counts(generator, rate), rate))
    value = fastvae.negative_binomial_log_prob(x, rate, dispersion, event_ndim=0)
    truth = functools.partial(oracles.poisson_log_prob, log_rate=False)
    assert oracles.errors(value, truth, (x, rate)).excess_bits.max() <= EXCESS_BITS


@pytest.mark.not_interpreted
@pytest.mark.parametrize("dispersion", [1e-2, 0.7, 30.0])
@pytest.mark.parametrize("zero_logits", [None, -1.0, 3.0])
def test_masses_sum_to_one(dispersion, zero_logits):
    x, mean = torch.arange(0, 40000, dtype=torch.float64), torch.tensor(5.0, dtype=torch.float64)
    logits = None if zero_logits is None else torch.tensor(zero_logits, dtype=torch.float64)
    mass = fastvae.negative_binomial_log_prob(x, mean, dispersion, logits, event_ndim=0).exp()
    assert mass[-1] < 1e-12
    tail = mass[-1] * mean / dispersion * 2  # of a geometric series with this ratio, generously
    assert abs(math.fsum(mass.tolist()) - 1) < 1e-12 + float(tail)


@pytest.mark.not_interpreted
@pytest.mark.parametrize("rate", [1e-3, 2.0, 300.0])
def test_poissons_masses_sum_to_one(rate):
    x = torch.arange(0, 1500, dtype=torch.float64)
    mass = fastvae.poisson_log_prob(x, torch.tensor(rate, dtype=torch.float64), rate_as="rate", event_ndim=0).exp()
    assert mass[-1] < 1e-12
    assert abs(math.fsum(mass.tolist()) - 1) < 1e-12


def test_the_usual_expression_is_wrong_where_this_is_right():
    """Three lgammas of a dispersion of 1e6, in float32."""
    x, mean, dispersion = torch.tensor([3.0]), torch.tensor([2.0]), torch.tensor([1e6])
    usual = torch.lgamma(x + dispersion) - torch.lgamma(dispersion) - torch.lgamma(x + 1)
    usual += dispersion * (dispersion / (dispersion + mean)).log() + x * (mean / (dispersion + mean)).log()
    truth = torch.distributions.Poisson(mean.double()).log_prob(x.double())
    assert (usual.double() - truth).abs() > 0.01
    assert (fastvae.negative_binomial_log_prob(x, mean, dispersion, event_ndim=0) - truth).abs() < 1e-5


# --- zeros ---


def among(x, mean, dispersion, zero_logits, weight, **keywords):
    """Value and gradients, element by element."""
    leaves = [t.clone().requires_grad_() for t in (mean, dispersion, *zero_logits)]
    leaves += [] if zero_logits else [x.clone().requires_grad_()]
    given = (x, *leaves) if zero_logits else (leaves[-1], *leaves[:-1])
    log_prob = fastvae.negative_binomial_log_prob(*given, event_ndim=0, **keywords)
    return [log_prob, *torch.autograd.grad(log_prob, leaves, weight)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("mean_as", "dispersion_as"), [USUAL, ("log_mean", "log_inverse_dispersion"), ("logits", "inverse_dispersion")]
)
@pytest.mark.parametrize("inflated", [False, True])
def test_an_element_is_the_same_among_zeros_as_among_others(inflated, mean_as, dispersion_as, dtype):
    torch.manual_seed(0)
    log_mean, log_dispersion, logits, weight = 4 * torch.randn(4, 1300, dtype=torch.float64)
    mean = log_mean.exp() if mean_as == "mean" else log_mean
    dispersion = log_dispersion.exp() if dispersion_as == "inverse_dispersion" else log_dispersion
    *operands, logits, weight = (t.to(dtype) for t in (mean, dispersion, logits, weight))
    few = torch.where(torch.rand(1300) < 0.1, torch.arange(1300) % 9, 0).to(dtype)
    many = torch.where(few == 0, torch.arange(1300) % 4, few).to(dtype)
    keywords = {"mean_as": mean_as, "dispersion_as": dispersion_as}
    zero_logits = (logits,) if inflated else ()
    same = few == many
    for ours, others in zip(*(among(x, *operands, zero_logits, weight, **keywords) for x in (few, many)), strict=True):
        assert torch.equal(ours[same], others[same])


# --- limits ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("x", "mean", "dispersion", "value", "d_mean"),
    [
        (0, 0, 2, 0, -1),
        (3, 0, 2, -INF, INF),
        (0, 3, 0, 0, 0),
        (2, 3, 0, -INF, 0),
        (0, INF, 2, -INF, 0),
        (4, INF, 2, -INF, 0),
        (0, 2, INF, -2, -1),
        (2, 2, INF, math.log(2) - 2, 0),
        (2, NAN, 1, NAN, NAN),
        (2, 1, NAN, NAN, NAN),
        (NAN, 1, 1, NAN, NAN),
        (2, -1, 0.5, NAN, NAN),
    ],
)
def test_limits_of_a_negative_binomial(x, mean, dispersion, value, d_mean, dtype):
    x, dispersion = (torch.full((5,), v, dtype=dtype) for v in (x, dispersion))
    mean = torch.full((5,), mean, dtype=dtype, requires_grad=True)
    actual = fastvae.negative_binomial_log_prob(x, mean, dispersion, event_ndim=0)
    torch.testing.assert_close(actual, torch.full_like(actual, value), equal_nan=True, rtol=1e-6, atol=1e-12)
    (grad,) = torch.autograd.grad(actual.sum(), mean)
    # An infinite mean is as good as 1e15.
    torch.testing.assert_close(grad, torch.full_like(grad, d_mean), equal_nan=True, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("zero_logits", [-INF, INF])
@pytest.mark.parametrize("x", [0, 3])
def test_all_or_no_excess_of_zeros(x, zero_logits):
    x, mean, dispersion = (torch.full((5,), float(v)) for v in (x, 2, 1.5))
    value = fastvae.negative_binomial_log_prob(x, mean, dispersion, torch.full((5,), zero_logits), event_ndim=0)
    counts_alone = fastvae.negative_binomial_log_prob(x, mean, dispersion, event_ndim=0)
    sure = torch.where(x == 0, 0.0, -INF)
    torch.testing.assert_close(value, counts_alone if zero_logits < 0 else sure)


@pytest.mark.parametrize("log_rate", [-200.0, -1000.0, 200.0])
def test_a_rate_that_no_float_holds(log_rate):
    value = fastvae.poisson_log_prob(torch.tensor([0.0, 2.0]), torch.tensor(log_rate), event_ndim=0)
    wanted = [0.0, 2 * log_rate - math.log(2)] if log_rate < 0 else [-INF, -INF]
    torch.testing.assert_close(value, torch.tensor(wanted))


# --- what x may be ---


@pytest.mark.parametrize("dtype", COUNT_DTYPES)
@pytest.mark.parametrize("arithmetic", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(4, 32), (3, 7)])
def test_counts_of_any_type_are_read_in_place(dtype, arithmetic, shape):
    x = torch.randint(0, 2 if dtype == torch.bool else 100, shape).to(dtype)
    mean, dispersion = torch.rand(shape).to(arithmetic) * 9, torch.rand(shape[1:]).to(arithmetic) + 0.1
    mean.requires_grad_()
    exact = torch.float64 if arithmetic == torch.float64 else torch.float32
    for given in (x, x.t().contiguous().t()):
        value = fastvae.negative_binomial_log_prob(given, mean, dispersion)
        wanted = fastvae.negative_binomial_log_prob(given.to(exact), mean, dispersion)
        # A row's sum may be ordered otherwise.
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=0)
        assert torch.equal(*(torch.autograd.grad(v.sum(), mean)[0] for v in (value, wanted)))
        poisson = fastvae.poisson_log_prob(given, mean.detach(), event_ndim=0)
        assert torch.equal(poisson, fastvae.poisson_log_prob(given.to(exact), mean.detach(), event_ndim=0))


def test_large_integers_keep_their_digits_in_float64():
    x, rate = torch.tensor([2**24 + 1, 2**40 + 1]), torch.tensor([2.0**24, 2.0**40], dtype=torch.float64)
    value = fastvae.poisson_log_prob(x, rate, rate_as="rate", event_ndim=0)
    assert torch.equal(value, fastvae.poisson_log_prob(x.double(), rate, rate_as="rate", event_ndim=0))


# --- parameters ---


@pytest.mark.parametrize("inflated", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("shape", [(12,), (9, 1), (1, 12), ()])
def test_a_shared_dispersion_gets_its_gradient_summed(shape, reduction, inflated):
    x, mean = torch.randint(0, 5, (9, 12)), torch.rand(9, 12, dtype=torch.float64) + 0.1
    dispersion = (torch.rand(shape, dtype=torch.float64) + 0.5).requires_grad_()
    logits = torch.randn(9, 12, dtype=torch.float64) if inflated else None
    whole = dispersion.detach().expand(9, 12).clone().requires_grad_()
    shared, each = (
        torch.autograd.grad(fastvae.negative_binomial_log_prob(x, mean, d, logits, reduction=reduction).sum(), d)[0]
        for d in (dispersion, whole)
    )
    torch.testing.assert_close(shared, each.sum_to_size(shape))


def test_a_number_is_a_dispersion():
    x, mean = torch.randint(0, 5, (3, 4)), torch.rand(3, 4)
    value = fastvae.negative_binomial_log_prob(x, mean, 2.5)
    assert torch.equal(value, fastvae.negative_binomial_log_prob(x, mean, torch.tensor(2.5)))


@pytest.mark.parametrize(
    ("keyword", "call"),
    [
        ("rate_as", fastvae.poisson_log_prob),
        ("mean_as", functools.partial(fastvae.negative_binomial_log_prob, inverse_dispersion=1.0)),
        ("dispersion_as", functools.partial(fastvae.negative_binomial_log_prob, inverse_dispersion=1.0)),
    ],
)
def test_an_unknown_reading_is_named(keyword, call):
    with pytest.raises(ValueError, match=f"{keyword} must be one of .*, got 'sigmoid'"):
        call(torch.zeros(2, 3), torch.ones(2, 3), **{keyword: "sigmoid"})


def test_agrees_with_torch_distributions():
    x = torch.randint(0, 9, (7, 11)).double()
    logits, dispersion = torch.randn(7, 11, dtype=torch.float64), torch.rand(11, dtype=torch.float64) + 0.3
    theirs = torch.distributions.NegativeBinomial(dispersion, logits=logits).log_prob(x)
    ours = fastvae.negative_binomial_log_prob(x, logits, dispersion, mean_as="logits", event_ndim=0)
    torch.testing.assert_close(ours, theirs)
    theirs = torch.distributions.Poisson(logits.exp()).log_prob(x)
    torch.testing.assert_close(fastvae.poisson_log_prob(x, logits, event_ndim=0), theirs)
