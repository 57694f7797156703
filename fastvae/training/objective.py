"""What a model is trained on, step by step: noise and beta are functions of the step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ops.noise import NORMALS
from .arguments import Arguments
from .batches import Part
from .loop import Objective, Terms
from .parallel import World
from .schedules import beta
from .seeds import named_seed


def fused(arguments: Arguments, latents: int, world: World) -> Objective:
    """fastvae's own, as `arguments` have it."""
    keywords: dict[str, Any] = {
        "num_samples": arguments.samples if arguments.samples > 1 or arguments.objective == "iwae" else None,
        "objective": arguments.objective,
        "estimator": arguments.estimator,
        "free_bits": arguments.free_bits,
        "free_bits_over": arguments.free_bits_over,
        "capacity": arguments.capacity,
        "capacity_over": arguments.capacity_over,
    }
    weight = beta(arguments.beta)

    def objective(model: Any, x: Tensor, step: int) -> Terms:
        seed = torch.tensor(named_seed(arguments.seed, "noise", step))
        now = weight if isinstance(weight, float) else weight(step, device=x.device)
        return model(x, beta=now, **_noise(seed, x, keywords, latents, world), **keywords)

    return objective


def _noise(seed: Tensor, x: Tensor, keywords: dict[str, Any], latents: int, world: World) -> dict[str, Tensor]:
    """The seed of the whole batch's noise, or of that noise this process's part."""
    if world.part.world == 1:
        return {"seed": seed}
    return {"eps": part_of_noise(seed.to(x.device), keywords["num_samples"], len(x), latents, world.part)}


def part_of_noise(seed: Tensor, num_samples: int | None, rows: int, latents: int, part: Part) -> Tensor:
    """Normals [rows, latents] or [num_samples, rows, latents]: those of this process's rows in the whole batch."""
    whole = (num_samples or 1, rows * part.world, latents)
    eps: Tensor = NORMALS.call(seed, whole[0] * whole[1] * whole[2]).reshape(whole)
    mine = eps[:, part.of(whole[1])]
    return mine if num_samples else mine[0]
