"""The objective, and both halves together against models whose likelihood is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FactorAnalysis

import fastvae

pytestmark = pytest.mark.usefixtures("backend")

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# --- the terms ---


def test_the_loss_is_the_negative_elbo():
    log_px, kl = torch.randn(16) * 100, torch.rand(16) * 10
    terms = fastvae.elbo(log_px, kl)
    assert terms._fields == ("loss", "elbo", "log_likelihood", "kl")
    torch.testing.assert_close(terms.loss, (kl - log_px).mean())
    torch.testing.assert_close(terms.elbo, (log_px - kl).mean())
    torch.testing.assert_close(terms.log_likelihood, log_px.mean())
    torch.testing.assert_close(terms.kl, kl.mean())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_one_sample_needs_no_dimension(reduction):
    log_px, kl = torch.tensor(-90.0, requires_grad=True), torch.tensor(7.0)
    terms = fastvae.elbo(log_px, kl, 2.0, reduction=reduction)
    assert [t.item() for t in terms] == [104.0, -97.0, -90.0, 7.0]
    assert torch.autograd.grad(terms.loss, log_px)[0] == -1


@given(
    st.integers(0, 4),
    st.integers(0, 5),
    st.booleans(),
    st.sampled_from(["mean", "sum", "none"]),
    st.sampled_from([0.0, 0.3, 1.0, 4.0]),
    st.booleans(),
)
def test_every_reduction_and_beta(samples, batch, sampled, reduction, beta, as_tensor):
    log_px = torch.randn((samples, batch) if sampled else (batch,), dtype=torch.float64, requires_grad=True)
    kl = torch.randn(batch, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor(beta, dtype=torch.float64, requires_grad=as_tensor)
    terms = fastvae.elbo(log_px, kl, weight if as_tensor else beta, reduction=reduction)
    wide = kl.expand(log_px.shape)
    count = max(log_px.numel(), 1)

    def reduced(value):
        # The mean of nothing is 0.
        return {"mean": value.sum() / count, "sum": value.sum(), "none": value}[reduction]

    wanted = [reduced(v) for v in (weight * wide - log_px, log_px - wide, log_px * 1, wide * 1)]
    operands = (log_px, kl, weight) if as_tensor else (log_px, kl)
    for term, expected in zip(terms, wanted, strict=True):
        torch.testing.assert_close(term, expected)
        grads, truth = (
            torch.autograd.grad(t.sum(), operands, retain_graph=True, allow_unused=True, materialize_grads=True)
            for t in (term, expected)
        )
        for grad, wanted_grad in zip(grads, truth, strict=True):
            torch.testing.assert_close(grad, wanted_grad)
    joint = sum(term.sum() * k for k, term in enumerate(terms, 1))
    truth = sum(term.sum() * k for k, term in enumerate(wanted, 1))
    for grad, wanted_grad in zip(
        torch.autograd.grad(joint, operands), torch.autograd.grad(truth, operands), strict=True
    ):
        torch.testing.assert_close(grad, wanted_grad)


@pytest.mark.parametrize("kl_dtype", DTYPES)
@pytest.mark.parametrize("log_px_dtype", DTYPES)
def test_every_mix_of_dtypes(log_px_dtype, kl_dtype):
    log_px, kl = torch.randn(3, 70).to(log_px_dtype).requires_grad_(), torch.rand(70).to(kl_dtype).requires_grad_()
    terms = fastvae.elbo(log_px, kl, 0.5)
    arithmetic = torch.float64 if torch.float64 in (log_px_dtype, kl_dtype) else torch.float32
    assert {term.dtype for term in terms} == {arithmetic}
    torch.testing.assert_close(terms.loss.double(), (0.5 * kl.double() - log_px.double()).mean(), rtol=1e-6, atol=1e-6)
    grads = torch.autograd.grad(terms.loss, (log_px, kl))
    assert [g.dtype for g in grads] == [log_px_dtype, kl_dtype]
    torch.testing.assert_close(grads[0], torch.full_like(log_px, -1 / 210))
    torch.testing.assert_close(grads[1], torch.full_like(kl, 0.5 / 70))


@pytest.mark.parametrize("count", [1000, 100_000])
def test_means_keep_six_digits(count):
    log_px, kl = -torch.rand(count) * 200, torch.rand(count) * 30
    terms = fastvae.elbo(log_px, kl)
    assert terms.loss.item() == pytest.approx(math.fsum((kl.double() - log_px.double()).tolist()) / count, rel=1e-6)
    assert terms.kl.item() == pytest.approx(math.fsum(kl.tolist()) / count, rel=1e-6)


def test_nan_and_infinity_come_through():
    terms = fastvae.elbo(torch.tensor([math.nan, 0.0]), torch.zeros(2), reduction="none")
    assert terms.loss.isnan().tolist() == [True, False]
    assert not terms.kl.isnan().any()
    assert fastvae.elbo(torch.tensor([-math.inf, 0.0]), torch.zeros(2)).loss == math.inf


# --- linear Gaussian models: q(z|x) can be the true posterior, and then the bound is log p(x) ---


class LinearGaussian:
    """x = W z + mean + noise, with noise variance `var` per pixel and the exact posterior of z."""

    def __init__(self, x, loading, mean, var):
        tensor = lambda a: torch.tensor(a, dtype=torch.float64)  # noqa: E731
        self.x, self.loading, self.mean, self.var = tensor(x), tensor(loading), tensor(mean), tensor(var)
        precision = torch.eye(self.loading.shape[1], dtype=torch.float64) + self.loading.T @ (
            self.loading / self.var[:, None]
        )
        self.cov = torch.linalg.inv(precision)
        self.posterior_mean = (self.x - self.mean) / self.var @ self.loading @ self.cov
        self.posterior_log_var = self.cov.diagonal().log().expand_as(self.posterior_mean)

    def log_px(self, z):
        return fastvae.gaussian_log_prob(self.x, z @ self.loading.T + self.mean, self.var.log(), event_ndim=1)

    def elbo(self):
        """Exactly: the expectation of a quadratic is its mean over the points mean +- sqrt(D) std along each axis."""
        latent = self.loading.shape[1]
        axes = math.sqrt(latent) * torch.eye(latent, dtype=torch.float64)
        eps = torch.cat((axes, -axes))[:, None, :].expand(-1, len(self.x), -1)
        z = fastvae.rsample(self.posterior_mean, self.posterior_log_var, num_samples=2 * latent, eps=eps)
        kl = fastvae.kl_standard_normal(self.posterior_mean, self.posterior_log_var)
        return fastvae.elbo(self.log_px(z), kl).elbo

    def log_weights(self, samples):
        """log p(x, z) - log q(z|x) at samples of z, [K, batch]."""
        z = fastvae.rsample(self.posterior_mean, self.posterior_log_var, num_samples=samples, seed=1)
        log_pz = fastvae.gaussian_log_prob(z, torch.zeros_like(z), 0.0, event_ndim=1)
        log_qz = fastvae.gaussian_log_prob(z, self.posterior_mean, self.posterior_log_var, event_ndim=1)
        return self.log_px(z) + log_pz - log_qz

    def log_marginal(self):
        """log N(x; mean, W W^T + var), in numpy."""
        cov = (self.loading @ self.loading.T + self.var.diag()).cpu().numpy()
        centred = (self.x - self.mean).cpu().numpy()
        squares = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(cov), centred)
        return -(squares + np.linalg.slogdet(2 * np.pi * cov)[1]) / 2


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:500, 10:54] / 16 + np.random.default_rng(0).normal(0, 0.1, (500, 44))


@pytest.fixture(scope="module")
def probabilistic_pca(digits):
    """Tipping & Bishop 1999: W = V (Lambda - s^2 I)^(1/2) makes the posterior's precision diagonal."""
    pca = PCA(n_components=6, svd_solver="full").fit(digits)
    loading = pca.components_.T * np.sqrt(pca.explained_variance_ - pca.noise_variance_)
    return pca, (digits, loading, pca.mean_, np.full(44, pca.noise_variance_))


@pytest.fixture(scope="module")
def factor_analysis(digits):
    """The same with a variance for each pixel; a rotation of the latents makes the posterior diagonal."""
    model = FactorAnalysis(n_components=6, svd_method="lapack", random_state=0).fit(digits)
    loading = model.components_.T
    _, rotation = np.linalg.eigh(loading.T @ (loading / model.noise_variance_[:, None]))
    return model, (digits, loading @ rotation, model.mean_, model.noise_variance_)


@pytest.fixture(params=["probabilistic_pca", "factor_analysis"])
def linear_vae(request):
    estimator, parameters = request.getfixturevalue(request.param)
    return estimator, LinearGaussian(*parameters)


@pytest.mark.not_interpreted
def test_the_elbo_of_a_linear_vae_is_its_likelihood(linear_vae, digits):
    estimator, model = linear_vae
    assert (model.cov - model.cov.diagonal().diag()).abs().max() < 1e-14, "the posterior is diagonal"
    assert model.elbo().item() == pytest.approx(model.log_marginal().mean(), rel=1e-12)
    # Scored under the estimator's own parameters; its covariance has PCA's ddof = 1 already.
    assert model.elbo().item() == pytest.approx(estimator.score(digits), rel=1e-11)


@pytest.mark.not_interpreted
def test_every_importance_weight_of_a_linear_vae_is_its_likelihood(linear_vae):
    _, model = linear_vae
    log_weights = model.log_weights(samples=5).cpu().numpy()
    np.testing.assert_allclose(log_weights, np.broadcast_to(model.log_marginal(), log_weights.shape), rtol=1e-11)
    for samples in (1, 2, 5):
        bound = logsumexp(log_weights[:samples], axis=0) - math.log(samples)
        np.testing.assert_allclose(bound, model.log_marginal(), rtol=1e-11)


@pytest.mark.not_interpreted
def test_the_elbo_falls_below_the_likelihood_by_the_posterior_gap(linear_vae):
    _, model = linear_vae
    exact = model.elbo()
    true_mean, true_log_var = model.posterior_mean, model.posterior_log_var
    model.posterior_mean, model.posterior_log_var = true_mean + 0.1, true_log_var + 0.3
    gap = fastvae.kl_normal(model.posterior_mean, model.posterior_log_var, true_mean, true_log_var).mean()
    assert (exact - model.elbo()).item() == pytest.approx(gap.item(), rel=1e-9)


@pytest.mark.not_interpreted
def test_sticking_the_landing_has_no_noise_at_the_exact_posterior(linear_vae):
    """Roeder et al. 2017: with q's density detached, the encoder's gradient is zero sample by sample."""
    _, model = linear_vae
    mean = model.posterior_mean.clone().requires_grad_()
    log_var = model.posterior_log_var.clone().requires_grad_()
    z = fastvae.rsample(mean, log_var, seed=3)
    log_qz = fastvae.gaussian_log_prob(z, mean.detach(), log_var.detach(), event_ndim=1)
    log_pz = fastvae.gaussian_log_prob(z, torch.zeros_like(z), 0.0, event_ndim=1)
    objective = (model.log_px(z) + log_pz - log_qz).sum()
    scale = max(g.abs().max() for g in torch.autograd.grad(log_qz.sum(), (mean, log_var), retain_graph=True))
    for grad in torch.autograd.grad(objective, (mean, log_var)):
        assert grad.abs().max() < 1e-10 * scale
