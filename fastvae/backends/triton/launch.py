"""An operator's arguments to a launch of `rows.walk`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...ops import Contract, Operator
from . import plan
from .device import on_device
from .prepare import Constants, Launch, Prepared, Slots, contiguous, prepare, slots_of
from .rows import NOISE, WEIGHT, sum_parts, walk

MAX_PLANS = 4096
# The formulas write out what is fused: x * x_scale must be rounded before it is subtracted from 1.
COMPILER = {"enable_fp_fusion": False}


class Formula(NamedTuple):
    """One direction of an operator, as functions of its constants and of the number of elements of an event.

    `function` runs in the kernel. `scalars` are numbers that it takes at each call; `read` and `flags` are what it is
    compiled for; `sum_scale` multiplies each sum.
    """

    function: Any
    scalars: Callable[[Constants, int], tuple[float, ...]] = lambda constants, count: ()
    flags: Callable[[Constants], tuple] = lambda constants: ()
    read: Callable[[Constants], Any] = lambda constants: None
    sum_scale: Callable[[Constants, int], float] = lambda constants, count: 1.0


def kernel(operator: Operator, contract: Contract, formula: Formula) -> Callable:
    """One of the operator's contracts as a function of its arguments that launches `formula`."""
    slots = slots_of(operator, contract)
    names = contract.names[contract.num_tensors :]
    plans: dict[tuple, Prepared] = {}

    def call(*args):
        tensors, values = args[: slots.constants], args[slots.constants :]
        constants = dict(zip(names, values, strict=True))
        function = (formula.function, formula.read(constants), formula.flags(constants))
        key = (
            tuple([t if t is None else (t.shape, t.stride(), t.dtype) for t in tensors]),
            tuple(constants.get("needs", ())),
            constants.get("event_ndim"),
            constants.get("num_samples"),
            function,
        )
        prepared = plans.get(key)
        if prepared is None:
            if len(plans) >= MAX_PLANS:
                plans.clear()
            prepared = plans[key] = prepare(contract, slots, args, constants)
        device = next(t for t in tensors if t is not None).device
        results = [torch.empty_strided(size, stride, dtype=t, device=device) for size, stride, t in prepared.results]
        if prepared.launch is None:
            for result in results:
                result.zero_()
        else:
            size = prepared.event_size
            numbers = formula.scalars(constants, size), formula.sum_scale(constants, size)
            with on_device(device):
                _launch(prepared.launch, prepared.compiled, slots, tensors, results, function, *numbers)
        return tuple(results) if len(results) > 1 else results[0]

    return call


def _launch(launch: Launch, compiled, slots, args, results, function, scalars, sum_scale) -> None:
    if launch.copied_to is None:
        _compute(launch, compiled, slots, args, results, function, scalars, sum_scale)
        return
    outputs = [result.contiguous() for result in results]
    samples = 0 if slots.grad_z is None else launch.samples
    args = contiguous(slots, launch.copied_to, samples, args)
    _compute(launch, compiled, slots, args, outputs, function, scalars, sum_scale)
    for result, output in zip(results, outputs, strict=True):
        if result is not output:
            result.copy_(output)


def _compute(launch: Launch, compiled, slots: Slots, args, outputs, function, scalars, sum_scale) -> None:
    layout, parts = launch.layout, launch.tiling.parts
    some = outputs[0]  # stands where nothing is read
    inputs = tuple([some if args[i] is None else _bytes(args[i]) for i in slots.inputs])
    weight = _bytes(args[slots.weight]) if layout.operands[WEIGHT.value] is not None else None
    seed, eps = (args[slots.seed], args[slots.eps]) if layout.operands[NOISE.value] is not None else (None, None)
    grad_z = None if slots.grad_z is None else args[slots.grad_z]
    targets = tuple(outputs) if parts == 1 else tuple(_partial(launch, outputs))
    constants: tuple[float, ...] = ()
    scale = sum_scale if parts == 1 else 1.0
    if layout.float == tl.float64:
        # A float reaches a kernel as float32; a constant does not.
        constants = (*scalars, scale)
        scalars, scale = tuple([tl.constexpr(s) for s in scalars]), tl.constexpr(scale)
    arguments = (
        (inputs, targets, weight, grad_z, launch.samples),
        (seed, eps, launch.sample_sizes),
        (launch.sizes, launch.strides),
        scalars,
        scale,
        parts,
        launch.tiling.span,
        *function,
        layout,
    )
    pointers = (*inputs, *targets, weight, seed, eps, grad_z)
    key = (some.get_device(), *[p is None or p.data_ptr() % 16 == 0 for p in pointers], *constants)
    found = compiled.get(key)
    if found is None:
        compiled[key] = walk[launch.grid](*arguments, num_warps=launch.tiling.warps, **COMPILER)
    else:  # past Triton's own look-up, which costs more than a small kernel
        found[launch.grid](*arguments)
    if parts > 1:
        for target, output in zip(targets, outputs, strict=True):
            if target is not output:
                _sum(target, output, launch.sizes[0], parts, sum_scale)


def _partial(launch: Launch, outputs: list[Tensor]) -> list[Tensor]:
    """Memory for the partial sums of what is summed; the rest as it is."""
    count = launch.sizes[0] * launch.tiling.parts
    kinds = launch.layout.operands[launch.layout.num_inputs :]
    return [
        out.new_empty(count) if operand is not None and operand.kind == "sum" else out
        for operand, out in zip(kinds, outputs, strict=False)
    ]


def _sum(partial: Tensor, out: Tensor, rows: int, parts: int, scale: float) -> None:
    cols = plan.power_of_two(parts)
    tile = max(1, min(plan.TILE // cols, plan.power_of_two(rows)))
    scale = tl.constexpr(scale) if out.dtype == torch.float64 else scale
    grid = (triton.cdiv(rows, tile),)
    sum_parts[grid](partial, out, scale, rows, parts, ROWS=tile, PARTS=cols, **COMPILER)


def _bytes(tensor: Tensor) -> Tensor:
    """Triton loads a bool as one bit."""
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor
