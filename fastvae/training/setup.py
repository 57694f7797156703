"""From a run's arguments to what its loop takes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models import VAE, Settings, build
from ..ops import OPERATORS, Likelihood
from .arguments import Arguments
from .average import Average
from .batches import Batches, resident
from .data import Dataset
from .errors import TrainingError
from .loop import Objective, Trainer, adam
from .objective import fused
from .parallel import World
from .schedules import cosine
from .seeds import named_seed

LOOKED_AT = 1024
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


def check_values(data: Dataset, name: str, likelihood: str) -> None:
    """Raises TrainingError where floating images are outside what the likelihood is of; some of them are looked at."""
    some = data.train.images[torch.arange(min(len(data.train.images), LOOKED_AT))]
    operator = OPERATORS[f"{likelihood}_log_prob"]
    if not some.is_floating_point() or not isinstance(operator, Likelihood):
        return
    values = some[some.isfinite()]  # a NaN is the loop's to find, and may be skipped
    if not operator.support.check(values).all():
        found = f"values from {values.min():g} to {values.max():g}"
        raise TrainingError(f"{name}: {found}; a {likelihood} likelihood takes {operator.support}, or uint8")


def trainer(arguments: Arguments, settings: Settings, steps: int, world: World) -> Trainer:
    """Of a model with fresh weights; `steps` are an epoch's."""
    check_parallel(arguments, world)
    torch.manual_seed(named_seed(arguments.seed, "weights"))
    objective = fused(arguments, settings.latents, world)
    try:
        model = build(settings).to(world.device)
        _try(objective, model, torch.zeros(1, *settings.image_shape, device=world.device))
    except ValueError as error:
        raise TrainingError(str(error)) from error
    average = Average(model, arguments.ema) if arguments.ema else None
    if arguments.compile:
        model.compile(dynamic=False)
    return Trainer(
        model,
        objective,
        adam(model, arguments.lr),
        world=world,
        schedule=cosine(arguments.lr, steps * arguments.epochs),
        average=average,
        clip=arguments.clip,
        autocast=PRECISIONS[arguments.amp],
    )


@torch.no_grad()
def _try(objective: Objective, model: VAE, x: Tensor) -> None:
    """What the objective refuses is known before the first step, whose noise and statistics stay as they are."""
    objective(model.eval(), x, 0)
    model.train()


def check_parallel(arguments: Arguments, world: World) -> None:
    """Raises TrainingError for what several processes would train otherwise than one."""
    if world.part.world == 1:
        return
    given = {name: getattr(arguments, name) for name in OF_THE_BATCH}
    wrong = [f"--{name} {value}" for name, value in given.items() if value in OF_THE_BATCH[name]]
    if arguments.capacity is not None and arguments.capacity_over == "batch":
        wrong.append("--capacity-over batch")
    if wrong:
        raise TrainingError(f"{wrong[0].replace('_', '-')} is of the whole batch: one process has to train it")
