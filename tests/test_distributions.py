"""Subclasses of torch's distributions against torch's own in float64; diffusers' posterior against its formulas."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import distributions as theirs
from torch.distributions import kl_divergence

import fastvae
from fastvae import distributions as ours

pytestmark = [pytest.mark.usefixtures("backend"), pytest.mark.not_interpreted]

CLOSE = {"rtol": 2e-6, "atol": 2e-6}


def normal(module, *shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    loc, scale = torch.randn(shape, generator=generator), torch.rand(shape, generator=generator) + 0.1
    device = torch.get_default_device()
    return module.Normal(loc.to(device, dtype), scale.to(device, dtype))


def double(distribution):
    """Torch's own, on the same numbers."""
    if isinstance(distribution, theirs.Independent):
        return theirs.Independent(double(distribution.base_dist), distribution.reinterpreted_batch_ndims)
    if isinstance(distribution, theirs.Bernoulli):
        return theirs.Bernoulli(logits=distribution.logits.double(), validate_args=False)
    return theirs.Normal(distribution.loc.double(), distribution.scale.double())


def test_they_are_torchs():
    assert isinstance(normal(ours, 3), theirs.Normal)
    assert isinstance(ours.Bernoulli(torch.rand(3)), theirs.Bernoulli)
    assert isinstance(ours.Independent(normal(ours, 3), 1), theirs.Independent)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_log_prob_of_a_normal(dtype):
    q, value = normal(ours, 4, 5, dtype=dtype), torch.randn(3, 4, 5).to(dtype)
    result = q.log_prob(value)
    assert result.dtype == dtype
    close = {"rtol": 1e-2, "atol": 1e-2} if dtype == torch.bfloat16 else CLOSE
    torch.testing.assert_close(result.double(), double(q).log_prob(value.double()), **close)


@pytest.mark.parametrize("ndims", [0, 1, 2])
@pytest.mark.parametrize("value_shape", [(4, 5), (3, 4, 5), (5,)], ids=str)
def test_log_prob_of_independent_normals(value_shape, ndims):
    q, value = ours.Independent(normal(ours, 4, 5), ndims), torch.randn(value_shape)
    wanted = double(q).log_prob(value.double().expand(torch.broadcast_shapes(value_shape, (4, 5))))
    torch.testing.assert_close(q.log_prob(value).double(), wanted, **CLOSE)


@pytest.mark.parametrize("ndims", [0, 1])
@pytest.mark.parametrize("given", ["logits", "probs"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8, torch.int64], ids=str)
def test_log_prob_of_bernoullis(dtype, given, ndims):
    parameter = 5 * torch.randn(4, 5) if given == "logits" else torch.tensor([0.0, 1.0, 0.5, 1e-9, 1.0]).expand(4, 5)
    q = ours.Independent(ours.Bernoulli(**{given: parameter}), ndims)
    value = torch.randint(0, 2, (4, 5)).to(dtype)
    torch.testing.assert_close(q.log_prob(value).double(), double(q).log_prob(value.double()), **CLOSE)


@pytest.mark.parametrize("ndims", [None, 0, 1, 2])
@pytest.mark.parametrize(("left", "right"), [(ours, ours), (ours, theirs), (theirs, ours)])
def test_kl(left, right, ndims):
    p, q = normal(left, 4, 5, seed=1), normal(right, 4, 5, seed=2)
    if ndims is not None:
        p, q = left.Independent(p, ndims), right.Independent(q, ndims)
    torch.testing.assert_close(kl_divergence(p, q).double(), kl_divergence(double(p), double(q)), **CLOSE)


def test_kl_of_what_is_no_normal_is_torchs():
    p, q = (ours.Independent(ours.Bernoulli(torch.rand(4, 5)), 1) for _ in range(2))
    torch.testing.assert_close(kl_divergence(p, q).double(), kl_divergence(double(p), double(q)), **CLOSE)
    with pytest.raises(NotImplementedError, match="events of 1 and 2 batch dimensions"):
        kl_divergence(ours.Independent(normal(ours, 4, 5), 1), ours.Independent(normal(ours, 4, 5), 2))


def test_samples_are_of_the_distribution():
    q = ours.Independent(normal(ours, 3), 1)
    samples = q.rsample((100, 500))
    assert samples.shape == (100, 500, 3)
    eps = ((samples - q.base_dist.loc) / q.base_dist.scale).double()
    # Five standard errors of 50,000 samples.
    assert eps.mean((0, 1)).abs().max() < 5 / 50_000**0.5
    assert (eps.var((0, 1)) - 1).abs().max() < 5 * (2 / 50_000) ** 0.5
    assert q.rsample().shape == (3,)
    assert q.rsample((0, 2)).shape == (0, 2, 3)
    torch.manual_seed(5)
    again = q.sample()
    torch.manual_seed(5)
    assert torch.equal(again, q.sample())
    assert not torch.equal(again, q.sample())


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("shape", [(4, 5), (200, 200)], ids=str)
def test_one_seed_one_sample_however_it_is_made(shape, grad):
    q = normal(ours, *shape)
    loc, scale = q.loc.requires_grad_(grad), q.scale
    torch.manual_seed(4)
    z = ours.Normal(loc, scale).rsample()
    torch.manual_seed(4)
    wanted = fastvae.rsample(loc, scale, scale_as="std")
    torch.testing.assert_close(z, wanted, rtol=1e-6, atol=1e-6)  # one rounding more, or less
    assert z.requires_grad == grad


def test_gradients_of_a_sample_and_its_density():
    loc, scale = torch.randn(4, 5).requires_grad_(), (torch.rand(4, 5) + 0.1).requires_grad_()
    z = ours.Normal(loc, scale).rsample()
    eps = ((z - loc) / scale).detach()
    grads = torch.autograd.grad(z.sum(), (loc, scale))
    torch.testing.assert_close(grads, (torch.ones_like(eps), eps), rtol=1e-4, atol=1e-4)
    value = torch.randn(4, 5)
    found = torch.autograd.grad(ours.Normal(loc, scale).log_prob(value).sum(), (loc, scale))
    wanted = torch.autograd.grad(theirs.Normal(loc.double(), scale.double()).log_prob(value).sum(), (loc, scale))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_expand_keeps_the_class_and_numbers_are_parameters():
    q = ours.Independent(normal(ours, 5), 1).expand((7,))
    assert (type(q), type(q.base_dist), q.batch_shape) == (ours.Independent, ours.Normal, (7,))
    assert q.rsample().shape == (7, 5)
    assert type(ours.Bernoulli(torch.rand(5)).expand((7, 5))) is ours.Bernoulli
    assert ours.Normal(0.0, 1.0).rsample().shape == ()


def test_data_are_checked_where_that_is_asked_for():
    with pytest.raises(ValueError, match="Expected parameter scale"):
        ours.Normal(torch.zeros(2), -torch.ones(2), validate_args=True)
    with pytest.raises(ValueError, match="within the support"):
        ours.Bernoulli(torch.rand(2), validate_args=True).log_prob(torch.full((2,), 3.0))
    ours.Normal(torch.zeros(2), -torch.ones(2))


def test_in_one_graph():
    def loss(mean, scale, x, logits):
        q = ours.Independent(ours.Normal(mean, scale), 1)
        z = q.rsample()
        prior = ours.Independent(ours.Normal(torch.zeros_like(mean), torch.ones_like(scale)), 1)
        log_px = ours.Independent(ours.Bernoulli(logits=logits), 1).log_prob(x)
        return (kl_divergence(q, prior) - log_px).mean() + 0 * z.sum()

    operands = (torch.randn(4, 5), torch.rand(4, 5) + 0.1, torch.rand(4, 6), torch.randn(4, 6))
    wanted = loss(*operands)
    torch.testing.assert_close(torch.compile(loss, fullgraph=True, backend="aot_eager")(*operands), wanted)


# --- diffusers' ---


def packed(*shape, dtype=torch.float32):
    return (10 * torch.randn(shape)).to(dtype)  # some log-variances lie outside the clamp


def halves(parameters):
    mean, log_var = parameters.double().chunk(2, dim=1)
    return mean, log_var.clamp(-30.0, 20.0)


@pytest.mark.parametrize("dims", [None, [1, 2, 3], [1], [2, 3], [-1]])
def test_divergence_and_likelihood(dims):
    q, p = (ours.DiagonalGaussian(packed(2, 6, 4, 5)) for _ in range(2))
    (m, v), (m2, v2) = halves(q.parameters), halves(p.parameters)
    summed, x = dims or [1, 2, 3], torch.randn(2, 3, 4, 5)
    standard = 0.5 * (m**2 + v.exp() - 1 - v).sum(summed)
    other = 0.5 * ((m - m2) ** 2 / v2.exp() + v.exp() / v2.exp() - 1 - v + v2).sum(summed)
    nll = 0.5 * (torch.tensor(2 * torch.pi).log() + v + (x.double() - m) ** 2 / v.exp()).sum(summed)
    for found, wanted in ((q.kl(dims=dims), standard), (q.kl(p, dims), other), (q.nll(x, dims), nll)):
        torch.testing.assert_close(found.double(), wanted, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 4), (2, 6, 2, 3, 4)], ids=str)
def test_any_number_of_dimensions(shape):
    q = ours.DiagonalGaussian(packed(*shape))
    m, v = halves(q.parameters)
    wanted = 0.5 * (m**2 + v.exp() - 1 - v).flatten(1).sum(1)
    torch.testing.assert_close(q.kl().double(), wanted, rtol=2e-5, atol=1e-5)
    assert q.sample().shape == q.mode().shape == (2, 3, *shape[2:])


def diffusers_sample(parameters, generator, deterministic=False):
    """As `DiagonalGaussianDistribution` has it, operation by operation."""
    mean, log_var = torch.chunk(parameters, 2, dim=1)
    std = torch.exp(0.5 * torch.clamp(log_var, -30.0, 20.0))
    std = torch.zeros_like(std) if deterministic else std
    shape, generators = mean.shape, generator if isinstance(generator, list) else [generator]
    shape = (1, *shape[1:]) if len(generators) > 1 else shape
    eps = [torch.randn(shape, generator=g, dtype=mean.dtype, device=g.device).to(mean.device) for g in generators]
    return mean + std * torch.cat(eps)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_torchs_noise_is_diffusers_bit_for_bit(dtype, count, deterministic, grad):
    """Of one generator, of a list of one, of one for each; the host's everywhere. What is left of them is the same."""
    parameters = packed(2, 6, 4, 5, dtype=dtype).requires_grad_(grad)
    ours_, theirs_ = ([torch.Generator("cpu").manual_seed(3 + i) for i in range(max(count, 1))] for _ in range(2))
    given = [each if count else each[0] for each in (ours_, theirs_)]
    z = ours.DiagonalGaussian(parameters, deterministic, noise="torch").sample(given[0])
    wanted = diffusers_sample(parameters, given[1], deterministic)
    assert torch.equal(z, wanted)
    assert all(torch.equal(a.get_state(), b.get_state()) for a, b in zip(ours_, theirs_, strict=True))
    if grad:
        assert torch.equal(*(torch.autograd.grad(t.sum(), parameters)[0] for t in (z, wanted)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("generators", [0, 1, 3])
def test_a_sample_that_gets_a_gradient_brings_its_divergence(generators, dtype):
    """Value and gradients are those of the halves, one after the other."""
    parameters = packed(3, 6, 4, dtype=dtype).requires_grad_()

    def generator():
        each = [torch.Generator().manual_seed(i) for i in range(generators)]
        torch.manual_seed(9)
        return each if generators > 1 else each[0] if generators else None

    z, kl = (q := ours.DiagonalGaussian(parameters)).sample(generator()), q.kl()
    with torch.no_grad():
        assert torch.equal(z, ours.DiagonalGaussian(parameters).sample(generator()))
        torch.testing.assert_close(q.kl(), kl, rtol=1e-6, atol=0)
    upstream = torch.rand_like(z), torch.rand_like(kl)
    (grad,) = torch.autograd.grad((z, kl), parameters, upstream)
    mean, log_var = halves(parameters)
    eps = (z.double() - mean) / (log_var / 2).exp()
    again = (mean + (log_var / 2).exp() * eps.detach(), 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum((1, 2)))
    (wanted,) = torch.autograd.grad(again, parameters, [u.double() for u in upstream])
    # eps comes out of z as it was rounded.
    rounding = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float64: 1e-10}[dtype]
    assert (grad.dtype, grad.shape) == (dtype, parameters.shape)
    assert grad.is_contiguous()
    torch.testing.assert_close(grad.double(), wanted.double(), rtol=rounding, atol=rounding * 100)


def test_the_packed_gradient_has_derivatives():
    parameters = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)

    def both(parameters):
        z = (q := ours.DiagonalGaussian(parameters)).sample(torch.Generator().manual_seed(1))
        return z, q.kl()

    torch.autograd.gradcheck(both, parameters)
    torch.autograd.gradgradcheck(both, parameters)
    (alone,) = torch.autograd.grad(both(parameters)[1].sum(), parameters)  # no gradient arrives at the sample
    torch.testing.assert_close(alone, torch.cat([parameters[:, :2], parameters[:, 2:].exp() / 2 - 0.5], 1))


@pytest.mark.parametrize("noise", ["fastvae", "torch"])
def test_a_generator_for_each_sample(noise):
    parameters = packed(3, 4, 5)
    seeds = [torch.Generator().manual_seed(i) for i in range(3)]
    z = ours.DiagonalGaussian(parameters, noise=noise).sample(seeds)
    for i, row in enumerate(parameters.split(1)):
        alone = ours.DiagonalGaussian(row, noise=noise).sample([torch.Generator().manual_seed(i)])
        torch.testing.assert_close(z[i : i + 1], alone, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="2 generators for a batch of 3"):
        ours.DiagonalGaussian(parameters).sample(seeds[:2])


def test_deterministic():
    q = ours.DiagonalGaussian(packed(2, 6, 4), deterministic=True)
    assert torch.equal(q.sample(), q.mean)
    assert all(float(t.abs().sum()) == 0 for t in (q.std, q.var, q.kl(), q.nll(q.mean)))


def test_the_clamp_has_no_gradient_outside():
    parameters = packed(2, 6, 4).requires_grad_()
    q = ours.DiagonalGaussian(parameters)
    (grad,) = torch.autograd.grad(q.kl().sum() + q.sample().sum(), parameters)
    log_var = parameters.detach().chunk(2, dim=1)[1]
    outside = (log_var < -30) | (log_var > 20)
    assert outside.any()
    assert torch.equal(grad.chunk(2, dim=1)[1] == 0, outside)


def test_what_cannot_be_halved_is_refused():
    for shape, noise in itertools.product([(2, 5, 4), (6,)], ["fastvae"]):
        with pytest.raises(ValueError, match=r"parameters must be \[N, 2 C"):
            ours.DiagonalGaussian(torch.zeros(shape), noise=noise)
    with pytest.raises(ValueError, match="noise must be one of 'fastvae', 'torch', got 'jax'"):
        ours.DiagonalGaussian(torch.zeros(2, 4), noise="jax")


@pytest.mark.parametrize("sampled", [False, True])
def test_oobleck_is_diffusers_and_not_the_divergence(sampled):
    """Without the half, summed over channels, averaged over the rest: value and gradient, as they stand there."""
    parameters = torch.randn(2, 6, 5, requires_grad=True)
    q = ours.OobleckDiagonalGaussian(parameters)
    if sampled:
        z = q.sample(torch.Generator("cpu").manual_seed(1))
        assert abs(((z - q.mean) / q.std).mean()) < 5 / z.numel() ** 0.5
    mean, scale = parameters.double().chunk(2, dim=1)
    std = torch.nn.functional.softplus(scale) + 1e-4
    wanted = (mean * mean + std * std - torch.log(std * std) - 1.0).sum(1).mean()
    torch.testing.assert_close(q.kl().double(), wanted, rtol=1e-6, atol=0)
    grads = [torch.autograd.grad(kl, parameters)[0] for kl in (q.kl(), wanted)]
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"dims are fixed here, got \[1\]"):
        q.kl(dims=[1])


@pytest.mark.parametrize("noise", ["fastvae", "torch"])
@pytest.mark.parametrize("kind", [ours.DiagonalGaussian, ours.OobleckDiagonalGaussian])
def test_a_posterior_in_one_graph(kind, noise):
    def both(parameters):
        q = kind(parameters, noise=noise)
        return q.sample(), q.kl(), q.std

    parameters = torch.randn(2, 4, 3, requires_grad=True)
    z, kl, std = torch.compile(both, fullgraph=True, backend="aot_eager")(parameters)
    assert torch.autograd.grad(z.sum() + kl.sum(), parameters)[0].isfinite().all()
    torch.testing.assert_close((kl, std), (kind(parameters).kl(), kind(parameters).std))
