"""What models are trained on, against linear models whose likelihood is known; what a loss is made of; memory."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FactorAnalysis
from torch.profiler import ProfilerActivity, profile

import fastvae
from fastvae.models import Settings, build
from fastvae.models.objective import log_weights

LATENTS, PIXELS = 6, 44
LINEAR = {"model": "linear", "likelihood": "gaussian", "latents": LATENTS, "image_shape": (1, 4, 11)}
ESTIMATORS = {  # of scikit-learn, by the variance that makes the linear VAE the same model
    "shared": functools.partial(PCA, LATENTS, svd_solver="full"),
    "per-pixel": functools.partial(FactorAnalysis, LATENTS, svd_method="lapack", random_state=0),
}


@functools.cache
def data():
    """Digits without the pixels that are always black, and noise that no variance vanishes."""
    noise = np.random.default_rng(0).normal(0, 0.1, (500, PIXELS))
    return torch.tensor(load_digits().data[:500, 10:54] / 16 + noise)


@functools.cache
def fitted(variance):
    return ESTIMATORS[variance]().fit(data().numpy())


def covariance(model):
    """Of x under a linear model, W W^T + the noise's."""
    loading, log_var = model.decoder.weight, model.observation.log_var
    return loading @ loading.T + log_var.exp().expand(1, 4, 11).flatten().diag()


def log_marginal(model, x):
    """log N(x; mean, W W^T + variance), by numpy."""
    cov, mean = (t.detach().double().numpy() for t in (covariance(model), model.decoder.bias))
    centred = x.double().numpy() - mean
    squares = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(cov), centred)
    return -(squares + np.linalg.slogdet(2 * np.pi * cov)[1]) / 2


@pytest.fixture(params=ESTIMATORS)
def exact(request):
    """The linear VAE with scikit-learn's parameters, and the exact posterior for an encoder."""
    estimator = fitted(request.param)
    if request.param == "shared":  # Tipping & Bishop 1999: W = V (Lambda - s^2 I)^(1/2)
        loading = estimator.components_.T * np.sqrt(estimator.explained_variance_ - estimator.noise_variance_)
    else:  # rotated until the posterior is diagonal
        loading = estimator.components_.T
        loading = loading @ np.linalg.eigh(loading.T @ (loading / estimator.noise_variance_[:, None]))[1]
    loading, mean = torch.tensor(loading), torch.tensor(estimator.mean_)
    var = torch.as_tensor(estimator.noise_variance_, dtype=torch.float64).expand(PIXELS)
    scaled = loading / var[:, None]
    cov = torch.linalg.inv(torch.eye(LATENTS) + loading.T @ scaled)
    assert (cov - cov.diagonal().diag()).abs().max() < 1e-14, "the posterior is diagonal"
    model = build(Settings(**LINEAR, variance=request.param)).double()
    head = model.encoder[1]
    with torch.no_grad():
        model.decoder.weight.copy_(loading)
        model.decoder.bias.copy_(mean)
        model.observation.log_var.copy_(var.log().reshape(1, 4, 11) if request.param == "per-pixel" else var[0].log())
        head.weight[:LATENTS] = cov @ scaled.T
        head.bias[:LATENTS] = -(cov @ scaled.T @ mean)
        head.bias[LATENTS:] = cov.diagonal().log()
    return estimator, model


# --- linear models: the bound is the likelihood ---


def test_the_elbo_of_a_linear_vae_is_its_likelihood(exact):
    """To the last digits of float64, with the expectation of a quadratic over its quadrature points."""
    estimator, model = exact
    mean, log_var = model.encode(data())
    axes = math.sqrt(LATENTS) * torch.eye(LATENTS, dtype=torch.float64)
    eps = torch.cat((axes, -axes))[:, None].expand(-1, len(data()), -1)
    z = fastvae.rsample(mean, log_var, num_samples=2 * LATENTS, eps=eps)
    elbo = fastvae.elbo(model.log_prob(data(), z), fastvae.kl_standard_normal(mean, log_var)).elbo.item()
    assert elbo == pytest.approx(log_marginal(model, data()).mean(), rel=1e-13)
    assert elbo == pytest.approx(estimator.score(data().numpy()), rel=1e-12)


def test_every_importance_weight_of_a_linear_vae_is_its_likelihood(exact):
    _, model = exact
    log_w = log_weights(model, data(), 5, seed=1).detach().numpy()
    # Terms of some hundred nats cancel to what may be near 0.
    np.testing.assert_allclose(log_w, np.broadcast_to(log_marginal(model, data()), log_w.shape), 1e-13, 1e-12)


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_every_bound_of_a_linear_vae_is_its_likelihood(exact, samples):
    estimator, model = exact
    wanted = pytest.approx(estimator.score(data().numpy()), rel=1e-12)
    for keywords in ({"objective": "iwae"}, {"estimator": "stl"}):
        assert model(data(), num_samples=samples, **keywords).elbo.item() == wanted


@pytest.mark.parametrize(
    "keywords",
    [{"estimator": "stl"}, {"objective": "iwae", "estimator": "stl"}, {"objective": "iwae", "estimator": "dreg"}],
)
def test_at_the_exact_posterior_the_encoder_gets_no_gradient(exact, keywords):
    """Roeder et al. 2017, Tucker et al. 2019: zero sample by sample, where the pathwise one is zero on average."""
    _, model = exact
    head = model.encoder[1].weight

    def gradient(**keywords):
        return torch.autograd.grad(model(data(), num_samples=3, seed=2, **keywords).loss, head)[0].abs().max()

    assert gradient(**keywords) < 1e-12 * gradient(objective="iwae")


@pytest.mark.parametrize("variance", ESTIMATORS)
def test_training_from_random_weights_reaches_the_likelihood(variance):
    model, x = build(Settings(**LINEAR, variance=variance)), data().float()
    steps = 800
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x, estimator="stl").loss.backward()
        optimizer.step()
        schedule.step()
    wanted = fitted(variance).score(data().numpy())
    assert log_marginal(model, data()).mean() == pytest.approx(wanted, abs=1e-3 * PIXELS)
    assert model(x, num_samples=20).elbo.item() == pytest.approx(wanted, abs=1e-3 * PIXELS)


# --- memory ---


def naive_iwae(model, x, samples):
    """Burda et al. 2016, eq. 8, as its ports to PyTorch have it."""
    mean, log_var = model.encode(x)
    std = torch.exp(0.5 * log_var)
    eps = torch.randn(samples, *std.shape)
    z = mean + std * eps
    log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    log_qz = -0.5 * (eps**2 + log_var + math.log(2 * math.pi)).sum(-1)
    logits = model.decode(z)[0].flatten(2)
    log_px = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
    return -(torch.logsumexp(log_px + log_pz - log_qz, 0) - math.log(samples)).mean()


def peak_bytes(call):
    """The most that was allocated at a time, as torch's allocator tells its profiler."""
    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    now = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


@pytest.mark.parametrize("estimator", ["pathwise", "stl", "dreg"])
def test_the_bound_takes_a_third_of_the_naive_memory_above_the_networks_own(estimator):
    model, x, samples = build(Settings(latents=64)), torch.rand(16, 784), 64
    z, of_logits = torch.randn(samples, 16, 64, requires_grad=True), torch.randn(samples, 16, 1, 28, 28)
    of_head = torch.randn(16, 64)

    def network():
        """Forward and backward from gradients that are there already."""
        torch.autograd.backward((*model.encode(x), *model.decode(z)), (of_head, of_head, of_logits))
        model.zero_grad()

    def step(loss):
        loss().backward()
        model.zero_grad()

    own = peak_bytes(network)
    naive = peak_bytes(lambda: step(lambda: naive_iwae(model, x, samples))) - own
    ours = peak_bytes(lambda: step(lambda: model(x, objective="iwae", estimator=estimator, num_samples=samples).loss))
    assert naive > 0
    assert ours - own < naive / 3


# --- beta, free bits, capacity ---


def small():
    torch.manual_seed(0)
    model = build(Settings(image_shape=(1, 2, 4), latents=3, hidden=(8,)))
    return model, torch.rand(6, 8)


def gradients(model, x, **keywords):
    return torch.autograd.grad(model(x, seed=1, **keywords).loss, list(model.parameters()))


@pytest.mark.parametrize("over", ["element", "latent", "sample", "batch"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_under_the_floor_the_gradient_of_the_kl_is_exactly_zero(over, as_tensor):
    model, x = small()
    floor = torch.tensor(100.0) if as_tensor else 100.0
    for found, wanted in zip(
        gradients(model, x, free_bits=floor, free_bits_over=over), gradients(model, x, beta=0.0), strict=True
    ):
        assert torch.equal(found, wanted)
    assert any(
        not torch.equal(a, b) for a, b in zip(gradients(model, x), gradients(model, x, beta=0.0), strict=True)
    ), "the KL has a gradient"


@pytest.mark.parametrize("keywords", [{"free_bits": 2.0}, {"capacity": 5.0}, {"beta": 3.0}])
def test_the_bound_is_the_bound_whatever_the_loss(keywords):
    model, x = small()
    plain, other = model(x, seed=1), model(x, seed=1, **keywords)
    torch.testing.assert_close(other[1:], plain[1:])
    assert other.loss != plain.loss


def test_a_capacity_is_a_target_for_the_kl():
    """Burgess et al. 2018, eq. 8: gamma |KL - C|."""
    model, x = small()
    plain = model(x, seed=1)
    for capacity in (0.0, 5.0, torch.tensor(5.0)):
        terms = model(x, seed=1, capacity=capacity, beta=7.0)
        torch.testing.assert_close(terms.loss, 7 * (plain.kl - capacity).abs() - plain.log_likelihood)

    each = fastvae.kl_standard_normal(*model.encode(x))
    terms = model(x, seed=1, capacity=plain.kl.detach(), capacity_over="sample")
    torch.testing.assert_close(terms.loss, (each - plain.kl).abs().mean() - plain.log_likelihood)


@pytest.mark.parametrize("keywords", [{}, {"estimator": "stl"}, {"objective": "iwae"}])
@pytest.mark.parametrize("samples", [None, 3])
def test_noise_may_be_given(keywords, samples):
    model, x = small()
    shape = (6, 3) if samples is None else (samples, 6, 3)
    eps = fastvae.rsample(torch.zeros(6, 3), torch.zeros(6, 3), num_samples=samples, seed=5)
    assert eps.shape == shape
    seeded, given = (model(x, num_samples=samples, **keywords, **noise) for noise in ({"seed": 5}, {"eps": eps}))
    torch.testing.assert_close(given, seeded)
    with pytest.raises(ValueError, match="one of seed, generator and eps, got seed and eps"):
        model(x, num_samples=samples, seed=5, eps=eps, **keywords)


def test_beta_weighs_the_ratio_of_densities_in_the_bound():
    model, x = small()
    mean, log_var = model.encode(x)
    z = fastvae.rsample(mean, log_var, num_samples=4, seed=1)
    normal = torch.distributions.Normal
    ratio = normal(0, 1).log_prob(z).sum(-1) - normal(mean, (log_var / 2).exp()).log_prob(z).sum(-1)
    log_px = model.log_prob(x, z)
    for beta in (0.5, torch.tensor(0.5)):
        terms = model(x, objective="iwae", num_samples=4, seed=1, beta=beta)
        torch.testing.assert_close(terms.loss, (math.log(4) - (log_px + 0.5 * ratio).logsumexp(0)).mean())
        torch.testing.assert_close(terms.elbo, ((log_px + ratio).logsumexp(0) - math.log(4)).mean())
        torch.testing.assert_close(terms.log_likelihood, log_px.mean())


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"objective": "vae"}, "objective must be one of 'elbo', 'iwae', got 'vae'"),
        ({"estimator": "score"}, "estimator must be one of 'pathwise', 'stl', 'dreg', got 'score'"),
        ({"objective": "iwae", "free_bits": 1.0}, "free_bits is of the KL in closed form"),
        ({"estimator": "stl", "free_bits": torch.tensor(0.0)}, "free_bits is of the KL in closed form"),
        ({"estimator": "stl", "capacity": 0.0}, "capacity is of the KL in closed form"),
        ({"capacity_over": "latent"}, "capacity_over must be one of 'batch', 'sample', got 'latent'"),
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"num_samples": 0, "objective": "iwae"}, "num_samples must be at least 1, got 0"),
    ],
)
def test_wrong_keywords_are_named(keywords, message):
    model, x = small()
    with pytest.raises(ValueError, match=message):
        model(x, **keywords)
