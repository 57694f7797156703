"""From a run's arguments to what its loop takes."""

from __future__ import annotations

import torch

from ..models import Settings, build
from .arguments import Arguments
from .average import Average
from .batches import Batches, resident
from .data import Dataset
from .errors import TrainingError
from .loop import Trainer, adam
from .objective import fused
from .parallel import World
from .schedules import cosine
from .seeds import named_seed

PRECISIONS = {None: None, "bf16": torch.bfloat16}
# What is a function of the whole batch, which no process has.
OF_THE_BATCH = {"variance": ("optimal",), "free_bits_over": ("latent", "batch")}


def batches(arguments: Arguments, data: Dataset, world: World) -> Batches:
    """Raises TrainingError for a batch size that the data or the processes do not allow."""
    try:
        return Batches(
            resident(data.train.images, world.device),
            arguments.batch_size,
            arguments.seed,
            part=world.part,
            binarize=arguments.binarize,
            device=world.device,
        )
    except ValueError as error:
        raise TrainingError(str(error)) from error


def trainer(arguments: Arguments, settings: Settings, steps: int, world: World) -> Trainer:
    """Of a model with fresh weights; `steps` are an epoch's."""
    _check_parallel(arguments, world)
    torch.manual_seed(named_seed(arguments.seed, "weights"))
    model = build(settings).to(world.device)
    average = Average(model, arguments.ema) if arguments.ema else None
    if arguments.compile:
        model.compile(dynamic=False)
    return Trainer(
        model,
        fused(arguments, settings.latents, world),
        adam(model, arguments.lr),
        world=world,
        schedule=cosine(arguments.lr, steps * arguments.epochs),
        average=average,
        clip=arguments.clip,
        autocast=PRECISIONS[arguments.amp],
    )


def _check_parallel(arguments: Arguments, world: World) -> None:
    if world.part.world == 1:
        return
    given = {name: getattr(arguments, name) for name in OF_THE_BATCH}
    wrong = [f"--{name} {value}" for name, value in given.items() if value in OF_THE_BATCH[name]]
    if arguments.capacity is not None:
        wrong.append("--capacity")
    if wrong:
        raise TrainingError(f"{wrong[0].replace('_', '-')} is of the whole batch: one process has to train it")
