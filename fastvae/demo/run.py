"""The demo from its checks to its files."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import models
from ..files import whole_file, writable_directory
from ..measure.machine import describe
from ..models import MLPVAE, build
from ..training import pictures, plots, show
from ..training.data import everything, handwritten_digits
from ..training.loop import History, Objective, train
from . import report
from .evaluate import Agreement, Estimate, agreement, evaluate
from .settings import Settings
from .steps import NETWORK, StepTime, network_step, time_steps, training_step
from .ways import NAIVE, WAYS, Way, compile_problem

PICTURES = ("samples.png", "reconstructions.png", "training.png", "latents.png", "plane.png")
FILES = (*PICTURES, "table.md", "results.json")


@dataclass
class Runner:
    """A way with its own copy of the model."""

    way: Way
    model: MLPVAE
    objective: Objective
    history: History = field(default_factory=History)


def run(settings: Settings) -> int:
    """The whole demo. Returns the exit status: 0, or 1 when the test ELBO of some way deviates.

    Raises OSError before any work where `settings.out` cannot be written, MissingExtraError where data cannot be had.
    """
    data = _digits()
    writable_directory(settings.out, FILES)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    print(", ".join(f"{name} {value}" for name, value in describe().items()))
    print(f"data: handwritten digits, {len(data.train)} images to train on, {len(data.test)} to test")

    torch.manual_seed(settings.seed)
    initial = MLPVAE(data.train.shape[1], settings.hidden, settings.latent)
    runners = [Runner(way, copy.deepcopy(initial), way.objective()) for way in _ways(settings)]
    _compile(runners, data, settings)
    for runner in runners:
        runner.history = _train(runner.way.name, runner.model, runner.objective, data, settings)
    tests = {r.way.name: _evaluate(r.model, data, settings) for r in runners}
    agreed = agreement({name: test.elbo for name, test in tests.items()}, _noise_runs(initial, data, settings))
    written = _write_figures(runners, data, settings) + _two_latents(data, settings)
    times = _time(runners, data, settings)
    results = [report.Result(name, times[name], test, settings.batch_size) for name, test in tests.items()]
    written += _write_report(results, agreed, settings)
    print("written: " + ", ".join(written))
    return 1 if agreed.deviating else 0


@dataclass(frozen=True)
class Digits:
    """Rows of 64 pixels, [n, 64]: 12 batches of 128 to train on, and 261 to test."""

    train: Tensor
    test: Tensor
    test_labels: Tensor
    image_shape: tuple[int, int, int]


def _digits() -> Digits:
    data = handwritten_digits(num_train=1536)
    train, test = (everything(split.images).flatten(1) for split in (data.train, data.test))
    assert data.test.labels is not None
    return Digits(train, test, data.test.labels, (1, 8, 8))


def _ways(settings: Settings) -> list[Way]:
    problem = compile_problem() if settings.compiled else "not wanted"
    if problem:
        print(f"without the compiled ways, torch.compile: {problem}")
    return [way for way in WAYS if not (problem and way.compiled)]


def _compile(runners: Sequence[Runner], data: Digits, settings: Settings) -> None:
    batch = data.train[: settings.batch_size]
    compiled = [runner for runner in runners if runner.way.compiled]
    for runner in tqdm(compiled, desc="compiling", disable=not compiled):
        runner.objective(runner.model, batch, 0).loss.backward()


def _train(
    name: str, model: nn.Module, objective: Objective, data: Digits, settings: Settings, run: int = 0
) -> History:
    """Same batches for every way and run; `run` decides the noise."""
    torch.manual_seed(settings.seed + 1 + run)
    with _bar(f"training, {name}", settings.epochs, "epoch") as bar:

        def on_epoch(history: History) -> None:
            bar.set_postfix_str(f"ELBO {history.elbo[-1]:.2f} nats", refresh=False)
            bar.update()

        return train(
            model,
            objective,
            data.train,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            on_epoch=on_epoch,
        )


def _evaluate(model: MLPVAE, data: Digits, settings: Settings) -> Estimate:
    return evaluate(model, data.test, num_samples=settings.test_samples, seed=settings.seed)


def _noise_runs(initial: MLPVAE, data: Digits, settings: Settings) -> list[float]:
    """Test ELBO of further runs of the naive way: same weights, same batches, other noise."""
    elbos = []
    for run in range(1, settings.noise_runs + 1):
        model = copy.deepcopy(initial)
        _train(f"noise run {run} of {settings.noise_runs}", model, NAIVE.objective(), data, settings, run)
        elbos.append(_evaluate(model, data, settings).elbo)
    return elbos


def _time(runners: Sequence[Runner], data: Digits, settings: Settings) -> dict[str, StepTime]:
    """Timing trains the models further: they must have been evaluated and drawn before."""
    batch = data.train[: settings.batch_size]
    steps = {r.way.name: training_step(r.model, r.objective, batch) for r in runners}
    for compiled in {r.way.compiled for r in runners}:
        steps[NETWORK[compiled]] = network_step(copy.deepcopy(runners[0].model), batch, compiled)
    with _bar("timing", settings.timing_rounds, "round") as bar:
        return time_steps([r.way for r in runners], steps, _counted(settings.timing_rounds, bar))


def _counted(rounds: int, bar: tqdm):
    for i in range(rounds):
        yield i
        bar.update()


def _bar(description: str, total: int, unit: str) -> tqdm:
    quiet = not sys.stderr.isatty()  # a log gets a line now and then
    return tqdm(desc=f"{description:<30}", total=total, unit=unit, mininterval=5 if quiet else 0.1, ncols=110)


def _write_report(results: Sequence[report.Result], agreed: Agreement, settings: Settings) -> list[str]:
    machine = describe()
    parts = [
        report.table(results),
        report.EXPLANATION.format(batch=settings.batch_size, epochs=settings.epochs),
        report.limit(results),
        report.verdict(agreed, settings.noise_runs),
        ", ".join(f"{name} {value}" for name, value in machine.items()) + ".",
    ]
    text = "\n\n".join(part for part in parts if part)
    print(f"\n{text}\n")
    data = {
        "machine": machine,
        "settings": {name: str(v) if name == "out" else v for name, v in asdict(settings).items()},
        "results": report.as_data(results),
        "agreement": asdict(agreed) | {"deviating": agreed.deviating},
    }
    return [
        _write_text(settings, "table.md", text + "\n"),
        _write_text(settings, "results.json", json.dumps(report.finite(data), indent=2, allow_nan=False) + "\n"),
    ]


def _write_text(settings: Settings, name: str, text: str) -> str:
    with whole_file(settings.out / name) as path:
        path.write_text(text, encoding="utf-8")
    return str(settings.out / name)


@torch.no_grad()
def _write_figures(runners: Sequence[Runner], data: Digits, settings: Settings) -> list[str]:
    """What the last way's model draws, and the curves of all."""
    last, originals = runners[-1].model, data.test[:24]
    z = torch.randn(72, settings.latent, generator=torch.Generator().manual_seed(settings.seed))
    drawn, decoded = (_images(last, z, data) for z in (z, last.encode(originals)[0]))
    paths = [settings.out / name for name in PICTURES[:3]]
    pictures.save_grid(paths[0], drawn, show.COLUMNS)
    pictures.save_grid(paths[1], pictures.pairs(originals, decoded, show.COLUMNS), show.COLUMNS)
    curves = {runner.way.name: asdict(runner.history) for runner in runners}
    plots.curves(paths[2], curves, "Training on handwritten digits: same initial weights, same batches")
    return [str(path) for path in paths]


def _images(model: MLPVAE, z: Tensor, data: Digits) -> Tensor:
    return torch.sigmoid(model.decode(z)).reshape(-1, *data.image_shape)


def _two_latents(data: Digits, settings: Settings) -> list[str]:
    """A model whose latents can be drawn: the encoded test set by class, and what their plane decodes to."""
    torch.manual_seed(settings.seed)
    model = build(models.Settings(image_shape=data.image_shape, latents=2, hidden=(settings.hidden,)))
    _train("two latents", model, lambda model, x, step: model(x), data, settings)
    paths = [settings.out / name for name in PICTURES[3:]]
    show.latents(paths[0], model, data.test, data.test_labels)
    show.plane(paths[1], model)
    return [str(path) for path in paths]
