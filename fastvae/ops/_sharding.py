"""The rule by which operators compute on DTensors: each process its part of the elements.

Formulas are of elements, any of whose dimensions may be sharded, or of rows, which a process has whole. What is summed
over a sharded one, the sum over an event or the gradient of an operand that shards share, is `Partial`. All of it
follows from the declarations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard

from .._shapes import broadcast_shape, sum_to_operand
from ._contract import Contract
from ._one_pass import RESCALE
from ._operator import Operator
from ._stream import stream

Dims = list[int | None]  # for each dimension of the mesh the dimension of a tensor that it shards


class Elements(NamedTuple):
    """The shape that operands broadcast to, and which of its dimensions are sharded."""

    mesh: DeviceMesh
    shape: torch.Size
    sharded: Dims

    def dims_of(self, operand: Tensor) -> Dims:
        """None where it is broadcast along the sharded dimension."""
        lead = len(self.shape) - operand.dim()
        return [
            d - lead if d is not None and d >= lead and operand.shape[d - lead] == self.shape[d] else None
            for d in self.sharded
        ]

    def dims_of_sample(self, num_samples: int) -> Dims:
        return [None if d is None else d + (num_samples > 0) for d in self.sharded]

    def dims_of_sum(self, event_ndim: int) -> Dims:
        return [d if d is not None and d < len(self.shape) - event_ndim else None for d in self.sharded]

    def summed(self, dims: Dims) -> list[Placement]:
        """Of a result that has these of the sharded dimensions: the sum over the others is still to come."""
        return [
            Replicate() if d is None else Partial() if dim is None else Shard(dim)
            for d, dim in zip(self.sharded, dims, strict=True)
        ]

    def part(self) -> list[slice]:
        """Which elements are this process's, as `torch.chunk` deals them out."""
        parts = [(0, size) for size in self.shape]
        for mesh_dim, d in enumerate(self.sharded):
            if d is not None:
                start, stop = parts[d]
                chunk = -(-(stop - start) // self.mesh.size(mesh_dim))
                start = min(start + self.mesh.get_local_rank(mesh_dim) * chunk, stop)
                parts[d] = (start, min(start + chunk, stop))
        return [slice(*part) for part in parts]

    def fraction(self, event_ndim: int) -> float:
        """This process's share of what is averaged; a mean over nothing divides by 1."""
        event = range(len(self.shape) - event_ndim, len(self.shape))
        part = self.part()
        mine = math.prod(part[d].stop - part[d].start for d in event)
        return max(mine, 1) / max(math.prod(self.shape[d] for d in event), 1)


def rule(operator: Operator, contract: Contract) -> Callable[..., Any]:
    """What the contract's call is where an argument is a DTensor."""
    outputs = () if contract is operator.backward else operator.outputs

    def call(cls: type, function: Any, types: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        given = contract.named(args)
        elements = _elements(operator, operator.shaped(given), args)
        dims = _dims(operator, elements, given)
        parts = {name: _part(contract, name, value, dims, elements.mesh) for name, value in given.items()}
        parts |= _noise(operator, elements, parts)
        results = _several(contract.call(*parts.values()))
        if given.get("averaged"):
            results = [result * elements.fraction(given["event_ndim"]) for result in results]
        values, grads = results[: len(outputs)], results[len(outputs) :]
        wholes: list[Tensor] = []
        if outputs:
            likes = _several(contract.call(*map(_on_meta, args)))[: len(outputs)]
            wholes += [
                _whole(elements, value, like, dims[f"grad_{output}"])
                for output, value, like in zip(outputs, values, likes, strict=True)
            ]
        if grads:
            wholes += [
                _gradient(elements, given[name], parts[name], dims[name], grad) if need else grad
                for name, need, grad in zip(operator.differentiable, given["needs"], grads, strict=True)
            ]
        return wholes[0] if len(wholes) == 1 else tuple(wholes)

    return call


def rescale(cls: type, function: Any, types: Any, args: tuple[Any, ...], kwargs: Any) -> None:
    """`rescale_` is linear: each process's part of a gradient, or of a sum of it, by the same number."""
    grad, upstream = args
    number = upstream.full_tensor() if isinstance(upstream, DTensor) else upstream
    RESCALE.call(grad.to_local() if isinstance(grad, DTensor) else grad, number)


def _elements(operator: Operator, operands: Sequence[Tensor | None], args: Sequence[Any]) -> Elements:
    """Sharded as the largest operand is; the others follow it."""
    meshes = {arg.device_mesh for arg in args if isinstance(arg, DTensor)}
    if len(meshes) > 1:
        raise ValueError(f"DTensors are on different device meshes, {meshes}: one is wanted")
    mesh, shape = meshes.pop(), broadcast_shape(*operands)
    sharded: Dims = [None] * mesh.ndim
    for operand in sorted((t for t in operands if isinstance(t, DTensor)), key=Tensor.numel):
        for mesh_dim, placement in enumerate(operand.placements):
            if isinstance(placement, Shard):
                d = placement.dim + len(shape) - operand.dim()
                is_row = operator.of_rows and d == len(shape) - 1
                if not is_row and operand.shape[placement.dim] == shape[d]:
                    sharded[mesh_dim] = d
    return Elements(mesh, shape, sharded)


def _dims(operator: Operator, elements: Elements, given: dict[str, Any]) -> dict[str, Dims]:
    """Of the tensors among the operator's arguments, and of its outputs, which lie as their gradients do."""
    sample = elements.dims_of_sample(given.get("num_samples", 0))
    summed = elements.dims_of_sum(given.get("event_ndim", 0))
    nowhere: Dims = [None] * len(elements.sharded)
    dims = {
        name: elements.dims_of(given[name]) if isinstance(given[name], DTensor) else nowhere
        for name in operator.tensors
    }
    dims |= {"seed": nowhere, "eps": sample}
    return dims | {f"grad_{o}": summed if o in operator.summed else sample for o in operator.outputs}


def _part(contract: Contract, name: str, value: Any, dims: dict[str, Dims], mesh: DeviceMesh) -> Any:
    """This process's part of an argument."""
    if isinstance(value, DTensor):
        placements = [Replicate() if dim is None else Shard(dim) for dim in dims[name]]
        return value.redistribute(mesh, placements).to_local()
    if isinstance(value, Tensor) and value.numel() != 1:
        raise TypeError(
            f"{contract.name} is given {name} {list(value.shape)} as a torch.Tensor beside DTensors: "
            "distribute it, as Replicate() where all processes have the same"
        )
    return value


def _noise(operator: Operator, elements: Elements, parts: dict[str, Any]) -> dict[str, Any]:
    """A seed's stream numbers all elements: every process makes it, and keeps its part."""
    if parts.get("seed") is None or all(d is None for d in elements.sharded):
        return {}
    eps = stream(operator, parts, elements.shape)
    for dim, part in enumerate(elements.part(), eps.dim() - len(elements.shape)):
        eps = eps.narrow(dim, part.start, part.stop - part.start)
    return {"seed": None, "eps": eps}


def _on_meta(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def _gradient(elements: Elements, operand: Tensor, part: Tensor, dims: Dims, grad: Tensor) -> Tensor:
    """In the operand's shape, and no DTensor where it is none."""
    whole = _whole(elements, sum_to_operand(grad, part), operand, dims)
    return whole if isinstance(operand, DTensor) else whole.full_tensor()


def _whole(elements: Elements, part: Tensor, like: Tensor, dims: Dims) -> DTensor:
    """The DTensor of the shape and strides of `like` whose part this is."""
    placements = elements.summed(dims)
    return DTensor.from_local(part, elements.mesh, placements, run_check=False, shape=like.shape, stride=like.stride())


def _several(results: Any) -> list[Tensor]:
    return list(results) if isinstance(results, (tuple, list)) else [results]
