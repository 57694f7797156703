"""Models and the training loop."""

from __future__ import annotations

import pytest
import torch

from fastvae.demo.ways import WAYS
from fastvae.models import MLPVAE
from fastvae.training.loop import train

fused = WAYS[2].objective()


def trained(seed=0, epochs=3, noise=0):
    torch.manual_seed(1)
    model = MLPVAE(16, 8, 2)
    images = (torch.rand(1, 16) > 0.5) * (0.9 + 0.1 * torch.rand(40, 16))
    torch.manual_seed(noise)
    return model, train(model, fused, images, epochs=epochs, batch_size=16, seed=seed)


def test_shapes():
    model, x = MLPVAE(16, 8, 2), torch.rand(5, 16)
    mean, log_var = model.encode(x)
    assert mean.shape == log_var.shape == (5, 2)
    assert model.decode(mean).shape == (5, 16)


def test_history_holds_an_entry_for_each_epoch():
    _, history = trained()
    assert len(history.elbo) == len(history.kl) == len(history.log_likelihood) == 3
    assert history.elbo == [a - b for a, b in zip(history.log_likelihood, history.kl, strict=True)]


def test_training_raises_the_elbo():
    _, history = trained(epochs=60)
    assert history.elbo[-1] > history.elbo[0] + 0.5


def test_seeds_decide_order_and_noise():
    weights = {key: trained(**kwargs)[0].mean.weight for key, kwargs in
               {"same": {}, "again": {}, "order": {"seed": 1}, "noise": {"noise": 1}}.items()}  # fmt: skip
    assert torch.equal(weights["same"], weights["again"])
    assert not torch.equal(weights["same"], weights["order"])
    assert not torch.equal(weights["same"], weights["noise"])


@pytest.mark.parametrize("batch_size", [0, 41])
def test_batch_size_is_checked_before_work(batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}"):
        train(MLPVAE(16, 8, 2), fused, torch.rand(40, 16), epochs=1, batch_size=batch_size)
