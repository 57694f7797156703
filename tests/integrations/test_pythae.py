"""pythae's models, patched, against themselves."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from fastvae.integrations import pythae as fast

pytest.importorskip("pythae", reason="pythae is not installed: make test-integrations")

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "pythae" / "train.py"))


@pytest.fixture(autouse=True)
def _one_epoch(monkeypatch):
    monkeypatch.setitem(SCRIPT["train"].__globals__, "EPOCHS", 1)


@pytest.mark.parametrize("name", SCRIPT["MODELS"])
def test_training_is_the_same(name):
    before, _ = SCRIPT["train"](name)
    with fast.patch(noise="torch"):
        after, _ = SCRIPT["train"](name)
    assert after == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("name", SCRIPT["MODELS"])
def test_every_loss_and_gradient_is_the_same(name):
    torch.manual_seed(1)
    model, data = SCRIPT["MODELS"][name](), {"data": torch.rand(6, *SCRIPT["SHAPE"])}

    def step():
        torch.manual_seed(2)
        output = model(data)
        grads = torch.autograd.grad(output.loss, list(model.parameters()), allow_unused=True)
        return [output.loss, output.recon_loss, output.reg_loss, *(g for g in grads if g is not None)]

    before = step()
    with fast.patch():
        after = step()
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)


def test_noise_of_a_stream_of_its_own():
    model = SCRIPT["MODELS"]["VAE, mse"]()
    with fast.patch(noise="fastvae"):
        z, eps = model._sample_gauss(torch.zeros(500, 8), torch.full((500, 8), 2.0))
        assert model.get_nll(torch.rand(2, *SCRIPT["SHAPE"]), n_samples=4, batch_size=2) > -1e4
    torch.testing.assert_close(z, 2 * eps)
    assert abs(eps.mean()) < 5 / eps.numel() ** 0.5
    assert abs(eps.square().mean() - 1) < 5 * (2 / eps.numel()) ** 0.5


def test_all_is_put_back():
    from pythae.models import IWAE, VAE

    before = [{**vars(model)} for model in (VAE, IWAE)]
    with fast.patch() as patch:
        assert [vars(model) for model in (VAE, IWAE)] != before
    assert [vars(model) for model in (VAE, IWAE)] == before
    assert len(patch.replaced) == 4


def test_the_script_prints_both(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py"])
    monkeypatch.setitem(SCRIPT["main"].__globals__, "MODELS", {"VAE, mse": SCRIPT["MODELS"]["VAE, mse"]})
    SCRIPT["main"]()
    out = capsys.readouterr().out
    assert "pythae: replaced pythae.models.vae.vae_model.VAE._sample_gauss, " in out
    assert "VAE, mse patched: losses " in out
