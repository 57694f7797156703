"""`fastvae sample` and `fastvae evaluate`: what a checkpoint is good for."""

from __future__ import annotations

import json
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributions import constraints
from tqdm import tqdm

from ..files import writable_directory
from ..models import Settings, build
from ..models.diagnostics import bits_per_dim, importance_sampled_log_likelihood, latent_statistics, warn_of_collapse
from ..ops import OPERATORS, Likelihood
from . import checkpoint as checkpoints
from .arguments import Arguments, from_data
from .data import Images, open_dataset
from .errors import TrainingError
from .evaluation import BATCH, bound, test_batches
from .parallel import World
from .pictures import save_grid
from .seeds import named_seed
from .show import drawn

ELBO_SAMPLES = 16


def trained(path: Path, device: torch.device) -> tuple[Any, Arguments]:
    """The model of a checkpoint, with its averaged weights where there are any, and the run's arguments."""
    path = checkpoints.locate(path)
    found = checkpoints.load(path)
    with checkpoints.understood(path):
        arguments, model = from_data(found.arguments), build(Settings.from_dict(found.model))
        checkpoints.load_weights(model, found.part("average") or found.part("model"), path)
    return model.to(device).eval(), arguments


def device_of(name: str) -> torch.device:
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


@torch.no_grad()
def sample(path: Path, out: Path, count: int, seed: int, interpolate: bool, device: str) -> int:
    """Write a grid of images that the model of `path` draws."""
    from PIL import Image

    if out.suffix.lower() not in Image.registered_extensions():
        raise TrainingError(f"--out {out}: no picture's name; .png for one")
    writable_directory(out.parent, [out.name])
    here = device_of(device)
    model, _ = trained(path, here)
    save_grid(out, *drawn(model, count, seed, interpolate, here))
    print(f"written: {out}")
    return 0


def evaluate(path: Path, data: str | None, samples: int, seed: int, as_json: bool, device: str) -> int:
    """Print what the model of `path` is worth on its test images: means over them, in nats and bits.

    `elbo` and `kl` are of ELBO_SAMPLES estimates; `log_likelihood` is log p(x) by importance sampling, and
    `bits_per_dim` the same; `active_units` are the latents whose posterior mean moves (Burda et al. 2016).
    """
    here = device_of(device)
    model, arguments = trained(path, here)
    images = open_dataset(data or arguments.data)
    if images.image_shape != tuple(model.image_shape):
        shapes = f"{list(images.image_shape)}, the model's are {list(model.image_shape)}"
        raise TrainingError(f"{data or arguments.data}: images of {shapes}")
    found = measured(model, images.test.images, arguments.binarize, samples, seed, here)
    if as_json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        print(f"{name + ':':<16}{value if isinstance(value, int) else format(value, '.4f')}")
    return 0


def measured(model: Any, images: Images, binarize: bool, samples: int, seed: int, device: torch.device) -> dict:
    """By the names of `fastvae evaluate --json`."""
    elbo = bound(model, images, seed, binarize=binarize, world=World(device), samples=ELBO_SAMPLES)
    batches = partial(test_batches, images, seed, binarize, device)
    latents = latent_statistics(model, (x for _, x in batches()))
    with warnings.catch_warnings(record=True) as said:
        warn_of_collapse(latents)
    for warning in said:
        print(f"fastvae: {warning.message}", file=sys.stderr)
    bar = tqdm(batches(), desc="importance sampling", total=-(-len(images) // BATCH), disable=not sys.stderr.isatty())
    parts = [
        importance_sampled_log_likelihood(model, x, samples, seed=named_seed(seed, "importance", number))
        for number, x in bar
    ]
    log_likelihood = torch.cat(parts).mean()
    return {
        "elbo": elbo.elbo,
        "log_likelihood": log_likelihood.item(),
        "kl": elbo.kl,
        "active_units": int(latents.active.sum()),
        "bits_per_dim": bits_per_dim(log_likelihood, model.image_shape.numel(), levels=_levels(model, images)).item(),
    }


def _levels(model: Any, images: Images) -> int:
    """256 where grey values that are read as bytes have a density; a probability is of each as it is."""
    operator = OPERATORS[f"{model.observation.likelihood}_log_prob"]
    density = isinstance(operator, Likelihood) and operator.support is constraints.real
    return 256 if density and images[torch.arange(1)].dtype == torch.uint8 else 1
