"""`fastvae train`, `sample` and `evaluate` as a user meets them; what goes wrong costs nothing that was there."""

from __future__ import annotations

import json
import os
import resource
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import fastvae
from fastvae import cli
from fastvae.training import checkpoint, plots, setup, show
from fastvae.training.arguments import Arguments
from fastvae.training.batches import Batches, Part
from fastvae.training.data import open_dataset
from fastvae.training.errors import TrainingError
from fastvae.training.objective import part_of_noise
from fastvae.training.parallel import ALONE
from fastvae.training.progress import Progress

TINY = ("--hidden", "16", "--latents", "3", "--epochs", "3", "--batch-size", "8", "--device", "cpu")
STEPS = 4  # of an epoch of `images`


@pytest.fixture(autouse=True)
def _small_plots(monkeypatch):
    monkeypatch.setattr(plots, "DPI", 20)


@pytest.fixture
def run(capsys):
    def call(*arguments):
        """(exit status, stdout, lines of stderr)"""
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as error:
            status = error.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err.splitlines()

    return call


@pytest.fixture
def images(tmp_path):
    """36 training images of 4x6 and 4 to test."""
    values = np.random.default_rng(0).random((40, 4, 6), np.float32) ** 3
    np.save(tmp_path / "images.npy", values)
    return f"npy:{tmp_path / 'images.npy'}"


@pytest.fixture
def trained(run, images, tmp_path):
    assert run("train", "--data", images, *TINY, "--out", tmp_path / "run")[0] == 0
    return tmp_path / "run"


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def same(a, b):
    """Metrics, and every bit of the checkpoint."""
    return metrics(a) == metrics(b) and (a / checkpoint.NAME).read_bytes() == (b / checkpoint.NAME).read_bytes()


# --- what they leave ---


def test_train_leaves_its_files(trained):
    names = {checkpoint.NAME, "metrics.jsonl", *show.ALWAYS, *show.OF_IMAGES}
    assert {path.name for path in trained.iterdir()} - {"tensorboard"} == names
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, STEPS), (2, 2 * STEPS), (3, 3 * STEPS)]
    for line in lines:
        assert set(line) == {"epoch", "step", "elbo", "log_likelihood", "kl", "images_per_second"}
        assert line["elbo"] == pytest.approx(line["log_likelihood"] - line["kl"])
        assert line["images_per_second"] > 0


def test_two_latents_have_a_plane(run, tmp_path):
    assert run("train", "--data", "digits", *TINY, "--latents", "2", "--epochs", 1, "--out", tmp_path)[0] == 0
    for name in show.OF_TWO_LATENTS:
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100


OTHERS = {
    "iwae": ("--objective", "iwae", "--samples", "4", "--estimator", "dreg", "--beta", "linear:5"),
    "stl": ("--estimator", "stl", "--samples", "2", "--beta", "cyclical:8", "--clip", "1"),
    "free bits": ("--free-bits", "0.1", "--free-bits-over", "latent", "--ema", "0"),
    "gaussian": ("--likelihood", "gaussian", "--capacity", "2", "--capacity-over", "sample", "--amp", "bf16"),
    "optimal": ("--likelihood", "gaussian", "--variance", "optimal"),
    "linear": ("--model", "linear", "--variance", "per-pixel"),
    "conv": ("--model", "conv", "--width", "8", "--binarize"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_and_objectives_train_and_resume_alike(run, images, tmp_path, name, monkeypatch):
    flags = ("train", "--data", images, *TINY, *OTHERS[name])
    assert run(*flags, "--out", tmp_path / "whole")[0] == 0
    assert all(np.isfinite(line["elbo"]) for line in metrics(tmp_path / "whole"))
    interrupt_after(monkeypatch, 6, signal.SIGTERM)
    assert run(*flags, "--out", tmp_path / "half")[0] == 143
    assert run("train", "--resume", "--out", tmp_path / "half")[0] == 0
    assert same(tmp_path / "whole", tmp_path / "half")


def test_sample_draws_a_grid(run, trained, tmp_path):
    for name, flags in {"a": (), "b": ("--seed", 0), "c": ("--seed", 1), "d": ("--interpolate",)}.items():
        status, out, err = run("sample", trained, "--out", tmp_path / f"{name}.png", "--n", 12, *flags)
        assert (status, err) == (0, [])
        assert str(tmp_path / f"{name}.png") in out
    pictures = {name: (tmp_path / f"{name}.png").read_bytes() for name in "abcd"}
    assert pictures["a"] == pictures["b"]
    assert len(set(pictures.values())) == 3
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width / picture.height == pytest.approx((4 * 7 - 1) / (3 * 5 - 1), rel=0.01)


def test_evaluate_says_what_a_model_is_worth(run, trained):
    status, out, _ = run("evaluate", trained, "--json", "--samples", 50)
    assert status == 0
    found = json.loads(out)
    assert list(found) == ["elbo", "log_likelihood", "kl", "active_units", "bits_per_dim"]
    assert found["log_likelihood"] > found["elbo"]
    assert found["bits_per_dim"] == pytest.approx(-found["log_likelihood"] / 24 / np.log(2))
    last = metrics(trained)[-1]  # of one sample of the four images
    assert found["kl"] == pytest.approx(last["kl"], rel=1e-5)
    assert found["elbo"] == pytest.approx(last["elbo"], abs=0.5)
    again = run("evaluate", trained / checkpoint.NAME, "--json", "--samples", 50)
    assert json.loads(again[1]) == found
    assert "active_units:" in run("evaluate", trained, "--samples", 5)[1]


def test_bits_of_grey_values_with_a_density(run, tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (40, 4, 6), np.uint8))
    flags = ("--data", f"npy:{tmp_path / 'a.npy'}", *TINY, "--likelihood", "gaussian", "--out", tmp_path / "run")
    assert run("train", *flags)[0] == 0
    found = json.loads(run("evaluate", tmp_path / "run", "--json", "--samples", 20)[1])
    assert found["bits_per_dim"] == pytest.approx(8 - found["log_likelihood"] / 24 / np.log(2))


# --- stopped, and gone on with ---


def interrupt_after(monkeypatch, step, number):
    """The signal comes once, after the step of that number."""
    update, sent = Progress.step, []

    def with_signal(self, said):
        update(self, said)
        if said.number == step and not sent:
            sent.append(os.kill(os.getpid(), number))

    monkeypatch.setattr(Progress, "step", with_signal)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("step", [0, 5, 2 * STEPS - 1])
def test_a_signal_saves_and_the_run_goes_on_to_the_same_bits(
    run, trained, images, tmp_path, monkeypatch, number, status, step
):
    before = signal.getsignal(number)
    interrupt_after(monkeypatch, step, number)
    got, _, err = run("train", "--data", images, *TINY, "--out", tmp_path / "b")
    assert got == status
    assert f"stopped by signal {number} after step {step + 1}; --resume goes on" in err[-1]
    assert signal.getsignal(number) == before
    assert checkpoint.load(tmp_path / "b" / checkpoint.NAME).step == step + 1
    assert not same(trained, tmp_path / "b")
    assert run("train", "--resume", "--out", tmp_path / "b")[0] == 0
    assert same(trained, tmp_path / "b")


def test_more_epochs_may_be_asked_for(run, trained):
    assert run("train", "--resume", "--epochs", 5, "--out", trained)[0] == 0
    assert [line["epoch"] for line in metrics(trained)] == [1, 2, 3, 4, 5]


def test_resume_where_nothing_is_begins(run, trained, images, tmp_path):
    assert run("train", "--data", images, *TINY, "--resume", "--out", tmp_path / "b")[0] == 0
    assert same(trained, tmp_path / "b")


# --- what is not finite ---


@pytest.fixture
def with_nan(tmp_path, images):
    """The number of a training image that holds a NaN, and the step that meets it first."""
    path = tmp_path / "nan.npy"
    values = np.load(tmp_path / "images.npy")
    data = open_dataset(images)
    number = 11
    values[int(data.train.images.chosen[number]), 1, 2] = np.nan
    np.save(path, values)
    batches = Batches(data.train.images, 8, seed=0)
    return f"npy:{path}", number, next(step for step in range(99) if number in batches.index(step))


def test_a_bad_batch_stops_the_run_and_is_named(run, with_nan, tmp_path):
    data, number, step = with_nan
    out = tmp_path / "run"
    status, _, err = run("train", "--data", data, *TINY, "--out", out)
    assert status == 2
    assert f"step {step}: log_likelihood is not finite" in err[-1]
    assert err[-1].endswith(f"nor are images {number} of the training data")
    found = checkpoint.load(out / checkpoint.NAME)
    assert found.step == step // STEPS * STEPS
    assert all(t.isfinite().all() for t in found.tensors.values() if t.is_floating_point())


def test_bad_batches_can_be_skipped_and_are_counted(run, with_nan, tmp_path):
    data, number, _ = with_nan
    status, out, _ = run("train", "--data", data, *TINY, "--skip-bad-batches", "--out", tmp_path / "run")
    assert status == 0
    batches = Batches(open_dataset(data).train.images, 8, seed=0)
    met = sum(number in batches.index(step) for step in range(3 * STEPS))
    assert f"bad batches that were skipped: {met}" in out
    assert met
    found = checkpoint.load(tmp_path / "run" / checkpoint.NAME)
    assert found.skipped == met
    assert found.tensors["optimizer.0.step"] == 3 * STEPS - met
    assert all(t.isfinite().all() for t in found.tensors.values() if t.is_floating_point())


# --- one line, and nothing lost ---


def one_line(run, *arguments):
    status, _, err = run(*arguments)
    assert (status, len(err)) == (2, 1), err
    return err[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epochs", "0"), "0 is not in 1 to"),
        (("--lr", "0"), "0 is not above 0"),
        (("--lr", "nan"), "nan is not above 0"),
        (("--ema", "1"), "1 is not at least 0 and less than 1"),
        (("--beta", "square:3"), "--beta square:3: wanted a number, linear:STEPS or cyclical:STEPS"),
        (("--beta", "linear:0"), "--beta linear:0"),
        (("--likelihood", "cauchy"), "invalid choice: 'cauchy'"),
        (("--variance", "shared"), "variance 'shared' is a Gaussian's"),
        (("--model", "linear", "--likelihood", "bernoulli"), "model 'linear' is Gaussian"),
        (("--batch-size", "37"), "batch_size is 37; wanted: 1 to the number of images, 36"),
        (("--estimator", "stl", "--free-bits", "1"), "free_bits is of the KL in closed form"),
        (("--data", "digit"), "wanted digits, mnist:DIR"),
        (("--hidden", "3,x"), "invalid"),
    ],
)
def test_a_wrong_argument_costs_nothing(run, images, tmp_path, flags, message):
    out = tmp_path / "run"
    assert message in one_line(run, "train", "--data", images, *TINY, "--out", out, *flags)
    assert not out.exists()


def test_values_outside_a_likelihood_are_found(run, tmp_path):
    np.save(tmp_path / "grey.npy", np.full((40, 4, 6), 200.0))
    flags = ("train", "--data", f"npy:{tmp_path / 'grey.npy'}", *TINY, "--out", tmp_path / "run")
    assert "values from 200 to 200; a bernoulli likelihood takes" in one_line(run, *flags)
    assert run(*flags, "--likelihood", "gaussian")[0] == 0


def test_data_is_wanted(run, tmp_path):
    assert "--data is wanted" in one_line(run, "train", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_run_is_not_overwritten(run, trained, images):
    before = {path: path.read_bytes() for path in trained.iterdir() if path.is_file()}
    assert "holds a run" in one_line(run, "train", "--data", images, *TINY, "--out", trained)
    for flags in (("--lr", "0.5"), ("--hidden", "17"), ("--likelihood", "gaussian"), ("--data", "digits")):
        message = one_line(run, "train", *flags, "--resume", "--out", trained)
        assert f"{flags[0]} {'(17,)' if flags[1] == '17' else flags[1]}: the run to resume has" in message
    assert {path: path.read_bytes() for path in trained.iterdir() if path.is_file()} == before


def test_a_checkpoint_that_is_none_is_left_alone(run, trained, tmp_path):
    path = trained / checkpoint.NAME
    torn = path.read_bytes()[:-7]
    path.write_bytes(torn)
    for command in (("train", "--resume", "--out"), ("evaluate",), ("sample", "--out", tmp_path / "a.png")):
        assert f"{path}: no whole checkpoint" in one_line(run, *command, trained)
    assert path.read_bytes() == torn
    assert "no checkpoint" in one_line(run, "evaluate", tmp_path)
    assert not (tmp_path / "a.png").exists()


SPOILED = {
    "unknown argument": lambda found: replace(found, arguments={**found.arguments, "paint": 1}),
    "no arguments": lambda found: replace(found, arguments={}),
    "unknown setting": lambda found: replace(found, model={**found.model, "paint": 1}),
    "no random state": lambda found: without(found, "rng.cpu"),
    "no optimiser": lambda found: without(found, "optimizer.3.exp_avg"),
    "no weights": lambda found: without(found, "average.encoder.1.weight"),
}


def without(found, name):
    return replace(found, tensors={key: t for key, t in found.tensors.items() if key != name})


@pytest.mark.parametrize("name", SPOILED)
def test_a_checkpoint_of_another_make_is_one_line(run, trained, name):
    path = trained / checkpoint.NAME
    checkpoint.save(path, SPOILED[name](checkpoint.load(path)))
    before = path.read_bytes()
    assert str(path) in one_line(run, "train", "--resume", "--epochs", 9, "--out", trained)
    if name in ("unknown argument", "no arguments", "unknown setting", "no weights"):
        assert str(path) in one_line(run, "evaluate", trained)
    assert path.read_bytes() == before


def test_data_that_changed_is_found(run, trained, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((40, 5, 6), np.float32))
    assert "images of [1, 5, 6], the run to resume has [1, 4, 6]" in one_line(
        run, "train", "--resume", "--out", trained
    )
    assert "images of [1, 5, 6], the model's are [1, 4, 6]" in one_line(run, "evaluate", trained)
    (tmp_path / "images.npy").unlink()
    assert "images.npy: No such file" in one_line(run, "evaluate", trained)


def test_a_disk_that_fills_keeps_the_last_checkpoint(run, images, tmp_path, monkeypatch):
    out, update = tmp_path / "run", Progress.epoch
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, metrics):
        update(self, metrics)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))

    monkeypatch.setattr(Progress, "epoch", fill)
    try:
        status, _, err = run("train", "--data", images, *TINY, "--out", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2
    assert err[-1].endswith(f"fastvae: {out / checkpoint.NAME}: File too large")
    assert checkpoint.load(out / checkpoint.NAME).step == STEPS
    monkeypatch.undo()
    assert run("train", "--resume", "--out", out)[0] == 0
    assert [line["epoch"] for line in metrics(out)] == [1, 2, 3]


def test_a_picture_has_a_picture_s_name(run, trained, tmp_path):
    assert "no picture's name" in one_line(run, "sample", trained, "--out", tmp_path / "grid.txt")
    assert not (tmp_path / "grid.txt").exists()


def test_a_gpu_that_is_not_there(run, images, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    flags = ("--data", images, *TINY, "--device", "cuda", "--out", tmp_path / "run")
    assert "--device cuda: torch finds no GPU" in one_line(run, "train", *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"variance": "optimal"}, "--variance optimal"),
        ({"free_bits_over": "latent"}, "--free-bits-over latent"),
        ({"capacity": 1.0}, "--capacity-over batch"),
    ],
)
def test_what_is_of_the_whole_batch_wants_one_process(flags, message):
    arguments = Arguments("digits", **flags)
    setup.check_parallel(arguments, ALONE)
    with pytest.raises(TrainingError, match=f"{message} is of the whole batch"):
        setup.check_parallel(arguments, replace(ALONE, part=Part(0, 2)))
    setup.check_parallel(Arguments("digits", capacity=1.0, capacity_over="sample"), replace(ALONE, part=Part(1, 2)))


@pytest.mark.parametrize("samples", [None, 3])
def test_processes_have_the_noise_of_one(samples):
    """As `fastvae.rsample` numbers it."""
    seed, zero = torch.tensor(5), torch.zeros(6, 4)
    whole = fastvae.rsample(zero, zero, num_samples=samples, seed=seed)
    parts = [part_of_noise(seed, samples, 2, 4, Part(rank, 3)) for rank in range(3)]
    assert torch.equal(torch.cat(parts, -2), whole)


def test_a_wide_head_is_fused_unless_it_is_told():
    def fused(side, **flags):
        return Arguments("digits", **flags).settings((1, side, side)).fused_head

    assert fused(256)
    assert not fused(8)
    assert fused(8, fused_head=True)
    assert not fused(256, fused_head=False)
    assert not fused(256, objective="iwae", samples=8)  # of 400 hidden units, multiplied once more
    assert fused(256, objective="iwae", samples=8, hidden=(64,))
    assert not fused(256, model="conv")
    assert not fused(256, likelihood="poisson")
