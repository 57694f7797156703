"""Checkpoints in safetensors: everything that a run needs to go on, and nothing that runs when it is read.

The file holds `model.*`, `average.*` (of the weights), `optimizer.NUMBER.*` and `rng.*`; its metadata has one entry,
`fastvae`, JSON: format, version, step, epoch, what the model is built of, the run's arguments. Schedules, noise and the
order of the data follow from arguments and step.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..files import whole_file
from .errors import CheckpointError

NAME = "checkpoint.safetensors"
KEY, FORMAT = "fastvae", 1
ADAM = {"step", "exp_avg", "exp_avg_sq"}  # what it keeps of each parameter


@dataclass(frozen=True)
class Checkpoint:
    """`model` holds the model's settings, `arguments` the run's; both as JSON has them."""

    step: int
    epoch: int
    model: dict[str, Any]
    arguments: dict[str, Any]
    skipped: int = 0
    tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors under `name.`, without it."""
        return {key.removeprefix(f"{name}."): t for key, t in self.tensors.items() if key.startswith(f"{name}.")}


def locate(path: Path) -> Path:
    """The checkpoint of a run's directory, or the file that is named. Raises CheckpointError where there is none."""
    found = path / NAME if path.is_dir() else path
    if not found.is_file():
        raise CheckpointError(f"{found}: no checkpoint")
    return found


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Whole, and on the disk when this returns; else the file that was there stays. Raises OSError."""
    from safetensors.torch import save as serialized

    about = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint) if f.name != "tensors"}
    tensors = {name: t.detach().contiguous() for name, t in checkpoint.tensors.items()}
    text = json.dumps({"format": FORMAT, "version": __version__, **about}, allow_nan=False)
    with whole_file(path, durable=True) as temporary:
        temporary.write_bytes(serialized(tensors, {KEY: text}))


def load(path: Path) -> Checkpoint:
    """Raises CheckpointError for a file that is torn, foreign, or of a later format; OSError where it is unreadable."""
    from safetensors import safe_open

    with path.open("rb"):  # an OSError that names the file
        pass
    with understood(path), safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(KEY)
        if text is None:
            raise CheckpointError(f"{path}: no checkpoint of fastvae's")
        about = json.loads(text)
        if about.pop("format") != FORMAT:
            raise CheckpointError(f"{path}: of a later fastvae, {about.get('version')}; this is {__version__}")
        about.pop("version")
        return Checkpoint(**about, tensors={name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


@contextlib.contextmanager
def understood(path: Path) -> Iterator[None]:
    """What the block finds wrong with the checkpoint's contents is a CheckpointError that names it."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: no whole checkpoint: {error}") from error


def load_weights(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises CheckpointError, naming a tensor that is missing, left over or of another shape."""
    wanted = module.state_dict()
    for name in sorted(wanted.keys() ^ tensors.keys()):
        raise CheckpointError(f"{path}: {'lacks' if name in wanted else 'has unknown'} weights {name}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(f"{path}: {name} is {list(tensor.shape)}, the model's {list(wanted[name].shape)}")
    module.load_state_dict(dict(tensors))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """By number of the parameter and name, for `load_optimizer`."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": t for i, values in state.items() for name, t in values.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], path: Path) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".")
        state.setdefault(int(number), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if state and sorted(state) != list(range(len(parameters))):
        raise CheckpointError(f"{path}: the optimiser's state is of {len(state)} parameters, not {len(parameters)}")
    for i, values in state.items():
        if values.keys() != ADAM:
            raise CheckpointError(f"{path}: of parameter {i} the optimiser's state is {', '.join(sorted(values))}")
        for name, tensor in values.items():
            if tensor.dim() and tensor.shape != parameters[i].shape:
                raise CheckpointError(f"{path}: optimizer.{i}.{name} is {list(tensor.shape)}, of another model")
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def rng_tensors() -> dict[str, Tensor]:
    """States of torch's generators: what a model draws by itself, in dropout for one, goes on with them."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def load_rng(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    for name, state in states.items():
        kind, _, number = name.partition(".")
        if kind == "cuda" and int(number) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(number))
