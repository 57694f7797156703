"""The training loop: what a step changes, and what it says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fastvae.demo.ways import WAYS
from fastvae.models import MLPVAE
from fastvae.training.average import Average
from fastvae.training.batches import Batches
from fastvae.training.errors import BadBatchError, TrainingError
from fastvae.training.loop import NAMES, Trainer, adam, run, train
from fastvae.training.schedules import beta, cosine

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


# --- one step ---


def linear_model():
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    model.weight.requires_grad_(False)
    return model


@pytest.mark.parametrize(("clip", "length"), [(None, 10.0), (20.0, 10.0), (0.5, 0.5)])
def test_a_gradient_is_no_longer_than_clip(clip, length):
    model = linear_model()
    loss = lambda m, x, step: Terms((m.bias * x).sum())  # noqa: E731
    trainer = Trainer(model, loss, torch.optim.SGD([model.bias], 1.0), clip=clip, guarded=False)
    said = trainer.step(torch.tensor([[6.0, 8.0]]), 0)
    assert said[NAMES.index("gradient")].item() == pytest.approx(10)
    torch.testing.assert_close(model.bias, -torch.tensor([0.6, 0.8]) * length)


class Terms:
    """A loss alone."""

    def __init__(self, loss):
        self.loss, self.log_likelihood, self.kl = loss, -loss, torch.zeros(())


def test_the_schedule_decides_the_rate_of_a_step():
    model = linear_model()
    optimizer = torch.optim.SGD([model.bias], 123.0)
    loss = lambda m, x, step: Terms(m.bias.sum())  # noqa: E731
    trainer = Trainer(model, loss, optimizer, schedule=lambda step: 10.0**step, guarded=False)
    for step in range(3):
        trainer.step(torch.zeros(1, 2), step)
    assert model.bias.tolist() == [-111, -111]


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_changes_nothing_where_it_is_guarded(guarded, value):
    model = MLPVAE(16, 8, 2)
    trainer = Trainer(model, fused, adam(model), average=Average(model, 0.9), guarded=guarded)
    good, bad = torch.rand(4, 16), torch.rand(4, 16)
    bad[1, 3] = value
    trainer.step(good, 0)
    before = [p.clone() for p in (*model.parameters(), *trainer.average.model.parameters())]
    assert not trainer.step(bad, 0).isfinite().all()
    after = [*model.parameters(), *trainer.average.model.parameters()]
    if not guarded:
        assert any(p.isnan().any() for p in after)
        return
    weights = len(before) // 2
    assert all(torch.equal(a, b) for a, b in zip(before[:weights], after[:weights], strict=True))
    assert all(p.isfinite().all() for p in after)
    assert trainer.step(good, 1).isfinite().all()
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_bad_step_is_named_and_may_be_passed_over():
    images = torch.rand(12, 16)
    images[7] = math.nan
    batches = Batches(images, 4, seed=0)
    bad = next(step for step in range(3) if 7 in batches.index(step))
    model = MLPVAE(16, 8, 2)
    trainer = Trainer(model, fused, adam(model))
    with pytest.raises(BadBatchError, match=rf"step {bad}: log_likelihood is not finite .* nor are images 7 of"):
        list(run(trainer, batches, first=0, last=3))
    steps = list(run(trainer, batches, first=0, last=3, skip_bad=True))
    assert [bool(step.bad) for step in steps] == [step.number == bad for step in steps]


# --- what follows from the step ---


def test_the_cosine_goes_from_the_rate_to_nothing():
    rate = cosine(0.5, 10)
    assert rate(0) == 0.5
    assert rate(5) == pytest.approx(0.25)
    assert rate(10) == rate(99) == pytest.approx(0)
    assert all(rate(step) > rate(step + 1) for step in range(10))


def test_beta_is_a_number_or_a_schedule():
    assert beta("0.25") == 0.25
    assert [beta("linear:4")(step).item() for step in (0, 1, 4, 9)] == [0, 0.25, 1, 1]
    assert [beta("cyclical:16")(step).item() for step in (0, 1, 2, 3, 4, 5)] == [0, 0.5, 1, 1, 0, 0.5]
    for text in ("", "half", "linear:", "linear:-3", "cyclical:x", "nan", "inf"):
        with pytest.raises(TrainingError, match=f"--beta {text}: wanted a number"):
            beta(text)
