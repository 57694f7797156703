"""An operator's arguments to a launch of `rows.walk`, planned once for each combination of shapes and layouts."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._shapes import accumulate_dtype, broadcast_shape
from ...ops._one_pass import OnePass
from ...ops._operator import Operator
from . import interpreting, plan
from .rows import GRAD_Z, NOISE, WEIGHT, Layout, Operand, sum_parts, walk

Constants = dict[str, Any]
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


@dataclass(frozen=True)
class Slots:
    """Which of an operator's arguments are what."""

    inputs: tuple[int, ...]
    per_row: int  # how many of the inputs have one value for each row
    weight: int | None
    seed: int | None
    eps: int | None
    grad_z: int | None
    constants: int  # the first of them


class Prepared(NamedTuple):
    """All of a launch that does not depend on where the tensors are."""

    results: list[tuple]  # of each result: size, stride, dtype
    count: int  # elements of an event
    copies: bool  # operands have too many strides and are made contiguous first
    shape: Sequence[int]
    layout: Layout | None  # None: there are no elements
    function: tuple
    space: tuple
    samples: int
    sample_sizes: tuple[int, int, int]
    tiling: plan.Tiling | None
    compiled: dict[tuple, Any]  # by device, alignment and constants: what a plan leaves open


def kernel(operator: Operator | OnePass, formula: Formula, backward: bool) -> Callable:
    """`operator`, or its backward, as a function of its arguments that launches `formula`."""
    slots = _slots(operator, backward)
    names = [text.split()[-1] for text in operator.constants.split(", ")] + ["needs"] * backward
    plans: dict[tuple, Prepared] = {}

    def call(*args):
        tensors, values = args[: slots.constants], args[slots.constants :]
        constants = dict(zip(names, values, strict=False))
        function = (formula.function, formula.read(constants), formula.flags(constants))
        key = (
            tuple([t if t is None else (t.shape, t.stride(), t.dtype) for t in tensors]),
            tuple(constants.get("needs", ())),
            operator.event_ndim(values),
            constants.get("num_samples"),
            function,
        )
        prepared = plans.get(key)
        if prepared is None:
            if len(plans) >= MAX_PLANS:
                plans.clear()
            prepared = plans[key] = _prepare(operator, backward, slots, function, args, constants)
        count = prepared.count
        results = _run(prepared, slots, tensors, formula.scalars(constants, count), formula.sum_scale(constants, count))
        return results if len(results) > 1 else results[0]

    return call


def _slots(operator: Operator | OnePass, backward: bool) -> Slots:
    names = [text.split()[-1] for text in operator.tensors]
    grads = len(operator.outputs) if backward else 0
    apart = {name: grads + names.index(name) for name in ("weight", "seed", "eps") if name in names}
    sampled = backward and "seed" in apart
    rows = [i for i in range(grads) if not (sampled and i == 0)]
    tensors = [grads + i for i in range(len(names)) if grads + i not in apart.values()]
    return Slots(
        inputs=(*rows, *tensors),
        per_row=len(rows),
        weight=apart.get("weight"),
        seed=apart.get("seed"),
        eps=apart.get("eps"),
        grad_z=0 if sampled else None,
        constants=grads + len(names),
    )


# --- once for each combination of shapes and layouts ---


def _prepare(
    operator: Operator | OnePass, backward: bool, slots: Slots, function: tuple, args: tuple, constants: Constants
):
    results = (operator._fake_backward if backward else operator.fake)(*args)
    results = results if isinstance(results, tuple) else (results,)
    grads = len(operator.outputs) if backward else 0
    shaped = args[grads : grads + operator.shaped]
    samples = constants.get("num_samples") or 0
    shape = broadcast_shape(*shaped)
    if samples and not backward:
        shape, samples = torch.Size((samples, *shape)), 0  # one more dimension, along which mean and scale repeat
    event_ndim = operator.event_ndim(args[slots.constants :])
    prepared = Prepared(
        results=[(r.size(), r.stride(), r.dtype) for r in results],
        count=math.prod(shape[len(shape) - event_ndim :]),
        copies=False,
        shape=shape,
        layout=None,
        function=function,
        space=(),
        samples=max(samples, 1),
        sample_sizes=(math.prod(shape), 0, 0),
        tiling=None,
        compiled={},
    )
    if math.prod(shape) == 0:
        return prepared
    needs = constants.get("needs", ())
    wanted = [*[True] * (len(results) - len(needs)), *needs]
    # A result of another shape is summed.
    outputs = [(r.shape == shape, r.stride()) if want else None for r, want in zip(results, wanted, strict=True)]
    call = _Call(
        slots,
        args,
        shape,
        0 if event_ndim == 0 else len(shape) - event_ndim,
        samples,
        outputs,
        accumulate_dtype(*shaped),
    )
    try:
        return call.lay_out(prepared)
    except plan.Unmergeable:
        return call.copied().lay_out(prepared._replace(copies=True))


@dataclass(frozen=True)
class _Call:
    """The operands of one call, to be laid out."""

    slots: Slots
    args: tuple
    shape: torch.Size
    batch_ndim: int
    samples: int  # of a backward; 0: no axis for them
    outputs: Sequence[tuple[bool, Sequence[int]] | None]  # of full shape or summed, strides; None: not wanted
    dtype: torch.dtype

    def copied(self) -> _Call:
        args = _contiguous(self.slots, self.shape, self.samples, self.args)
        strides = torch.empty(self.shape, device="meta").stride()
        outputs = [output and (output[0], strides) for output in self.outputs]
        return _Call(self.slots, args, self.shape, self.batch_ndim, self.samples, outputs, self.dtype)

    def lay_out(self, prepared: Prepared) -> Prepared:
        slots, args = self.slots, self.args
        rows = self.shape[: self.batch_ndim] if self.batch_ndim else self.shape
        found: dict[Any, Sequence[int]] = {}  # strides of whatever lies in memory
        for i, slot in enumerate(slots.inputs):
            if args[slot] is not None:
                shape = rows if i < slots.per_row else self.shape
                found["input", i] = (*args[slot].expand(shape).stride(), *[0] * (len(self.shape) - len(shape)))
        if slots.weight is not None and args[slots.weight] is not None:
            found["weight"] = args[slots.weight].expand(self.shape).stride()
        sample_sizes = [math.prod(self.shape), 0, 0]
        for place, name, slot in ((1, "noise", slots.eps), (2, "grad_z", slots.grad_z)):
            if slot is not None and args[slot] is not None:
                sample_sizes[place], found[name] = self._of_samples(args[slot])
        if slots.seed is not None and args[slots.seed] is not None:
            found["noise"] = torch.empty(self.shape, device="meta").stride()
        sums = False
        for i, output in enumerate(self.outputs):
            if output is not None and output[0]:
                found["output", i] = output[1]
            sums = sums or (output is not None and not output[0])
        space = plan.flatten(self.shape, self.batch_ndim, list(found.values()), sums)
        operands = dict(zip(found, plan.kinds(space), strict=True))
        return self._layout(prepared, space, operands, sums, tuple(sample_sizes), found)

    def _of_samples(self, tensor: Tensor) -> tuple[int, Sequence[int]]:
        """Stride of one sample, strides within it."""
        if self.samples == 0:
            return 0, tensor.expand(self.shape).stride()
        strides = tensor.expand((self.samples, *self.shape)).stride()
        return strides[0], strides[1:]

    def _layout(self, prepared, space, operands, sums, sample_sizes, found) -> Prepared:
        slots, args = self.slots, self.args
        flat = space.rows == 1
        memory = {kind for kind, _ in operands.values()} - {"row", "scalar"}
        unit = plan.unit_of(space, list(operands.values()))
        shifted = memory <= {"dense"} and not flat and space.cols > plan.TILE and unit < plan.ALIGNED.value
        tiling = plan.tile(space, sums, shifted, _warp_size())
        shifted = shifted and not tiling.whole_rows
        drawn = slots.seed is not None and args[slots.seed] is not None
        if drawn and operands["noise"][0] == "dense":
            by_four = (flat or shifted or space.cols % 4 == 0) and tiling.cols % 4 == 0
            if by_four and (self.samples <= 1 or sample_sizes[0] % 4 == 0):
                operands["noise"] = ("blocks", ())
        names, placed = list(operands), plan.with_places(list(operands.values()), unit)
        at = dict(zip(names, placed[0], strict=True))
        inputs = [
            at.get(("input", i), Operand("zero" if i < slots.per_row else "one")) for i in range(len(slots.inputs))
        ]
        outputs = [output and at.get(("output", i), Operand("sum")) for i, output in enumerate(self.outputs)]
        grad_z = None if slots.grad_z is None else at.get("grad_z", Operand("zero"))
        layout = Layout(
            operands=(*inputs, *outputs, at.get("weight"), at.get("noise"), grad_z),
            num_inputs=len(inputs),
            sums=sums,
            weighs_gradient=slots.per_row > 0,
            float=tl.float64 if self.dtype == torch.float64 else tl.float32,
            rows=tiling.rows,
            cols=tiling.cols,
            unit=unit,
            one_row=flat,
            whole_rows=tiling.whole_rows,
            full_rows=space.rows % tiling.rows == 0,
            full_cols=space.cols % tiling.cols == 0 and not shifted,
            shifted=shifted,
            wide=_reaches_beyond_32_bits(self.shape, found.values(), sample_sizes, prepared.samples),
        )
        sizes = (space.rows, space.cols // unit, space.inner_rows, space.inner_cols)
        return prepared._replace(layout=layout, space=(sizes, placed[1]), sample_sizes=sample_sizes, tiling=tiling)


def _warp_size() -> int:
    return 32 if interpreting() else triton.runtime.driver.active.get_current_target().warp_size


def _reaches_beyond_32_bits(shape, strides, sample_sizes, samples) -> bool:
    reach = max(sum((n - 1) * abs(step) for n, step in zip(shape, each, strict=True)) for each in strides)
    return max(reach, math.prod(shape)) + samples * max(sample_sizes) >= 2**31 - plan.TILE * plan.MAX_PARTS


def _contiguous(slots: Slots, shape: torch.Size, samples: int, args: tuple) -> tuple:
    """Operands that have more than one element copied to the full shape."""

    def copy(slot: int, shape: Sequence[int]) -> None:
        tensor = result[slot]
        if tensor is not None and tensor.numel() > 1:
            result[slot] = tensor.expand(shape).contiguous()

    result = list(args)
    for slot in (*slots.inputs[slots.per_row :], slots.weight):
        if slot is not None:
            copy(slot, shape)
    for slot in slots.inputs[: slots.per_row]:
        result[slot] = None if result[slot] is None else result[slot].contiguous()
    for slot in (slots.eps, slots.grad_z):
        if slot is not None:
            copy(slot, (samples, *shape) if samples else shape)
    return tuple(result)


# --- at each call ---


def _run(prepared: Prepared, slots: Slots, args: tuple, scalars: tuple[float, ...], sum_scale: float) -> tuple:
    device = next(t for t in args if t is not None).device
    results = [torch.empty_strided(*spec[:2], dtype=spec[2], device=device) for spec in prepared.results]
    layout = prepared.layout
    if layout is None:
        return tuple(result.zero_() for result in results)
    outputs = results
    if prepared.copies:
        args = _contiguous(slots, prepared.shape, prepared.samples if layout.operands[GRAD_Z.value] else 0, args)
        outputs = [r.contiguous() if r.shape == prepared.shape else r for r in results]
    with on_device(device):
        _launch(prepared, layout, slots, args, outputs, scalars, sum_scale)
    if prepared.copies:
        for result, output in zip(results, outputs, strict=True):
            if result is not output:
                result.copy_(output)
    return tuple(results)


def on_device(device: torch.device):
    """Triton launches on the current device."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return contextlib.nullcontext()
    return torch.cuda.device(device)


def _launch(prepared, layout: Layout, slots: Slots, args, outputs, scalars, sum_scale) -> None:
    tiling, (sizes, strides) = prepared.tiling, prepared.space
    some = outputs[0]  # stands where nothing is read
    inputs = tuple([some if args[i] is None else _bytes(args[i]) for i in slots.inputs])
    weight = None if layout.operands[WEIGHT.value] is None else _bytes(args[slots.weight])
    seed = eps = None
    if layout.operands[NOISE.value] is not None:
        seed, eps = args[slots.seed], args[slots.eps]
    grad_z = None if slots.grad_z is None else args[slots.grad_z]
    partial = None
    targets = tuple(outputs)
    if tiling.parts > 1:
        partial = [
            _partial(o, out, sizes[0] * tiling.parts)
            for o, out in zip(layout.operands[layout.num_inputs :], outputs, strict=False)
        ]
        targets = tuple(out if p is None else p for p, out in zip(partial, outputs, strict=True))
    total_scale = sum_scale if partial is None else 1.0
    baked = ()
    if layout.float == tl.float64:
        # A float reaches a kernel as float32; a constant does not.
        baked = (*scalars, total_scale)
        scalars, total_scale = tuple([tl.constexpr(s) for s in scalars]), tl.constexpr(total_scale)
    arguments = (
        (inputs, targets, weight, grad_z, prepared.samples),
        (seed, eps, prepared.sample_sizes),
        prepared.space,
        scalars,
        total_scale,
        tiling.parts,
        tiling.span,
        *prepared.function,
        layout,
    )
    _walk(prepared, arguments, (*inputs, *targets, weight, grad_z, eps), baked)
    if partial is not None:
        for part, out in zip(partial, outputs, strict=True):
            if part is not None:
                _sum(part, out, sizes[0], tiling.parts, sum_scale)


def _walk(prepared: Prepared, arguments: tuple, pointers: tuple, baked: tuple[float, ...]) -> None:
    """Launch, past Triton's own look-up of what it has compiled: that costs more than a small kernel."""
    tiling, rows = prepared.tiling, prepared.space[0][0]
    grid = (triton.cdiv(rows, tiling.rows) if tiling.whole_rows else rows * tiling.parts, 1, 1)
    key = (pointers[0].get_device(), *[p is None or p.data_ptr() % 16 == 0 for p in pointers], *baked)
    compiled = prepared.compiled.get(key)
    if compiled is None:
        prepared.compiled[key] = walk[grid](*arguments, num_warps=tiling.warps, **COMPILER)
    else:
        compiled[grid](*arguments)


def _partial(operand: Operand | None, out: Tensor, count: int) -> Tensor | None:
    return out.new_empty(count) if operand is not None and operand.kind == "sum" else None


def _sum(partial: Tensor, out: Tensor, rows: int, parts: int, scale: float) -> None:
    cols = plan.power_of_two(parts)
    tile = max(1, min(plan.TILE // cols, plan.power_of_two(rows)))
    scale = tl.constexpr(scale) if out.dtype == torch.float64 else scale
    grid = (triton.cdiv(rows, tile),)
    sum_parts[grid](partial, out, scale, rows, parts, ROWS=tile, PARTS=cols, **COMPILER)


def _bytes(tensor: Tensor) -> Tensor:
    """Triton loads a bool as one bit."""
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor
