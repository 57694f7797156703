"""scvi-tools' distributions and model, patched, against themselves."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from fastvae.integrations import scvi as fast

scvi = pytest.importorskip("scvi", reason="scvi-tools is not installed: make test-integrations")

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "scvi" / "train.py"))
dist = scvi.distributions
SHAPE = (16, 40)


def parameters():
    mu, theta, logits = torch.rand(SHAPE) * 4 + 0.05, torch.rand(SHAPE[1:]) * 3 + 0.2, torch.randn(SHAPE)
    return [t.requires_grad_() for t in (mu, theta, logits)]


CASES = {
    "nb": lambda mu, theta, logits: dist.NegativeBinomial(mu=mu, theta=theta),
    "zinb": lambda mu, theta, logits: dist.ZeroInflatedNegativeBinomial(mu=mu, theta=theta, zi_logits=logits),
    "nb of each cell": lambda mu, theta, logits: dist.NegativeBinomial(mu=mu, theta=theta.expand(SHAPE).clone()),
    "nb by logits": lambda mu, theta, logits: dist.NegativeBinomial(total_count=theta, logits=logits),
    "mixture": lambda mu, theta, logits: dist.NegativeBinomialMixture(mu, mu.flip(0) * 3, theta, logits),
    "poisson": lambda mu, theta, logits: dist.Poisson(mu),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32])
def test_values_and_gradients_are_the_same(case, dtype):
    leaves, x = parameters(), torch.poisson(torch.full(SHAPE, 1.5)).to(dtype)

    def both():
        value = CASES[case](*leaves).log_prob(x)
        return value, torch.autograd.grad(value.sum(), leaves, allow_unused=True)

    (theirs, wanted) = both()
    with fast.patch():
        (ours, found) = both()
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)  # the library's epsilons
    for grad, truth in zip(found, wanted, strict=True):
        assert (grad is None) == (truth is None)
        if grad is not None:
            assert (grad - truth).norm() <= 1e-3 * truth.norm()


def test_a_genes_dispersion_is_not_expanded():
    mu, theta, _ = parameters()
    q = dist.ZeroInflatedNegativeBinomial(mu=mu, theta=theta, zi_logits=torch.zeros(SHAPE))
    assert q.theta.shape == SHAPE
    assert fast._before_expansion(q.theta) is theta
    other = torch.rand(SHAPE)
    assert fast._before_expansion(other) is other
    assert fast._before_expansion(other[:1].expand(SHAPE)).shape == SHAPE


def test_values_out_of_the_support_are_told():
    with fast.patch(), pytest.warns(UserWarning, match="within the support"):
        dist.NegativeBinomial(mu=torch.ones(2), theta=torch.ones(2), validate_args=True).log_prob(
            torch.tensor([-1.0, 1])
        )


@pytest.mark.parametrize("likelihood", ["zinb", "nb", "poisson"])
def test_training_is_the_same(likelihood):
    before = SCRIPT["train"](likelihood, genes=60, epochs=2)
    with fast.patch() as patch:
        after = SCRIPT["train"](likelihood, genes=60, epochs=2)
    assert len(set(before.train)) == len(before.train)
    assert after.train == pytest.approx(before.train, rel=1e-4)
    assert after.validation == pytest.approx(before.validation, rel=1e-4)
    assert len(patch.replaced) == 4
