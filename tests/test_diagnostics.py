"""What diagnostics say of models: of a linear one the truth is known, of a trained one what must hold."""

from __future__ import annotations

import copy
import functools
import math
import warnings

import pytest
import torch
from sklearn.datasets import load_digits
from test_model_objectives import data, exact, log_marginal  # noqa: F401

from fastvae.models import Settings, build, diagnostics


@pytest.fixture
def trained():
    return a_trained_model()


@functools.cache
def a_trained_model():
    """A VAE of digits after some epochs, and what it was not trained on."""
    torch.manual_seed(0)
    x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    model = build(Settings(image_shape=(1, 8, 8), latents=8, hidden=(64,)))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(25):
        for batch in x[:1500].split(100):
            optimizer.zero_grad()
            model(batch).loss.backward()
            optimizer.step()
    return model, x[1500:]


@pytest.mark.parametrize("max_rows", [3, 10, 64, None])
def test_of_a_linear_model_it_is_the_likelihood_however_it_is_cut(exact, max_rows):  # noqa: F811
    _, model = exact
    found = diagnostics.importance_sampled_log_likelihood(model, data()[:20], 10, max_rows=max_rows)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.tensor(log_marginal(model, data()[:20])), rtol=1e-12, atol=0)


def test_chunks_are_independent_samples(trained):
    """A sum over chunks that repeat each other would be that of one chunk: lower, by far more than the noise."""
    model, x = copy.deepcopy(trained[0]), trained[1][:50]
    with torch.no_grad():
        model.encoder[-1].bias[8:] += 1  # a posterior too wide by far
    whole, cut = (
        diagnostics.importance_sampled_log_likelihood(model, x, 64, max_rows=r, seed=1).mean() for r in (64 * 50, 4)
    )
    repeated = diagnostics.importance_sampled_log_likelihood(model, x, 4, seed=1).mean()
    assert abs(whole - cut) < 0.2 * (whole - repeated)


def test_the_bound_rises_with_the_samples(trained):
    """Burda et al. 2016, theorem 1; from the ELBO towards the likelihood that 500 samples estimate.

    Each bound is a mean over 3,000 draws or more of log-weights that spread by half a nat: to 0.01 nats.
    """
    model, x = trained
    with torch.no_grad():
        elbo = model(x, num_samples=50).elbo
        bounds = [model(x.repeat(10, 1), objective="iwae", num_samples=k).elbo for k in (2, 5, 25)]
    values = torch.stack([elbo, *bounds])
    assert (values.diff() > 0.03).all(), values
    likelihood = diagnostics.importance_sampled_log_likelihood(model, x[:100], 500).mean()
    with torch.no_grad():
        assert likelihood > model(x[:100], num_samples=50).elbo + 0.15


def test_it_runs_in_evaluation_and_leaves_training_on(trained):
    _, x = trained
    model = build(Settings(image_shape=(1, 8, 8), likelihood="gaussian", variance="optimal", hidden=(8,)))
    model(x)
    kept = model.observation.log_var.clone()
    diagnostics.importance_sampled_log_likelihood(model, x[:4], 3)
    assert model.training
    assert torch.equal(model.observation.log_var, kept)


@pytest.mark.parametrize(("keyword", "value"), [("num_samples", 0), ("max_rows", 0)])
def test_wrong_numbers_are_named(trained, keyword, value):
    model, x = trained
    with pytest.raises(ValueError, match=f"{keyword} must be at least 1, got 0"):
        diagnostics.importance_sampled_log_likelihood(model, x, **{keyword: value})


@pytest.mark.parametrize("size", [1, 7, 297])
def test_latent_statistics_are_those_of_all_batches_together(trained, size):
    model, x = trained
    found = diagnostics.latent_statistics(model, x.split(size))
    with torch.no_grad():
        mean, log_var = (t.double() for t in model.encode(x))
    torch.testing.assert_close(found.variance, mean.var(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.kl, (mean.square() + log_var.exp() - 1 - log_var).mean(0) / 2, rtol=1e-5, atol=0)


def test_of_nothing_there_are_no_statistics(trained):
    with pytest.raises(ValueError, match="batches must hold at least one image"):
        diagnostics.latent_statistics(trained[0], [])


def test_collapsed_latents_are_named(trained):
    model, x = trained
    used = diagnostics.latent_statistics(model, [x])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = [i for i in range(8) if used.active[i]]
        assert diagnostics.warn_of_collapse(diagnostics.LatentStatistics(used.kl[kept], used.variance[kept])) == []
    head = model.encoder[-1]
    before = {name: p.clone() for name, p in head.named_parameters()}
    with torch.no_grad():
        for row in (2, 5, 8 + 2, 8 + 5):  # mean 0, log-variance 0
            head.weight[row], head.bias[row] = 0, 0
    try:
        with pytest.warns(diagnostics.PosteriorCollapseWarning, match=r"posterior collapse: \d of 8 latents .*2, .*5"):
            collapsed = diagnostics.warn_of_collapse(diagnostics.latent_statistics(model, [x]))
        assert set(collapsed) - {2, 5} == {i for i in range(8) if not used.active[i]} - {2, 5}
        assert {2, 5} <= set(collapsed)
        assert diagnostics.latent_statistics(model, [x]).kl[[2, 5]].tolist() == [0, 0]
    finally:
        head.load_state_dict(before)


def test_bits_per_dim():
    """Uniform over 256 levels: 8 bits, as a density over [0, 1] and as a probability."""
    assert diagnostics.bits_per_dim(torch.zeros(()), 784, levels=256) == 8
    assert diagnostics.bits_per_dim(torch.tensor(-784 * math.log(256.0)), 784).item() == pytest.approx(8)
    assert diagnostics.bits_per_dim(torch.tensor(-784 * math.log(2.0)), 784).item() == pytest.approx(1)
