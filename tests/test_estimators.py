"""Estimators of the encoder's gradient: one mean, and the order of variances that was published."""

from __future__ import annotations

import functools
import math

import pytest
import torch

import fastvae
from fastvae.models import VAE, Settings, build


class Posterior(VAE):
    """q(z|x) is two leaves, so that each row of the batch has a gradient, and an independent sample, of its own."""

    def __init__(self, model, mean, log_var):
        super().__init__(model.encoder, model.decoder, model.observation, model.latents)
        self.leaves = [t.detach().clone().requires_grad_() for t in (mean, log_var)]

    def encode(self, x):
        return tuple(self.leaves)


@pytest.fixture
def toy():
    return near_its_posterior()


@functools.cache
def near_its_posterior():
    """One image many times, and a posterior near the true one."""
    torch.manual_seed(0)
    model = build(Settings(image_shape=(1, 2, 4), latents=2, hidden=(8,))).double()
    x = (torch.rand(8, dtype=torch.float64) > 0.5).double().expand(20_000, 8)
    leaves = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([leaves], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        wide = Posterior(model, *leaves)
        wide.leaves = list(leaves[:, None].expand(2, 100, 2))
        wide(x[:100]).loss.backward()
        optimizer.step()
    near = leaves.detach() + 0.1
    return Posterior(model, *near[:, None].expand(2, len(x), 2)), x


def encoder_gradients(toy, **keywords):
    """[rows, 4]: independent draws of the gradient of one image's loss."""
    model, x = toy
    grads = torch.autograd.grad(model(x, **keywords).loss * len(x), model.leaves)
    return torch.cat(grads, 1)


def means_agree(a, b):
    """Within five standard errors of their difference."""
    error = ((a.var(0) + b.var(0)) / len(a)).sqrt()
    return ((a.mean(0) - b.mean(0)).abs() < 5 * error).all()


def test_of_the_elbo_all_estimators_have_one_mean_and_stl_less_variance_than_the_total_derivative(toy):
    """Roeder et al. 2017, section 3: less than with the score left in, near the true posterior."""
    closed, stl = (encoder_gradients(toy, estimator=e) for e in ("pathwise", "stl"))
    total = encoder_gradients(toy, objective="iwae", num_samples=1)
    assert means_agree(closed, stl)
    assert means_agree(closed, total)
    assert stl.var(0).sum() < total.var(0).sum() / 2
    assert torch.equal(*(encoder_gradients(toy, estimator=e, seed=1) for e in ("stl", "dreg")))


def test_of_the_bound_dreg_has_the_mean_of_pathwise_and_less_variance(toy):
    """Tucker et al. 2019, figure 1; "stl" is biased for K > 1 (section 4), as it must be."""
    given = {"objective": "iwae", "num_samples": 16}
    pathwise, stl, dreg = (encoder_gradients(toy, estimator=e, **given) for e in ("pathwise", "stl", "dreg"))
    assert means_agree(pathwise, dreg)
    assert dreg.var(0).sum() < stl.var(0).sum() < pathwise.var(0).sum()
    assert not means_agree(pathwise, stl)


def test_the_signal_of_dreg_grows_with_samples_where_the_pathwise_one_drowns(toy):
    """Rainforth et al. 2018: the signal-to-noise ratio of the encoder's gradient falls as 1 / sqrt(K); DReG's rises."""

    def ratio(estimator, samples):
        grads = encoder_gradients(toy, objective="iwae", estimator=estimator, num_samples=samples)
        return grads.mean(0).norm() / grads.var(0).sum().sqrt()

    assert ratio("pathwise", 32) < ratio("pathwise", 2)
    assert ratio("dreg", 32) > ratio("dreg", 2)


def test_the_decoder_gets_one_gradient_from_all_estimators():
    model, x = build(Settings(image_shape=(1, 2, 4), latents=2, hidden=(8,))).double(), torch.rand(5, 8)
    grads = [
        torch.autograd.grad(
            model(x, objective="iwae", num_samples=4, estimator=e, seed=1).loss, list(model.decoder.parameters())
        )
        for e in ("pathwise", "stl", "dreg")
    ]
    for others in zip(*grads, strict=True):
        for other in others[1:]:
            torch.testing.assert_close(other, others[0])


def test_dreg_is_the_sum_of_squared_weights(toy):
    """Tucker et al. 2019, eq. 8, with derivatives in z by hand."""
    model, x = toy
    model = Posterior(model, *(leaf[:3] for leaf in model.leaves))
    (mean, log_var), x = model.leaves, x[:3]
    terms = model(x, objective="iwae", estimator="dreg", num_samples=5, seed=3)
    found = torch.autograd.grad(terms.loss, (mean, log_var))
    z = fastvae.rsample(mean, log_var, num_samples=5, seed=3).detach().requires_grad_()
    normal = torch.distributions.Normal
    log_w = (
        torch.distributions.Bernoulli(logits=model.decode(z)[0].flatten(2)).log_prob(x).sum(-1)
        + normal(0, 1).log_prob(z).sum(-1)
        - normal(mean.detach(), (log_var.detach() / 2).exp()).log_prob(z).sum(-1)
    )
    assert terms.elbo.item() == pytest.approx((log_w.logsumexp(0) - math.log(5)).mean().item(), rel=1e-12)
    (of_z,) = torch.autograd.grad(log_w.sum(), z)
    weighted = log_w.softmax(0).square()[..., None] * of_z
    eps = (z - mean) / (log_var / 2).exp()
    torch.testing.assert_close(found[0], -weighted.sum(0) / 3)
    torch.testing.assert_close(found[1], -(weighted * eps * (log_var / 2).exp() / 2).sum(0).detach() / 3)
