"""q(z|x): samples and KL divergences."""

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
PARAMETER_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Bits lost beyond what rounding the inputs and the result explains: NUMERICS' bar for every operator.
EXCESS_BITS = 4


def parameters(*shape, dtype=torch.float32, count=2):
    return [torch.randn(shape).to(dtype).requires_grad_() for _ in range(count)]


def kl_reference(mean, log_var):
    """Elementwise, in float64; the textbook form holds there for parameters of order 1."""
    mean, log_var = mean.double(), log_var.double()
    return (mean**2 + log_var.exp() - 1 - log_var) / 2


# --- accuracy ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale_as", SCALES)
def test_kl_standard_normal_is_accurate(scale_as, dtype, backend):
    generator = np.random.default_rng(1)
    eps = 1e-4 if scale_as == "softplus" else 0.0
    means = oracles.signed(generator, oracles.log_uniform(generator, 1e-6, 1e3, 300))
    points = (means, oracles.scale_of(oracles.log_vars(generator, 300), scale_as))
    keywords = {"scale_as": scale_as, "scale_eps": eps}
    call = functools.partial(fastvae.kl_standard_normal, event_ndim=0, **keywords)
    formula = functools.partial(oracles.kl_standard_normal, **keywords)
    for name, measured in oracles.measure(call, formula, points, dtype):
        oracles.record(f"kl_standard_normal {scale_as} {name}", dtype, backend, measured)
        assert measured.excess_bits.max() <= EXCESS_BITS, name
        if scale_as == "log_var":
            # Columns "wanted in fp32" of NUMERICS; held in float64 too.
            assert measured.ulps.max() <= {"value": 8, "d/d argument 0": 1, "d/d argument 1": 4}[name], name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale_as", SCALES)
def test_kl_normal_is_accurate(scale_as, dtype, backend):
    generator = np.random.default_rng(2)
    # Half of the pairs are nearly equal: there the difference of the logarithms cancels.
    log_var_p, apart = oracles.log_vars(generator, 200), oracles.log_vars(generator, 200)
    scale_p = oracles.scale_of(log_var_p, scale_as)
    scale_q = oracles.scale_of(np.clip(log_var_p + generator.permutation(apart), -80, 80), scale_as)
    std_p = np.array([float(oracles.std(s, scale_as)) for s in scale_p])
    mean_p = oracles.signed(generator, oracles.log_uniform(generator, 1e-3, 1e3, 200)) * np.minimum(std_p, 1e12)
    mean_q = mean_p + std_p * oracles.signed(generator, oracles.log_uniform(generator, 1e-3, 1e3, 200))
    call = functools.partial(fastvae.kl_normal, event_ndim=0, scale_as=scale_as)
    formula = functools.partial(oracles.kl_normal, scale_as=scale_as)
    for name, measured in oracles.measure(call, formula, (mean_q, scale_q, mean_p, scale_p), dtype):
        oracles.record(f"kl_normal {scale_as} {name}", dtype, backend, measured)
        assert measured.excess_bits.max() <= EXCESS_BITS, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale_as", SCALES)
def test_rsample_is_accurate(scale_as, dtype, backend):
    generator = np.random.default_rng(3)
    scale = oracles.scale_of(oracles.log_vars(generator, 300), scale_as)
    std = np.array([float(oracles.std(s, scale_as)) for s in scale])
    points = (std * generator.standard_normal(300), scale, generator.standard_normal(300))

    def call(mean, scale, eps):
        return fastvae.rsample(mean, scale, eps=eps, scale_as=scale_as)

    def formula(mean, scale, eps):
        return mean + oracles.std(scale, scale_as) * eps

    for name, measured in oracles.measure(call, formula, points, dtype, constants=1):
        oracles.record(f"rsample {scale_as} {name}", dtype, backend, measured)
        assert measured.excess_bits.max() <= EXCESS_BITS, name


def test_kl_is_never_negative_and_zero_only_at_the_prior():
    log_var = torch.cat((torch.linspace(-1, 1, 4001), torch.logspace(-18, 0, 400), -torch.logspace(-18, 0, 400)))
    mean = torch.zeros_like(log_var)
    kl = fastvae.kl_standard_normal(mean, log_var, event_ndim=0)
    assert (kl[log_var != 0] > 0).all()
    assert (kl[log_var == 0] == 0).all()
    assert fastvae.kl_standard_normal(torch.tensor([1e-18]), torch.tensor([0.0]), event_ndim=0) > 0


def test_kl_of_equal_gaussians_is_zero_with_zero_gradient():
    mean, log_var = parameters(50)
    kl = fastvae.kl_normal(mean, log_var, mean.detach(), log_var.detach(), event_ndim=0)
    assert torch.equal(kl, torch.zeros(50))
    assert all(torch.equal(g, torch.zeros(50)) for g in torch.autograd.grad(kl.sum(), (mean, log_var)))


def test_float16_log_variances_do_not_overflow():
    # exp(log_var) in float16 is infinite above 11.09 and zero below -17.33.
    log_var = torch.tensor([-30.0, -20.0, 11.5, 20.0, 80.0], dtype=torch.float16).requires_grad_()
    kl = fastvae.kl_standard_normal(torch.zeros_like(log_var), log_var, event_ndim=0)
    torch.testing.assert_close(kl.double(), kl_reference(torch.zeros(5), log_var), rtol=1e-6, atol=0)
    kl.sum().backward()
    # Half precision has no -1/2 + 1e-9, and no 2e8.
    assert log_var.grad.tolist() == [-0.5, -0.5, pytest.approx(math.expm1(11.5) / 2, rel=1e-3), math.inf, math.inf]


@pytest.mark.interpreted(where=lambda count: count < 10_000)
@pytest.mark.parametrize("count", [4096, 196608])
def test_sums_keep_six_digits(count):
    # sqrt(0.2) in each element is 0.1 nat: a bfloat16 sum stalls at 32, a float16 sum at 256.
    for dtype in PARAMETER_DTYPES:
        mean = torch.full((2, count), math.sqrt(0.2)).to(dtype)
        log_var = torch.randn(2, count).mul(1e-2).to(dtype)
        kl = fastvae.kl_standard_normal(mean, log_var)
        assert kl.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        wanted = [math.fsum(row) for row in kl_reference(mean, log_var).tolist()]
        assert kl.tolist() == pytest.approx(wanted, rel=1e-6)


# --- samples ---


@pytest.mark.parametrize("scale_as", SCALES)
def test_a_sample_is_mean_plus_std_times_noise(scale_as):
    mean, scale, eps = (torch.randn(7, 5, dtype=torch.float64) for _ in range(3))
    scale = scale.abs() + 0.1
    std = {
        "log_var": (scale / 2).exp(),
        "log_std": scale.exp(),
        "var": scale.sqrt(),
        "std": scale,
        "softplus": (1 + scale.exp()).log(),
    }[scale_as]
    z = fastvae.rsample(mean, scale, eps=eps, scale_as=scale_as)
    torch.testing.assert_close(z, mean + std * eps, rtol=1e-14, atol=1e-14)


def test_samples_lie_on_a_leading_axis():
    mean, log_var = parameters(6, 5)
    eps = torch.randn(3, 6, 5)
    z = fastvae.rsample(mean, log_var, num_samples=3, eps=eps)
    assert z.shape == (3, 6, 5)
    for k in range(3):
        assert torch.equal(z[k], fastvae.rsample(mean, log_var, eps=eps[k]))
    weights = torch.randn(3, 6, 5)
    grads = torch.autograd.grad((z * weights).sum(), (mean, log_var))
    torch.testing.assert_close(grads[0], weights.sum(0))
    torch.testing.assert_close(grads[1], (weights * eps).sum(0) * (log_var / 2).exp() / 2)


def test_samples_differ_and_one_sample_keeps_the_axis():
    mean, log_var = parameters(6, 5)
    z = fastvae.rsample(mean, log_var, num_samples=4, seed=3)
    assert len({tuple(sample.flatten().tolist()) for sample in z}) == 4
    one = fastvae.rsample(mean, log_var, num_samples=1, seed=3)
    assert one.shape == (1, 6, 5)
    # Elements are numbered over z: the first sample of K is the sample without an axis.
    assert torch.equal(one[0], fastvae.rsample(mean, log_var, seed=3))
    assert torch.equal(z[0], one[0])


def test_the_gradient_redraws_the_noise():
    mean, log_var = parameters(33, 7)
    for keywords in ({}, {"num_samples": 3}):
        z = fastvae.rsample(mean, log_var, seed=11, **keywords)
        noise = fastvae.rsample(torch.zeros(33, 7), torch.zeros(33, 7), seed=11, **keywords)
        weights = torch.randn_like(z)
        grads = torch.autograd.grad((z * weights).sum(), (mean, log_var))
        per_std = (weights * noise).reshape(-1, 33, 7).sum(0)
        torch.testing.assert_close(grads[1], per_std * (log_var / 2).exp() / 2, rtol=2e-6, atol=2e-6)


def test_seed_generator_and_manual_seed_decide_the_sample():
    mean, log_var = (p.detach() for p in parameters(6, 5))

    def sample(**keywords):
        return fastvae.rsample(mean, log_var, **keywords)

    assert torch.equal(sample(seed=5), sample(seed=torch.tensor(5)))
    assert torch.equal(sample(seed=5), sample(seed=torch.tensor([5])))
    assert torch.equal(sample(seed=-1), sample(seed=2**64 - 1))
    assert not torch.equal(sample(seed=5), sample(seed=6))
    assert not torch.equal(sample(seed=5), sample(seed=5 + 2**32))
    assert not torch.equal(sample(), sample())
    torch.manual_seed(1)
    first = sample()
    torch.manual_seed(1)
    assert torch.equal(first, sample())
    generators = [torch.Generator().manual_seed(9) for _ in range(2)]
    assert torch.equal(sample(generator=generators[0]), sample(generator=generators[1]))
    assert not torch.equal(sample(generator=generators[0]), sample(generator=torch.Generator().manual_seed(9)))


def test_given_noise_gets_a_gradient():
    mean, log_var = parameters(6, 5)
    eps = torch.randn(2, 6, 5, requires_grad=True)
    z = fastvae.rsample(mean, log_var, num_samples=2, eps=eps)
    # Plain torch computes it: rounded otherwise than a kernel.
    torch.testing.assert_close(z, fastvae.rsample(mean, log_var, num_samples=2, eps=eps.detach()), rtol=1e-6, atol=1e-6)
    (grad,) = torch.autograd.grad(z.sum(), eps)
    torch.testing.assert_close(grad, (log_var / 2).exp().expand(2, 6, 5))
    z, kl = fastvae.rsample_kl(mean, log_var, eps=eps[0])
    assert torch.autograd.grad(z.sum() + kl.sum(), eps)[0][0].abs().sum() > 0


# --- rsample_kl ---


@pytest.mark.parametrize("dtype", PARAMETER_DTYPES)
@pytest.mark.parametrize("keywords", [{}, {"clamp": (-0.5, 0.5)}, {"free_bits": 0.2}, {"scale_as": "softplus"}])
def test_rsample_kl_is_both_of_its_parts(keywords, dtype):
    mean, log_var = parameters(17, 9, dtype=dtype)
    of_kl = dict(keywords)
    free_bits = {"free_bits": of_kl.pop("free_bits", 0.0)}
    z, kl = fastvae.rsample_kl(mean, log_var, seed=4, **keywords)
    parts = (
        fastvae.rsample(mean, log_var, seed=4, **of_kl),
        fastvae.kl_standard_normal(mean, log_var, **of_kl, **free_bits),
    )
    assert torch.equal(z, parts[0])
    # Sums may be ordered otherwise.
    torch.testing.assert_close(kl, parts[1], rtol=1e-6, atol=1e-6)
    weights = torch.randn(17, 9), torch.randn(17)
    joined = torch.autograd.grad((z * weights[0]).sum() + (kl * weights[1]).sum(), (mean, log_var))
    apart = torch.autograd.grad((parts[0] * weights[0]).sum() + (parts[1] * weights[1]).sum(), (mean, log_var))
    tolerance = {torch.bfloat16: 2e-2, torch.float16: 2e-3}.get(dtype, 1e-5)  # two roundings instead of one
    for a, b in zip(joined, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("used", ["z", "kl"])
def test_rsample_kl_with_one_output_unused(used):
    mean, log_var = parameters(17, 9)
    z, kl = fastvae.rsample_kl(mean, log_var, seed=4)
    if used == "z":
        alone = fastvae.rsample(mean, log_var, seed=4)
    else:
        z, alone = kl, fastvae.kl_standard_normal(mean, log_var)
    for a, b in zip(*(torch.autograd.grad(t.sum(), (mean, log_var)) for t in (z, alone)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_rsample_kl_composes_samples_masks_and_levels():
    mean, log_var = parameters(17, 9)
    mask = torch.rand(17, 9) > 0.5
    z, kl = fastvae.rsample_kl(mean, log_var, seed=4, num_samples=3, mask=mask)
    assert torch.equal(z, fastvae.rsample(mean, log_var, seed=4, num_samples=3))
    assert torch.equal(kl, fastvae.kl_standard_normal(mean, log_var, mask=mask))
    for over in ("latent", "sample", "batch"):
        keywords = {"free_bits": 0.7, "free_bits_over": over}
        _, kl = fastvae.rsample_kl(mean, log_var, seed=4, **keywords)
        torch.testing.assert_close(kl, fastvae.kl_standard_normal(mean, log_var, **keywords), rtol=1e-6, atol=1e-6)


# --- clamp ---


@pytest.mark.parametrize("scale_as", SCALES)
def test_the_clamp_is_on_the_log_variance_and_closes_the_gradient(scale_as):
    t = torch.tensor([-9.0, -2.5, -1.0, 0.5, 1.5, 9.0], dtype=torch.float64)
    std = (t / 2).exp()
    scale = {"log_var": t, "log_std": t / 2, "var": t.exp(), "std": std, "softplus": std.expm1().log()}[scale_as]
    scale = scale.clone().requires_grad_()
    mean, eps = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    inside = t.abs() < 2
    for value, wanted in (
        (fastvae.kl_standard_normal(mean, scale, event_ndim=0, scale_as=scale_as, clamp=(-2, 2)), None),
        (
            fastvae.rsample(mean, scale, eps=eps, scale_as=scale_as, clamp=(-2, 2)),
            mean + (t.clamp(-2, 2) / 2).exp() * eps,
        ),
        (fastvae.gaussian_log_prob(eps, mean, scale, event_ndim=0, scale_as=scale_as, clamp=(-2, 2)), None),
        (
            fastvae.kl_normal(mean, scale, eps, scale, event_ndim=0, scale_as=scale_as, clamp=(-2, 2)),
            (mean - eps) ** 2 / t.clamp(-2, 2).exp() / 2,
        ),
    ):
        if wanted is not None:
            torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12)
        (grad,) = torch.autograd.grad(value.sum(), scale)
        assert (grad[~inside] == 0).all()
        assert (grad[inside] != 0).all()
    kl = fastvae.kl_standard_normal(mean, scale, event_ndim=0, scale_as=scale_as, clamp=(-2, 2))
    torch.testing.assert_close(kl, kl_reference(mean, t.clamp(-2, 2)), rtol=1e-12, atol=1e-12)


def test_the_clamp_lets_the_gradient_through_at_its_bounds():
    log_var = torch.tensor([-2.0, 2.0], requires_grad=True)
    fastvae.kl_standard_normal(torch.zeros(2), log_var, event_ndim=0, clamp=(-2, 2)).sum().backward()
    torch.testing.assert_close(log_var.grad, torch.tensor([-2.0, 2.0]).expm1() / 2)


def test_a_clamp_keeps_infinite_log_variances_finite():
    log_var = torch.tensor([-math.inf, math.inf, 1e30, -1e30], requires_grad=True)
    z, kl = fastvae.rsample_kl(torch.zeros(4), log_var, seed=0, event_ndim=0, clamp=(-30, 20))
    assert z.isfinite().all()
    torch.testing.assert_close(kl, kl_reference(torch.zeros(4), log_var.clamp(-30, 20)).float(), rtol=1e-6, atol=0)
    (z.sum() + kl.sum()).backward()
    assert torch.equal(log_var.grad, torch.zeros(4))


# --- free bits (Kingma et al. 2016, eq. 15), each level against its formula ---


def floored(kl, free_bits, over):
    """[batch] from elementwise `kl` [batch, latent], as the definition reads."""
    if over == "element":
        return kl.clamp(min=free_bits).sum(1)
    if over == "latent":
        mean = kl.mean(0)
        return torch.where(mean > free_bits, kl, free_bits).sum(1)
    if over == "sample":
        return kl.sum(1).clamp(min=free_bits)
    return torch.where(kl.sum(1).mean() > free_bits, kl.sum(1), free_bits)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize(
    ("over", "free_bits"),
    [("element", 0.3), ("latent", 0.6), ("sample", 4.0), ("batch", 1.0), ("batch", 100.0), ("latent", 100.0)],
)
def test_free_bits_floor_their_level(over, free_bits, pair):
    mean, log_var = (torch.randn(40, 6, dtype=torch.float64).requires_grad_() for _ in range(2))
    prior = (torch.randn(40, 6, dtype=torch.float64), torch.zeros(40, 6, dtype=torch.float64))
    call, shift = (fastvae.kl_normal, prior[0]) if pair else (fastvae.kl_standard_normal, 0)
    kl = call(mean, log_var, *(prior if pair else ()), free_bits=free_bits, free_bits_over=over)
    wanted = floored(kl_reference(mean - shift, log_var), free_bits, over)
    torch.testing.assert_close(kl, wanted)
    if over == "latent":
        means = kl_reference(mean - shift, log_var).mean(0).clamp(min=free_bits)
        torch.testing.assert_close(kl.mean(), means.sum())
    weights = torch.randn(40, dtype=torch.float64)
    grads = torch.autograd.grad((kl * weights).sum(), (mean, log_var))
    for grad, expected in zip(
        grads,
        torch.autograd.grad((wanted * weights).sum(), (mean, log_var)),
        strict=True,
    ):
        torch.testing.assert_close(grad, expected)
        assert torch.equal(grad == 0, expected == 0)


def test_free_bits_of_zero_keep_the_smallest_gradient():
    mean = torch.tensor([1e-30], requires_grad=True)
    fastvae.kl_standard_normal(mean, torch.zeros(1), event_ndim=0).sum().backward()
    assert mean.grad.item() == mean.item()


@pytest.mark.parametrize("over", ["element", "latent", "sample", "batch"])
def test_free_bits_do_not_hide_nan(over):
    mean, log_var = torch.randn(5, 3), torch.randn(5, 3)
    mean[2, 1] = math.nan
    kl = fastvae.kl_standard_normal(mean, log_var, free_bits=0.5, free_bits_over=over)
    assert kl[2].isnan()
    assert not fastvae.kl_standard_normal(log_var, log_var, free_bits=0.5, free_bits_over=over).isnan().any()


@pytest.mark.parametrize("over", ["latent", "sample", "batch"])
def test_free_bits_count_what_a_mask_leaves_in(over):
    mean, log_var = (torch.randn(12, 4, dtype=torch.float64) for _ in range(2))
    mask = torch.ones(12, 1, dtype=torch.bool)
    mask[8:] = False
    keywords = {"free_bits": 3.0 if over != "latent" else 0.6, "free_bits_over": over}
    whole = fastvae.kl_standard_normal(mean, log_var, mask=mask, **keywords)
    torch.testing.assert_close(whole[:8], fastvae.kl_standard_normal(mean[:8], log_var[:8], **keywords))
    assert torch.equal(whole[8:], torch.zeros(4, dtype=torch.float64))


# --- mask and weight ---


@pytest.mark.parametrize("dtype", PARAMETER_DTYPES)
@pytest.mark.parametrize("pair", [False, True])
def test_masked_elements_are_exactly_zero_even_as_nan(pair, dtype):
    operands = parameters(11, 7, dtype=dtype, count=4 if pair else 2)
    call = fastvae.kl_normal if pair else fastvae.kl_standard_normal
    mask = torch.rand(11, 7) > 0.4
    with torch.no_grad():
        for operand in operands:
            operand[~mask] = math.nan
    clean = [o.detach().nan_to_num(0.0).requires_grad_() for o in operands]
    kl = call(*operands, mask=mask)
    torch.testing.assert_close(kl, (call(*clean, event_ndim=0) * mask).sum(1), rtol=1e-6, atol=1e-6)
    grads = torch.autograd.grad(kl.sum(), operands)
    for grad, wanted in zip(grads, torch.autograd.grad(call(*clean, mask=mask).sum(), clean), strict=True):
        assert (grad[~mask] == 0).all()
        assert torch.equal(grad, wanted)
    elements = call(*operands, mask=mask, event_ndim=0)
    assert (elements[~mask] == 0).all()


@pytest.mark.parametrize("shape", [(11, 7), (7,), (11, 1), (1, 7), ()])
def test_weights_multiply_the_terms(shape):
    mean, log_var = parameters(11, 7)
    weight = torch.rand(shape)
    mask = torch.rand(11, 7) > 0.5
    wanted = kl_reference(mean, log_var) * weight * mask
    kl = fastvae.kl_standard_normal(mean, log_var, weight=weight, mask=mask)
    torch.testing.assert_close(kl.double(), wanted.sum(1), rtol=1e-5, atol=1e-6)
    grads = torch.autograd.grad(kl.sum(), (mean, log_var))
    for grad, expected in zip(grads, torch.autograd.grad(wanted.sum(), (mean, log_var)), strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-6)


def test_a_learned_weight_gets_its_gradient():
    mean, log_var = parameters(11, 7)
    weight = torch.rand(7)
    weight[2] = 0
    weight.requires_grad_()
    with torch.no_grad():
        mean[:, 2] = math.nan
    kl = fastvae.kl_standard_normal(mean, log_var, weight=weight)
    torch.testing.assert_close(kl, fastvae.kl_standard_normal(mean, log_var, weight=weight.detach()), rtol=1e-6, atol=0)
    (grad,) = torch.autograd.grad(kl.sum(), weight, retain_graph=True)
    terms = kl_reference(mean, log_var).sum(0)
    terms[2] = 0
    torch.testing.assert_close(grad, terms.float())
    assert not any(g.isnan().any() for g in torch.autograd.grad(kl.sum(), (mean, log_var)))


# --- shapes and dtypes ---


@given(
    st.lists(st.integers(0, 5), min_size=0, max_size=4),
    st.data(),
)
def test_any_shape_and_event(shape, data):
    event_ndim = data.draw(st.none() | st.integers(0, len(shape)))
    shared = [data.draw(st.booleans()) for _ in shape]
    mean = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    scale = torch.randn([1 if s else n for s, n in zip(shared, shape, strict=True)], dtype=torch.float64)
    scale = scale.requires_grad_()
    summed = max(len(shape) - 1, 0) if event_ndim is None else event_ndim
    dims = tuple(range(len(shape) - summed, len(shape)))
    wanted = kl_reference(mean, scale)
    wanted = wanted.sum(dims) if dims else wanted
    z, kl = fastvae.rsample_kl(mean, scale, seed=1, event_ndim=event_ndim)
    assert z.shape == mean.shape
    torch.testing.assert_close(kl, wanted)
    torch.testing.assert_close(fastvae.kl_standard_normal(mean, scale, event_ndim=event_ndim), wanted)
    torch.testing.assert_close(
        fastvae.kl_normal(mean, scale, torch.zeros(shape), torch.zeros(()), event_ndim=event_ndim), wanted
    )
    weights = torch.randn_like(wanted)
    grads = torch.autograd.grad((kl * weights).sum(), (mean, scale))
    for grad, expected in zip(grads, torch.autograd.grad((wanted * weights).sum(), (mean, scale)), strict=True):
        torch.testing.assert_close(grad, expected)


def test_operands_broadcast_both_ways():
    mean = torch.randn(6, 1, 4, dtype=torch.float64, requires_grad=True)
    log_var = torch.randn(5, 1, dtype=torch.float64, requires_grad=True)
    eps = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    z = fastvae.rsample(mean, log_var, num_samples=2, eps=eps)
    wanted = mean + (log_var / 2).exp() * eps
    torch.testing.assert_close(z, wanted)
    for grad, expected in zip(
        torch.autograd.grad((z * eps).sum(), (mean, log_var)),
        torch.autograd.grad((wanted * eps).sum(), (mean, log_var)),
        strict=True,
    ):
        torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("scale_dtype", PARAMETER_DTYPES)
@pytest.mark.parametrize("mean_dtype", PARAMETER_DTYPES)
def test_every_mix_of_dtypes(mean_dtype, scale_dtype):
    mean, log_var = parameters(9, 5, dtype=mean_dtype, count=1) + parameters(9, 5, dtype=scale_dtype, count=1)
    arithmetic = torch.float64 if torch.float64 in (mean_dtype, scale_dtype) else torch.float32
    z, kl = fastvae.rsample_kl(mean, log_var, seed=2)
    assert (z.dtype, kl.dtype) == (mean_dtype, arithmetic)
    wide = [t.detach().to(arithmetic).requires_grad_() for t in (mean, log_var)]
    wide_z, wide_kl = fastvae.rsample_kl(*wide, seed=2)
    # The result is the wide result rounded once.
    assert torch.equal(z, wide_z.to(mean_dtype))
    assert torch.equal(kl, wide_kl)
    weights = torch.randn(9)
    grads = torch.autograd.grad((kl * weights).sum(), (mean, log_var))
    for grad, wanted, operand in zip(
        grads, torch.autograd.grad((wide_kl * weights).sum(), wide), (mean, log_var), strict=True
    ):
        assert torch.equal(grad, wanted.to(operand.dtype))
    kl = fastvae.kl_normal(mean, log_var, log_var, mean)
    assert torch.equal(kl, fastvae.kl_normal(*wide, *wide[::-1]))


def test_nan_and_infinity_come_through():
    mean = torch.tensor([math.nan, 0.0, math.inf, 0.0, 0.0])
    log_var = torch.tensor([0.0, math.nan, 0.0, math.inf, -math.inf])
    kl = fastvae.kl_standard_normal(mean, log_var, event_ndim=0)
    assert kl[:2].isnan().all()
    assert not kl[2:].isfinite().any()
    z = fastvae.rsample(mean, log_var, eps=torch.ones(5))
    assert z[:2].isnan().all()
    assert z[2:4].isposinf().all()
    assert z[4] == 0
    kl = fastvae.kl_normal(mean, log_var, torch.zeros(5), torch.zeros(5), event_ndim=0)
    assert kl[:2].isnan().all()
    assert not kl[2:].isfinite().any()
