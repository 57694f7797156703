"""Pyro's distributions and SVI, patched, against themselves."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from fastvae.integrations import pyro as fast

pyro = pytest.importorskip("pyro", reason="pyro-ppl is not installed: make test-integrations")

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "pyro" / "train.py"))
dist = pyro.distributions


@pytest.mark.parametrize("name", SCRIPT["ELBOS"])
def test_training_is_the_same(name):
    before, _ = SCRIPT["train"](name, steps=4)
    with fast.patch(noise="torch"):
        after, _ = SCRIPT["train"](name, steps=4)
    assert len(set(before)) == 4
    assert after == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("sample_shape", [(), (3,), (2, 3), (0,)], ids=str)
def test_samples_are_the_same(sample_shape):
    q = dist.Normal(torch.randn(4, 5), torch.rand(4, 5) + 0.1).expand((2, 4, 5)).to_event(2)

    def draw():
        pyro.set_rng_seed(1)
        return q.rsample(sample_shape), q.sample(sample_shape), torch.rand(3)

    before = draw()
    with fast.patch():
        after = draw()
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)
    assert torch.equal(after[2], before[2])  # the generator is where it was


CASES = {
    "normal": lambda: (dist.Normal(torch.randn(4, 5), torch.rand(4, 5) + 0.1), torch.randn(3, 4, 5)),
    "bernoulli": lambda: (dist.Bernoulli(logits=torch.randn(4, 5)), torch.rand(4, 5).round()),
    "soft": lambda: (dist.Bernoulli(logits=torch.randn(4, 5), validate_args=False), torch.rand(4, 5)),
    "laplace": lambda: (dist.Laplace(torch.randn(4, 5), torch.rand(4, 5) + 0.1), torch.randn(4, 5)),
}


@pytest.mark.parametrize("ndims", [0, 1, 2])
@pytest.mark.parametrize("case", CASES)
def test_log_prob_is_the_same(case, ndims):
    q, value = CASES[case]()
    q = q.to_event(ndims).mask(torch.tensor(True))
    before = q.log_prob(value)
    with fast.patch():
        torch.testing.assert_close(q.log_prob(value), before, rtol=2e-6, atol=2e-6)


def test_values_are_checked_as_before():
    with fast.patch(), pytest.raises(ValueError, match="within the support"):
        dist.Bernoulli(torch.rand(2), validate_args=True).log_prob(torch.full((2,), 3.0))


def test_divergences_are_the_same():
    from pyro.infer import trace_mean_field_elbo as module

    p, q = (dist.Normal(torch.randn(4, 5), torch.rand(4, 5) + 0.1) for _ in range(2))
    bernoullis = [dist.Bernoulli(logits=torch.randn(4, 5)).to_event(1) for _ in range(2)]
    pairs = [(p, q), (p.to_event(1), q.to_event(1)), (p.to_event(2), q.to_event(2)), bernoullis]
    before = [module.kl_divergence(*pair) for pair in pairs]
    with fast.patch():
        after = [module.kl_divergence(*pair) for pair in pairs]
    torch.testing.assert_close(after, before, rtol=2e-6, atol=2e-6)


def test_noise_of_a_stream_of_its_own():
    q = dist.Normal(torch.zeros(500, 8), torch.ones(500, 8))
    with fast.patch(noise="fastvae"):
        for draw in (q.rsample, q.sample):
            pyro.set_rng_seed(1)
            eps = draw()
            pyro.set_rng_seed(1)
            assert torch.equal(draw(), eps)
            assert abs(eps.mean()) < 5 / eps.numel() ** 0.5
            assert abs(eps.square().mean() - 1) < 5 * (2 / eps.numel()) ** 0.5


def test_all_is_put_back():
    kinds = (dist.Normal, dist.Bernoulli, dist.torch.Independent)
    before = [{**vars(kind)} for kind in kinds]
    with fast.patch() as patch:
        assert "pyro.distributions.torch.Normal.rsample" in patch.replaced
    assert [vars(kind) for kind in kinds] == before


def test_the_script_prints_both(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py"])
    SCRIPT["main"]()
    out = capsys.readouterr().out
    assert "pyro-ppl: replaced " in out
    assert "TraceMeanField_ELBO patched: losses " in out
