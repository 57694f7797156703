"""Checkpoints: what goes in comes out; what is torn, foreign or of another model is one line, and nothing is lost."""

from __future__ import annotations

import resource
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from fastvae.models import Settings, build
from fastvae.training import checkpoint, history
from fastvae.training.average import Average
from fastvae.training.checkpoint import Checkpoint
from fastvae.training.directory import check_unused, claimed
from fastvae.training.errors import CheckpointError, TrainingError
from fastvae.training.loop import adam

SETTINGS = Settings(image_shape=(1, 3, 4), latents=2, hidden=(5,))


def stepped(steps=3):
    torch.manual_seed(0)
    model = build(SETTINGS)
    optimizer = adam(model)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.rand(4, 1, 3, 4)).loss.backward()
        optimizer.step()
    return model, optimizer


def saved(path, model, optimizer, **about):
    parts = {"model": model.state_dict(), "optimizer": checkpoint.optimizer_tensors(optimizer)}
    tensors = {f"{part}.{name}": t for part, values in parts.items() for name, t in values.items()}
    data = Checkpoint(7, 2, SETTINGS.as_dict(), {"lr": 0.5}, tensors=tensors)
    checkpoint.save(path, replace(data, **about))
    return checkpoint.load(path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / checkpoint.NAME


def test_what_goes_in_comes_out(path):
    model, optimizer = stepped()
    found = saved(path, model, optimizer, skipped=1)
    assert (found.step, found.epoch, found.skipped, found.arguments) == (7, 2, 1, {"lr": 0.5})
    assert Settings.from_dict(found.model) == SETTINGS
    other, of_other = stepped(0)
    checkpoint.load_weights(other, found.part("model"), path)
    checkpoint.load_optimizer(of_other, found.part("optimizer"), path)
    for m, o in ((model, optimizer), (other, of_other)):  # the next step is the same
        o.zero_grad()
        m(torch.linspace(0, 1, 48).reshape(4, 1, 3, 4), seed=1).loss.backward()
        o.step()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_is_safetensors_and_no_pickle(path):
    saved(path, *stepped())
    tensors = safetensors.torch.load(path.read_bytes())
    assert {name.partition(".")[0] for name in tensors} == {"model", "optimizer"}


def test_random_states_come_back(path):
    states = checkpoint.rng_tensors()
    drawn = torch.rand(5)
    checkpoint.load_rng(states)
    assert torch.equal(torch.rand(5), drawn)


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_torn_file(path, size):
    saved(path, *stepped())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="no whole checkpoint") as raised:
        checkpoint.load(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_foreign_files(path, tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of fastvae's"):
        checkpoint.load(path)
    safetensors.torch.save_file({"a": torch.zeros(3)}, path, {"fastvae": "{"})
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        checkpoint.load(path)
    safetensors.torch.save_file({"a": torch.zeros(3)}, path, {"fastvae": '{"format": 2, "version": "9.0"}'})
    with pytest.raises(CheckpointError, match=r"of a later fastvae, 9\.0"):
        checkpoint.load(path)
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        checkpoint.load(path)
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.locate(tmp_path / "none")


def test_weights_of_another_model(path):
    found = saved(path, *stepped())
    for settings, message in (
        (replace(SETTINGS, hidden=(6,)), r"is \[5\], the model's \[6\]"),
        (replace(SETTINGS, hidden=(5, 5)), "lacks weights"),
        (replace(SETTINGS, likelihood="gaussian", variance="shared"), "lacks weights observation.log_var"),
    ):
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load_weights(build(settings), found.part("model"), path)
    other = build(replace(SETTINGS, hidden=(6,)))
    with pytest.raises(CheckpointError, match="of another model"):
        checkpoint.load_optimizer(adam(other), found.part("optimizer"), path)
    with pytest.raises(CheckpointError, match="state is of 8 parameters, not 4"):
        checkpoint.load_optimizer(adam(other.encoder), found.part("optimizer"), path)


def test_a_full_disk_leaves_the_last_checkpoint(path):
    model, optimizer = stepped()
    saved(path, model, optimizer)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            saved(path, model, optimizer, step=8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.filename == str(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_metrics_are_kept_to_an_epoch_and_a_torn_line_is_none(tmp_path):
    path = tmp_path / history.NAME
    for epoch in (1, 2, 3):
        history.append(path, {"epoch": epoch, "elbo": -1.5 if epoch < 3 else float("nan")})
    assert history.read(path)[2] == {"epoch": 3, "elbo": None}
    with path.open("a") as file:
        file.write('{"epoch": 4, "el')
    assert [metrics["epoch"] for metrics in history.read(path)] == [1, 2, 3]
    assert history.keep(path, 2) == [{"epoch": epoch, "elbo": -1.5} for epoch in (1, 2)]
    history.append(path, {"epoch": 3})
    assert path.read_text() == '{"epoch": 1, "elbo": -1.5}\n{"epoch": 2, "elbo": -1.5}\n{"epoch": 3}\n'


def test_a_directory_has_one_run_and_one_process(path):
    check_unused(path.parent)
    with claimed(path.parent, ()):
        with pytest.raises(TrainingError, match="another process trains here"), claimed(path.parent, ()):
            pass
        path.write_bytes(b"a run's")
    with pytest.raises(TrainingError, match="holds a run"):
        check_unused(path.parent)
    for left in (".checkpoint-123.safetensors", ".metrics-123.jsonl", ".curves-123.png"):
        path.with_name(left).write_bytes(b"a killed process's")
    with claimed(path.parent, ("curves.png",)):
        assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == b"a run's"


def test_the_average_follows_the_weights():
    """Against the recursion in float64: of steps with decay (1 + n) / (10 + n), and `decay` once that is larger."""
    model = build(SETTINGS)
    average, wanted = Average(model, 0.5), [p.detach().double() for p in model.parameters()]
    for step in range(12):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        average.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = [
            decay * w + (1 - decay) * p.detach().double() for w, p in zip(wanted, model.parameters(), strict=True)
        ]
    for mine, w in zip(average.model.parameters(), wanted, strict=True):
        torch.testing.assert_close(mine.double(), w, rtol=1e-5, atol=1e-5)  # a dozen roundings of float32
