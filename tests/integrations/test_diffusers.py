"""diffusers' autoencoders, patched, against themselves."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from fastvae import distributions
from fastvae.integrations import diffusers as fast

theirs = pytest.importorskip("diffusers", reason="diffusers is not installed: make test-integrations")

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "diffusers" / "encode.py"))


@pytest.fixture
def vae():
    return SCRIPT["model"]()


@pytest.fixture
def images():
    return torch.rand(2, 3, 32, 32)


def test_encoding_is_the_same(vae, images):
    before = SCRIPT["encode"](vae, images)
    with fast.patch(noise="torch"):
        after = SCRIPT["encode"](vae, images)
    assert torch.equal(after["mode"], before["mode"])
    assert torch.equal(after["sample"], before["sample"])
    for name in ("kl", "nll"):  # both are rounded
        torch.testing.assert_close(after[name], before[name], rtol=1e-6, atol=0)


def test_training_is_the_same(vae, images):
    before = SCRIPT["train"](vae, images, 3)
    with fast.patch():
        after = SCRIPT["train"](vae, images, 3)
    assert len(set(before)) == 3
    assert after == pytest.approx(before, rel=1e-5)


def test_noise_of_a_stream_of_its_own(vae, images):
    before = SCRIPT["encode"](vae, images)
    with fast.patch(noise="fastvae"), torch.no_grad():
        after, posterior = SCRIPT["encode"](vae, images), vae.encode(images).latent_dist
    assert not torch.equal(after["sample"], before["sample"])
    eps = (after["sample"] - posterior.mean) / posterior.std
    assert abs(eps.mean()) < 5 / eps.numel() ** 0.5
    assert abs(eps.square().mean() - 1) < 5 * (2 / eps.numel()) ** 0.5


def test_posteriors_outlive_the_patch(vae, images):
    class_ = theirs.models.autoencoders.vae.DiagonalGaussianDistribution
    modules = [theirs.models.autoencoders.vae, theirs.models.autoencoders.autoencoder_kl]
    first = vae.encode(images).latent_dist
    with fast.patch() as patch:
        second = vae.encode(images).latent_dist
        torch.testing.assert_close(first.kl(), second.kl())
        torch.testing.assert_close(second.kl(second), torch.zeros(2))
    assert isinstance(second, (distributions.DiagonalGaussian, class_))
    assert isinstance(second, class_)
    assert type(vae.encode(images).latent_dist) is class_
    assert all(module.DiagonalGaussianDistribution is class_ for module in modules)
    torch.testing.assert_close(first.kl(), second.kl())
    assert "diffusers.models.autoencoders.autoencoder_kl.DiagonalGaussianDistribution" in patch.replaced


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("noise", ["torch", "fastvae"])
def test_oobleck(noise, deterministic):
    class_ = theirs.models.autoencoders.autoencoder_oobleck.OobleckDiagonalGaussianDistribution
    parameters = torch.randn(2, 6, 40, requires_grad=True)
    before = class_(parameters, deterministic), class_(parameters.flip(0), deterministic)
    with fast.patch(noise):
        new = theirs.models.autoencoders.autoencoder_oobleck.OobleckDiagonalGaussianDistribution
        after = new(parameters, deterministic), new(parameters.flip(0), deterministic)
    samples = [q.sample(torch.Generator().manual_seed(1)) for q in (before[0], after[0])]
    assert torch.equal(*samples) == (noise == "torch")
    torch.testing.assert_close(after[0].std, before[0].std)
    for others in ((None, None), (before[1], after[1])):
        found, wanted = after[0].kl(others[1]), before[0].kl(others[0])
        torch.testing.assert_close(found.reshape(()), wanted.reshape(()), rtol=1e-6, atol=1e-6)
        if not deterministic:
            grads = [torch.autograd.grad(kl, parameters, retain_graph=True)[0] for kl in (found, wanted)]
            torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-6)


def test_the_script_prints_both(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["encode.py"])
    SCRIPT["main"]()
    out = capsys.readouterr().out
    assert "diffusers: replaced DiagonalGaussianDistribution in " in out
    assert "sample: " in out
    assert "largest difference 0.0e+00" in out
