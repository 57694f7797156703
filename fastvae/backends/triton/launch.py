"""An operator's call as a launch of `rows.walk`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from ...ops import Contract, Operator
from . import constants, plan
from .layout import NOISE, WEIGHT, Memory
from .prepare import Launch, Plan, Slots, contiguous, prepare, slots_of
from .registry import implements, on_device
from .rows import sum_parts, walk

MOST_KEPT = 4096  # calls, and plans
# The formulas write out what is fused: x * x_scale must be rounded before it is subtracted from 1.
COMPILER = {"enable_fp_fusion": False}


def register(operator: Operator, value: Any, gradient: Any) -> None:
    """Give the operator its kernels: forward, backward, and for a likelihood both in one pass.

    `value` and `gradient` are functions of elements, as in `fastvae.formulas`. Before the elements they take the
    operator's constants, `c`: see `constants.py`.
    """
    formulas = ((value, None), (None, gradient), (value, gradient))
    for contract, formula in zip(operator.contracts, formulas, strict=False):
        implements(contract)(launcher(operator, contract, *formula))


class Ready(NamedTuple):
    """What one call leaves for the next like it."""

    plan: Plan
    constants: Any
    compiled: dict[tuple, Any]  # by device and alignment: what is still open


def launcher(operator: Operator, contract: Contract, value: Any, gradient: Any) -> Callable:
    """One of the operator's contracts as a function of its arguments."""
    slots, names, num_tensors = slots_of(operator, contract), contract.names, contract.num_tensors
    formula, fill, has_needs = (value, gradient), constants.filler(operator, contract), names[-1] == "needs"
    planned = [i for i, name in enumerate(names) if name in ("event_ndim", "num_samples")]
    calls: dict[tuple, Ready] = {}
    plans: dict[tuple, Plan] = {}

    def make_ready(args: tuple, layouts: tuple) -> Ready:
        key = (layouts, *[args[i] for i in planned], *(args[-1] if has_needs else ()))
        plan = plans.get(key)
        if plan is None:
            _make_room(plans)
            plan = plans[key] = prepare(contract, slots, args)
        c = fill(args, plan.event_size, plan.double)
        return Ready(plan, c, plan.compiled.setdefault(constants.compiled_for(c), {}))

    def call(*args):
        tensors, numbers = args[:num_tensors], args[num_tensors:]
        if has_needs:
            numbers = (*numbers[:-1], *numbers[-1])
        layouts = tuple([t if t is None else (t.shape, t.stride(), t.dtype) for t in tensors])
        key = (layouts, numbers)
        ready = calls.get(key)
        if ready is None:
            _make_room(calls)
            ready = calls[key] = make_ready(args, layouts)
        device = next(t for t in tensors if t is not None).device
        results = [torch.empty_strided(size, stride, dtype=t, device=device) for size, stride, t in ready.plan.results]
        launch = ready.plan.launch
        if launch is None:
            for result in results:
                result.zero_()
        else:
            with on_device(device):
                if launch.copied_to is None:
                    _compute(ready, launch, slots, formula, tensors, results)
                else:
                    _compute_on_copies(ready, launch, slots, formula, tensors, results)
        ended = [r if end is None else end.of(r) for r, end in zip(results, ready.plan.ends, strict=True)]
        return tuple(ended) if len(ended) > 1 else ended[0]

    return call


def _make_room(kept: dict) -> None:
    if len(kept) >= MOST_KEPT:
        kept.clear()


def _compute_on_copies(ready: Ready, launch: Launch, slots: Slots, formula: tuple, args, results) -> None:
    assert launch.copied_to is not None
    outputs = [result.contiguous() for result in results]
    samples = 0 if slots.grad_z is None else launch.space.samples
    copies = contiguous(slots, launch.copied_to, samples, args)
    _compute(ready, launch, slots, formula, copies, outputs)
    for result, output in zip(results, outputs, strict=True):
        if result is not output:
            result.copy_(output)


def _compute(ready: Ready, launch: Launch, slots: Slots, formula: tuple, args, outputs) -> None:
    layout, tiling = launch.layout, launch.tiling
    some = outputs[0]  # stands where nothing is read
    inputs = tuple([some if args[i] is None else _bytes(args[i]) for i in slots.inputs])
    weight = _bytes(args[slots.weight]) if layout.operands[WEIGHT.value] is not None else None
    seed, eps = (args[slots.seed], args[slots.eps]) if layout.operands[NOISE.value] is not None else (None, None)
    grad_z = None if slots.grad_z is None else args[slots.grad_z]
    targets = tuple(_partial(launch, outputs) if layout.in_parts else outputs)
    memory = Memory(inputs, targets, weight, seed, eps, grad_z)
    arguments = (memory, launch.space, ready.constants, tiling.parts, tiling.span, *formula, layout)
    pointers = (*inputs, *targets, weight, seed, eps, grad_z)
    key = (some.get_device(), *[p is None or p.data_ptr() % 16 == 0 for p in pointers])
    kernel = ready.compiled.get(key)
    if kernel is None:
        ready.compiled[key] = walk[launch.grid](*arguments, num_warps=tiling.warps, **COMPILER)
    else:  # past Triton's own look-up, which costs more than a small kernel
        kernel[launch.grid](*arguments)
    if layout.in_parts:
        for target, output in zip(targets, outputs, strict=True):
            if target is not output:
                _sum(target, output, launch.space.rows, tiling.parts, ready.constants.mean_factor)


def _partial(launch: Launch, outputs: list[Tensor]) -> list[Tensor]:
    """Memory for the partial sums of what is summed; the rest as it is."""
    count = launch.space.rows * launch.tiling.parts
    kinds = launch.layout.operands[launch.layout.num_inputs :]
    return [
        out.new_empty(count) if operand is not None and operand.kind == "sum" else out
        for operand, out in zip(kinds, outputs, strict=False)
    ]


def _sum(partial: Tensor, out: Tensor, rows: int, parts: int, mean_factor: Any) -> None:
    cols = plan.power_of_two(parts)
    tile = max(1, min(plan.TILE // cols, plan.power_of_two(rows)))
    sum_parts[(triton.cdiv(rows, tile),)](partial, out, mean_factor, rows, parts, ROWS=tile, PARTS=cols, **COMPILER)


def _bytes(tensor: Tensor) -> Tensor:
    """Triton loads a bool as one bit."""
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor
