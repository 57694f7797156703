"""p(x|z): log-likelihoods."""

from __future__ import annotations

import functools
import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fastvae

pytestmark = pytest.mark.usefixtures("backend")

SCALES = ("log_var", "log_std", "var", "std", "softplus")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
VALUE_DTYPES = (*DTYPES, torch.bool, torch.uint8)
EXCESS_BITS = 4


def values(*shape, dtype):
    if dtype == torch.uint8:
        return torch.randint(0, 256, shape, dtype=dtype)
    return torch.rand(shape) > 0.5 if dtype == torch.bool else torch.rand(shape).to(dtype)


def read(x):
    """x as the likelihoods read it, in float64."""
    return x.double() / 255 if x.dtype == torch.uint8 else x.double()


def bernoulli_reference(x, logits):
    """Elementwise, in float64."""
    x, logits = read(x), logits.double()
    return x * logits - torch.logaddexp(logits, torch.zeros((), dtype=torch.float64))


def gaussian_reference(x, mean, log_var):
    x, mean, log_var = read(x), mean.double(), log_var.double()
    return -((x - mean) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi)) / 2


# --- accuracy ---


def logits_of_all_sizes(generator, count):
    return oracles.signed(generator, oracles.log_uniform(generator, 1e-6, 1e3, count))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("targets", ["soft", "hard"])
def test_bernoulli_is_accurate(targets, dtype, backend):
    generator = np.random.default_rng(4)
    x = generator.uniform(0, 1, 400) if targets == "soft" else generator.integers(0, 2, 400).astype(float)
    points = (x, logits_of_all_sizes(generator, 400))
    call = functools.partial(fastvae.bernoulli_log_prob, event_ndim=0)
    for name, measured in oracles.measure(call, oracles.bernoulli_log_prob, points, dtype):
        oracles.record(f"bernoulli_log_prob {targets} {name}", dtype, backend, measured)
        assert measured.excess_bits.max() <= EXCESS_BITS, name
        if name == "value":
            # Both parts of the term have one sign: its scale is its value.
            assert measured.ulps.max() <= 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale_as", SCALES)
def test_gaussian_is_accurate(scale_as, dtype, backend):
    generator = np.random.default_rng(5)
    eps = 1e-4 if scale_as == "softplus" else 0.0
    log_var = oracles.log_vars(generator, 300)
    scale = oracles.scale_of(log_var, scale_as)
    mean = generator.standard_normal(300)
    x = mean + np.exp(log_var / 2) * oracles.signed(generator, oracles.log_uniform(generator, 1e-3, 1e3, 300))
    keywords = {"scale_as": scale_as, "scale_eps": eps}
    call = functools.partial(fastvae.gaussian_log_prob, event_ndim=0, **keywords)
    formula = functools.partial(oracles.gaussian_log_prob, **keywords)
    for name, measured in oracles.measure(call, formula, (x, mean, scale), dtype):
        oracles.record(f"gaussian_log_prob {scale_as} {name}", dtype, backend, measured)
        assert measured.excess_bits.max() <= EXCESS_BITS, name


@pytest.mark.parametrize("normalized", [True, False])
def test_gaussian_is_within_four_ulps_of_its_terms(normalized):
    generator = np.random.default_rng(6)
    log_var = torch.tensor(oracles.log_vars(generator, 2000), dtype=torch.float32)
    mean = torch.randn(2000)
    x = mean + (log_var / 2).exp() * torch.randn(2000) * 30
    actual = fastvae.gaussian_log_prob(x, mean, log_var, event_ndim=0, normalized=normalized)
    # In float64 neither part of the sum is cancelled by more than a factor of 1e3 of the terms' scale.
    square = (x.double() - mean.double()) ** 2 / log_var.double().exp() / 2
    constant = math.log(2 * math.pi) / 2 if normalized else 0.0
    truth = -(square + log_var.double() / 2 + constant)
    scale = square + log_var.double().abs() / 2 + constant
    assert ((actual.double() - truth).abs() <= 4 * 2**-23 * scale).all()


def test_bernoulli_speaks_for_the_model_not_for_a_clamp(backend):
    logits = torch.tensor([17.0, 30.0, 88.0, 100.0, 1e4, 1e38], requires_grad=True)
    wrong = fastvae.bernoulli_log_prob(torch.zeros(6), logits, event_ndim=0)
    torch.testing.assert_close(wrong, -logits, rtol=1e-6, atol=0)
    right = fastvae.bernoulli_log_prob(torch.ones(6), logits, event_ndim=0)
    wanted = torch.tensor([-math.log1p(math.exp(-v)) for v in logits.tolist()])
    # Close to the normal range's end a GPU's kernels give 0: 2^-125.
    torch.testing.assert_close(right, wanted, rtol=1e-6, atol=2.4e-38 if backend == "triton" else 1e-45)
    (grad,) = torch.autograd.grad(wrong.sum(), logits)
    torch.testing.assert_close(grad, torch.full((6,), -1.0), rtol=1e-7, atol=0)
    mirrored = fastvae.bernoulli_log_prob(torch.ones(6), -logits, event_ndim=0)
    assert torch.equal(mirrored, wrong)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_read_in_float32(dtype):
    logits = torch.linspace(-40, 40, 81).to(dtype)
    for x in (torch.zeros(81), torch.ones(81)):
        log_prob = fastvae.bernoulli_log_prob(x, logits, event_ndim=0)
        assert oracles.errors(log_prob, oracles.bernoulli_log_prob, (x, logits)).ulps.max() <= 4


@pytest.mark.interpreted(where=lambda count: count < 10_000)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [4096, 196608])
def test_sums_keep_six_digits(count, dtype):
    x, logits = values(2, count, dtype=torch.uint8), torch.randn(2, count).to(dtype)
    mean, log_var = torch.rand(2, count).to(dtype), (torch.randn(2, count) - 3).to(dtype)
    for actual, wanted in (
        (fastvae.bernoulli_log_prob(x, logits), bernoulli_reference(x, logits)),
        (fastvae.gaussian_log_prob(x, mean, log_var), gaussian_reference(x, mean, log_var)),
    ):
        assert actual.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        for row, terms in zip(actual.tolist(), wanted, strict=True):
            # A Gaussian's terms have both signs: relative to the sum of their magnitudes.
            assert abs(row - math.fsum(terms.tolist())) <= 1e-6 * math.fsum(terms.abs().tolist())


# --- what x may be ---


@pytest.mark.parametrize("parameter_dtype", DTYPES)
@pytest.mark.parametrize("x_dtype", VALUE_DTYPES)
def test_every_mix_of_dtypes(x_dtype, parameter_dtype):
    x = values(9, 13, dtype=x_dtype)
    logits, log_var = (torch.randn(9, 13).to(parameter_dtype).requires_grad_() for _ in range(2))
    arithmetic = torch.float64 if torch.float64 in (x_dtype, parameter_dtype) else torch.float32
    wide = [t.detach().to(arithmetic).requires_grad_() for t in (logits, log_var)]
    weights = torch.randn(9, dtype=arithmetic)
    x_wide = x.to(arithmetic)
    x_scale = 1 / 255 if x_dtype == torch.uint8 else 1.0
    for call in (
        lambda x, a, b, **k: fastvae.bernoulli_log_prob(x, a, **k),
        fastvae.gaussian_log_prob,
    ):
        value, same = call(x, logits, log_var), call(x_wide, *wide, x_scale=x_scale)
        assert value.dtype == arithmetic
        assert torch.equal(value, same)
        grads = torch.autograd.grad((value * weights).sum(), (logits, log_var), allow_unused=True)
        expected = torch.autograd.grad((same * weights).sum(), wide, allow_unused=True)
        for grad, wanted in zip(grads, expected, strict=True):
            # The wide gradient, rounded once.
            assert grad is wanted is None or torch.equal(grad, wanted.to(parameter_dtype))
    torch.testing.assert_close(
        fastvae.bernoulli_log_prob(x, logits).double(), bernoulli_reference(x, logits).sum(1), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        fastvae.gaussian_log_prob(x, logits, log_var).double(),
        gaussian_reference(x, logits, log_var).sum(1),
        rtol=1e-5,
        atol=1e-5,
    )


def test_a_gaussian_mixes_three_dtypes():
    x, mean, log_var = values(9, 13, dtype=torch.uint8), torch.randn(9, 13).bfloat16(), torch.randn(13)
    mean.requires_grad_()
    log_var.requires_grad_()
    value = fastvae.gaussian_log_prob(x, mean, log_var)
    torch.testing.assert_close(value.double(), gaussian_reference(x, mean, log_var).sum(1), rtol=1e-5, atol=1e-5)
    value.sum().backward()
    assert (mean.grad.dtype, log_var.grad.dtype) == (torch.bfloat16, torch.float32)


def test_x_scale_multiplies_x():
    x, logits = torch.randint(0, 17, (5, 6), dtype=torch.uint8), torch.randn(5, 6)
    scaled = fastvae.bernoulli_log_prob(x, logits, x_scale=1 / 16)
    torch.testing.assert_close(scaled, fastvae.bernoulli_log_prob(x.float() / 16, logits))
    x = torch.rand(5, 6, requires_grad=True)
    twice = torch.autograd.grad(fastvae.gaussian_log_prob(x, logits, 0.5, x_scale=2.0).sum(), x)[0]
    torch.testing.assert_close(twice, -2 * (2 * x - logits) / math.exp(0.5))


def test_x_gets_a_gradient():
    x, logits, log_var = (torch.randn(5, 6, dtype=torch.float64).requires_grad_() for _ in range(3))
    (grad,) = torch.autograd.grad(fastvae.bernoulli_log_prob(x, logits).sum(), x)
    torch.testing.assert_close(grad, logits)
    (grad,) = torch.autograd.grad(fastvae.gaussian_log_prob(x, logits, log_var).sum(), x)
    torch.testing.assert_close(grad, -(x - logits) / log_var.exp())


# --- what log_var may be ---


@pytest.mark.parametrize("shape", [(6, 3, 4, 4), (3, 1, 1), (1, 3, 1, 1), (4,), (6, 1, 1, 1), (), (1,), (1, 1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_var_of_any_shape_gets_a_reduced_gradient(shape, dtype):
    x, mean = torch.randn(6, 3, 4, 4).to(dtype), torch.randn(6, 3, 4, 4).to(dtype).requires_grad_()
    log_var = torch.randn(shape).to(dtype).requires_grad_()
    wanted = gaussian_reference(x, mean, log_var).sum((1, 2, 3))
    value = fastvae.gaussian_log_prob(x, mean, log_var)
    torch.testing.assert_close(value.double(), wanted, rtol=1e-5, atol=1e-4)
    weights = torch.randn(6)
    grads = torch.autograd.grad((value * weights).sum(), (mean, log_var))
    for grad, expected in zip(grads, torch.autograd.grad((wanted * weights).sum(), (mean, log_var)), strict=True):
        torch.testing.assert_close(grad, expected.to(dtype), rtol=2e-5, atol=1e-4)


def test_a_learned_shared_scale_sums_in_float32():
    # 0.01 added 786432 times: half precision would stall.
    mean = torch.zeros(4, 196608, dtype=torch.bfloat16)
    log_var = torch.zeros((), requires_grad=True)
    x = torch.full((4, 196608), 1.01).sqrt()
    (grad,) = torch.autograd.grad(fastvae.gaussian_log_prob(x, mean, log_var).sum(), log_var)
    terms = (x.double() ** 2 - 1) / 2
    assert grad.dtype == torch.float32
    assert grad.item() == pytest.approx(math.fsum(terms.flatten().tolist()), rel=1e-5)


@pytest.mark.parametrize("scale_as", SCALES)
@pytest.mark.parametrize("value", [0.7, 2])
def test_log_var_may_be_a_number(value, scale_as):
    x, mean = torch.randn(5, 6), torch.randn(5, 6)
    number = fastvae.gaussian_log_prob(x, mean, value, scale_as=scale_as)
    assert torch.equal(number, fastvae.gaussian_log_prob(x, mean, torch.tensor(float(value)), scale_as=scale_as))


def test_normalized_false_leaves_the_constant_out():
    x, mean, log_var = torch.randn(5, 6), torch.randn(5, 6), torch.randn(5, 6)
    whole, bare = (fastvae.gaussian_log_prob(x, mean, log_var, normalized=n) for n in (True, False))
    torch.testing.assert_close(whole, bare - 3 * math.log(2 * math.pi))
    squares = fastvae.gaussian_log_prob(x, mean, 0.0, normalized=False)
    torch.testing.assert_close(squares, -((x - mean) ** 2).sum(1) / 2)


# --- the optimal variance (Rybkin et al. 2021) ---


def test_the_optimal_variance_gives_the_known_likelihood():
    x, mean = torch.randn(50, 7, dtype=torch.float64), torch.randn(50, 7, dtype=torch.float64)
    value = fastvae.gaussian_log_prob(x, mean, "optimal")
    mse = ((x - mean) ** 2).mean()
    assert -value.mean().item() / 7 == pytest.approx((math.log(2 * math.pi * mse) + 1) / 2, rel=1e-13)
    torch.testing.assert_close(value, fastvae.gaussian_log_prob(x, mean, mse, scale_as="var"))
    around = [fastvae.gaussian_log_prob(x, mean, mse * f, scale_as="var").sum() for f in (0.99, 1.01)]
    assert all(value.sum() > other for other in around)


def test_the_optimal_variance_passes_its_gradient():
    x, mean = (torch.randn(8, 5, dtype=torch.float64).requires_grad_() for _ in range(2))
    weights = torch.randn(8, dtype=torch.float64)
    wanted = gaussian_reference(x, mean, ((x - mean) ** 2).mean().log()).sum(1)
    value = fastvae.gaussian_log_prob(x, mean, "optimal")
    grads = torch.autograd.grad((value * weights).sum(), (x, mean))
    for grad, expected in zip(grads, torch.autograd.grad((wanted * weights).sum(), (x, mean)), strict=True):
        torch.testing.assert_close(grad, expected)


def test_the_optimal_variance_counts_what_a_mask_leaves_in():
    x, mean = torch.randn(8, 5), torch.randn(8, 5)
    mask = torch.ones(8, 1, dtype=torch.bool)
    mask[5:] = False
    x[5:] = math.nan
    value = fastvae.gaussian_log_prob(x, mean, "optimal", mask=mask)
    torch.testing.assert_close(value[:5], fastvae.gaussian_log_prob(x[:5], mean[:5], "optimal"))
    assert torch.equal(value[5:], torch.zeros(3))
    weight = torch.rand(8, 5)
    var = (weight[:5] * (x - mean)[:5] ** 2).sum() / weight[:5].sum()
    weighted = fastvae.gaussian_log_prob(x[:5], mean[:5], "optimal", weight=weight[:5])
    torch.testing.assert_close(
        weighted, fastvae.gaussian_log_prob(x[:5], mean[:5], var, scale_as="var", weight=weight[:5])
    )


def test_the_optimal_variance_obeys_the_clamp():
    mean = torch.randn(8, 5, requires_grad=True)
    x = mean.detach() + 1e-4 * torch.randn(8, 5)
    value = fastvae.gaussian_log_prob(x, mean, "optimal", clamp=(-6, 6))
    torch.testing.assert_close(value, fastvae.gaussian_log_prob(x, mean, -6.0))
    exact = fastvae.gaussian_log_prob(x, mean, "optimal", event_ndim=0, normalized=False, clamp=(-6, 6))
    torch.testing.assert_close(exact, fastvae.gaussian_log_prob(x, mean, -6.0, event_ndim=0, normalized=False))


def test_the_optimal_variance_of_what_is_all_masked_is_nothing():
    x, mean = torch.randn(8, 5), torch.full((8, 5), math.nan, requires_grad=True)
    value = fastvae.gaussian_log_prob(x, mean, "optimal", mask=torch.zeros(8, 5, dtype=torch.bool))
    assert torch.equal(value, torch.zeros(8))
    assert torch.equal(torch.autograd.grad(value.sum(), mean)[0], torch.zeros(8, 5))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_the_optimal_variance_of_nothing_is_nothing(shape):
    value = fastvae.gaussian_log_prob(torch.zeros(shape), torch.zeros(shape), "optimal")
    assert torch.equal(value, torch.zeros(shape[0]))


# --- mask and weight ---


def test_masked_elements_keep_a_shared_scale_clean():
    x, mean = torch.randn(11, 7), torch.randn(11, 7)
    x[3] = math.nan
    log_var = torch.zeros((), requires_grad=True)
    mask = torch.ones(11, 1, dtype=torch.bool)
    mask[3] = False
    (grad,) = torch.autograd.grad(fastvae.gaussian_log_prob(x, mean, log_var, mask=mask).sum(), log_var)
    kept = [i for i in range(11) if i != 3]
    (wanted,) = torch.autograd.grad(fastvae.gaussian_log_prob(x[kept], mean[kept], log_var).sum(), log_var)
    torch.testing.assert_close(grad, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(11, 7), (7,), (11, 1), ()])
def test_weights_multiply_the_terms(shape, dtype):
    x, logits = torch.rand(11, 7), torch.randn(11, 7).requires_grad_()
    weight = torch.rand(shape).to(dtype)
    for call, reference in (
        (fastvae.bernoulli_log_prob, bernoulli_reference),
        (functools.partial(fastvae.gaussian_log_prob, log_var=0.3), None),
    ):
        terms = gaussian_reference(x, logits, torch.tensor(0.3)) if reference is None else reference(x, logits)
        value = call(x, logits, weight=weight)
        torch.testing.assert_close(value.double(), (terms * weight).sum(1), rtol=1e-5, atol=1e-5)
        (grad,) = torch.autograd.grad(value.sum(), logits)
        (wanted,) = torch.autograd.grad((terms * weight).sum(), logits)
        torch.testing.assert_close(grad, wanted.float(), rtol=1e-5, atol=1e-5)


def test_a_learned_weight_gets_its_gradient():
    x, logits = torch.rand(11, 7), torch.randn(11, 7)
    weight = torch.rand(11, 7, requires_grad=True)
    (grad,) = torch.autograd.grad(fastvae.bernoulli_log_prob(x, logits, weight=weight).sum(), weight)
    torch.testing.assert_close(grad.double(), bernoulli_reference(x, logits), rtol=1e-5, atol=1e-6)


# --- shapes ---


@given(st.lists(st.integers(0, 5), min_size=0, max_size=4), st.data())
def test_any_shape_and_event(shape, data):
    event_ndim = data.draw(st.none() | st.integers(0, len(shape)))
    shapes = [[1 if data.draw(st.booleans()) else n for n in shape] for _ in range(2)]
    x = torch.rand(shape)
    mean, log_var = (torch.randn(s, dtype=torch.float64).requires_grad_() for s in shapes)
    summed = max(len(shape) - 1, 0) if event_ndim is None else event_ndim
    dims = tuple(range(len(shape) - summed, len(shape)))
    for call, reference, operands in (
        (fastvae.bernoulli_log_prob, bernoulli_reference, (mean,)),
        (fastvae.gaussian_log_prob, gaussian_reference, (mean, log_var)),
    ):
        wanted = reference(x, *operands)
        wanted = wanted.sum(dims) if dims else wanted
        value = call(x, *operands, event_ndim=event_ndim)
        torch.testing.assert_close(value, wanted)
        weights = torch.randn_like(wanted)
        grads = torch.autograd.grad((value * weights).sum(), operands)
        for grad, expected in zip(grads, torch.autograd.grad((wanted * weights).sum(), operands), strict=True):
            torch.testing.assert_close(grad, expected)


def test_samples_broadcast_against_one_x():
    x, logits = torch.rand(6, 5), torch.randn(3, 6, 5, requires_grad=True)
    value = fastvae.bernoulli_log_prob(x, logits, event_ndim=1)
    assert value.shape == (3, 6)
    torch.testing.assert_close(value.double(), bernoulli_reference(x, logits).sum(-1), rtol=1e-5, atol=1e-5)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(fastvae.bernoulli_log_prob(x, logits, event_ndim=1).sum(), x)
    torch.testing.assert_close(grad, logits.sum(0))


def test_nan_comes_through():
    x, logits = torch.tensor([math.nan, 0.5, 0.5]), torch.tensor([0.0, math.nan, 1.0])
    assert fastvae.bernoulli_log_prob(x, logits, event_ndim=0).isnan().tolist() == [True, True, False]
    for operands in ((x, logits, torch.zeros(3)), (torch.zeros(3), x, logits)):
        assert fastvae.gaussian_log_prob(*operands, event_ndim=0).isnan().tolist() == [True, True, False]


def test_infinity_comes_through():
    infinite = torch.tensor([math.inf, -math.inf])
    assert fastvae.gaussian_log_prob(infinite, torch.zeros(2), 0.0, event_ndim=0).isneginf().all()
    wrong = fastvae.bernoulli_log_prob(torch.tensor([0.0, 1.0]), infinite, event_ndim=0)
    assert wrong.isneginf().all()
