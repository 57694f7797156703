"""The flags of `fastvae train`, `sample` and `evaluate`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from ..extras import require
from .errors import TrainingError

EXTRA = ("sklearn", "numpy", "matplotlib", "tqdm", "safetensors", "PIL")


def add_commands(commands: Any) -> None:
    """Add the three to the subparsers of a command line."""
    train = commands.add_parser("train", help="train a VAE; leaves a checkpoint, metrics and pictures")
    _model_flags(train.add_argument_group("model"))
    _objective_flags(train.add_argument_group("objective"))
    _run_flags(train.add_argument_group("run"))
    train.set_defaults(run=_train)
    sample = commands.add_parser("sample", help="draw images from a checkpoint")
    sample.add_argument("--out", type=Path, default=Path("grid.png"), help="the picture (default: grid.png)")
    sample.add_argument("--n", type=whole(1, 10**5), default=64, help="how many images (default: 64)")
    sample.add_argument("--interpolate", action="store_true", help="in rows, each from one draw of z to another")
    sample.set_defaults(run=_sample)
    evaluate = commands.add_parser("evaluate", help="test ELBO, likelihood and latents of a checkpoint")
    evaluate.add_argument("--json", action="store_true", help="one JSON object")
    evaluate.add_argument("--data", help="other data than it was trained on, or where they are now")
    evaluate.add_argument("--samples", type=whole(1, 10**6), default=5000, help="importance samples (default: 5000)")
    evaluate.set_defaults(run=_evaluate)
    for reader in (sample, evaluate):
        reader.add_argument("checkpoint", type=Path, metavar="DIR|CHECKPOINT")
        reader.add_argument("--seed", type=whole(0, 2**32 - 1), default=0, help="of the noise (default: 0)")
    for command in (train, sample, evaluate):
        command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if any")
        command.add_argument("--threads", type=whole(1, 1024), help="CPU threads (default: torch's)")


def _model_flags(group: Any) -> None:
    from ..models.likelihood import VARIANCES, names
    from ..models.settings import Model

    group.add_argument("--data", help="digits, mnist:DIR, npy:FILE or images:DIR")
    group.add_argument("--model", choices=get_args(Model), help="default: mlp")
    group.add_argument("--likelihood", choices=names(), help="default: bernoulli; gaussian of a linear model")
    group.add_argument("--variance", choices=VARIANCES, help="of a gaussian likelihood (default: shared)")
    group.add_argument("--latents", type=whole(1, 10**5), help="default: 20")
    group.add_argument("--hidden", type=_widths, help="of an mlp, as 400 or 512,256 (default: 400)")
    group.add_argument("--width", type=whole(1, 4096), help="of a conv: channels of its first stage (default: 32)")
    group.add_argument("--depth", type=whole(1, 64), help="of a conv: residual blocks in a stage (default: 1)")
    group.add_argument(
        "--fused-head",
        action=argparse.BooleanOptionalAction,
        help="the decoder's last layer with the likelihood, in chunks (default: where it is wide)",
    )
    group.add_argument("--binarize", action="store_true", default=None, help="draw pixels anew at each step")


def _objective_flags(group: Any) -> None:
    from ..functional._arguments import FreeBitsOver
    from ..models.objective import CapacityOver, Estimator, Objective

    group.add_argument("--objective", choices=get_args(Objective), help="default: elbo")
    group.add_argument("--samples", type=whole(1, 10**5), help="K (default: 1)")
    group.add_argument("--estimator", choices=get_args(Estimator), help="default: pathwise")
    group.add_argument("--beta", help="weight of the KL: B, linear:STEPS or cyclical:STEPS (default: 1)")
    group.add_argument("--capacity", type=real(0), help="nats that the KL is held at")
    group.add_argument("--capacity-over", choices=get_args(CapacityOver), help="default: batch")
    group.add_argument("--free-bits", type=real(0), help="nats below which KL is free (default: 0)")
    group.add_argument("--free-bits-over", choices=get_args(FreeBitsOver), help="default: element")


def _run_flags(group: Any) -> None:
    group.add_argument("--epochs", type=whole(1, 10**7), help="default: 100")
    group.add_argument("--batch-size", type=whole(1, 10**7), help="of all processes together (default: 128)")
    group.add_argument("--lr", type=real(0, above=True), help="Adam's at first, by a cosine to 0 (default: 0.001)")
    group.add_argument("--ema", type=real(0, 1), help="decay of the weights' average; 0 for none (default: 0.999)")
    group.add_argument("--clip", type=real(0, above=True), help="the gradient's largest norm (default: none)")
    group.add_argument("--seed", type=whole(0, 2**32 - 1), help="of weights, order and noise (default: 0)")
    group.add_argument("--out", type=Path, default=Path("out/train"), help="the run's directory (default: out/train)")
    group.add_argument("--resume", action="store_true", help="go on with the run in --out, if there is one")
    group.add_argument("--compile", action="store_true", default=None, help="torch.compile")
    group.add_argument("--amp", choices=("bf16",), help="autocast")
    group.add_argument(
        "--skip-bad-batches", action="store_true", default=None, help="go on after a step that is not finite"
    )


def whole(least: int, most: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not in {least} to {most}")
        return value

    return integer


def real(least: float, below: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """A number from `least` (with `above`, greater than it) and less than `below`."""

    def number(text: str) -> float:
        value = float(text)
        if not (least < value if above else least <= value) or not value < below:
            end = "" if below == math.inf else f" and less than {below:g}"
            raise argparse.ArgumentTypeError(f"{text} is not {'above' if above else 'at least'} {least:g}{end}")
        return value

    return number


def _widths(text: str) -> tuple[int, ...]:
    return tuple(whole(1, 10**6)(part) for part in text.split(","))


def _train(options: argparse.Namespace) -> int:
    from .arguments import given
    from .data import resolved
    from .run import train

    _prepare(options)
    now = given(vars(options))
    if "data" in now:
        now["data"] = resolved(now["data"])
    return train(options.out, now, resume=options.resume, device=options.device)


def _sample(options: argparse.Namespace) -> int:
    from .commands import sample

    _prepare(options)
    return sample(options.checkpoint, options.out, options.n, options.seed, options.interpolate, options.device)


def _evaluate(options: argparse.Namespace) -> int:
    from .commands import evaluate

    _prepare(options)
    data = options.data
    return evaluate(options.checkpoint, data, options.samples, options.seed, options.json, options.device)


def _prepare(options: argparse.Namespace) -> None:
    import torch

    require(*EXTRA, extra="train")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device cuda: torch finds no GPU")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
