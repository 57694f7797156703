"""Plans for calls of `rows.walk`, each made once for all tensors of the same shapes, strides and dtypes."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._shapes import accumulate_dtype, broadcast_shape
from ...ops import Contract, Operator
from . import interpreting, plan, shared
from .layout import Layout, Operand, Space, Steps


@dataclass(frozen=True)
class Slots:
    """Where an operator's arguments stand, by what a kernel does with them."""

    inputs: tuple[int, ...]
    per_row: int  # how many of the inputs have one value for each row
    weight: int | None
    seed: int | None
    eps: int | None
    grad_z: int | None
    shaped: tuple[int, ...]  # what is broadcast


def slots_of(operator: Operator, contract: Contract) -> Slots:
    at = {name: i for i, name in enumerate(contract.names)}
    backward = contract is operator.backward
    grads = [at[f"grad_{name}"] for name in operator.summed] if backward else []
    return Slots(
        inputs=(*grads, *[at[name] for name in operator.operands]),
        per_row=len(grads),
        weight=at.get("weight"),
        seed=at.get("seed"),
        eps=at.get("eps"),
        grad_z=0 if backward and operator.samples else None,
        shaped=tuple(at[name] for name in operator.tensors if name not in ("seed", "eps")),
    )


class Launch(NamedTuple):
    layout: Layout
    space: Space
    tiling: plan.Tiling
    grid: tuple[int, int, int]
    copied_to: torch.Size | None  # the shape that operands with too many strides are copied to first
    ends: list[shared.End | None]  # of each result, how torch ends its sum, if it does


class Plan(NamedTuple):
    results: list[tuple]  # of each as the kernel writes it: size, stride, dtype
    ends: Sequence[shared.End | None]  # how torch ends its sum, if it does
    event_size: int
    double: bool  # whether arithmetic is in float64
    launch: Launch | None  # None: there are no elements
    compiled: dict[tuple, dict]  # by what of the constants a kernel is compiled for


def prepare(contract: Contract, slots: Slots, args: tuple) -> Plan:
    given = contract.named(args)
    declared = contract.fake(*args)
    declared = declared if isinstance(declared, tuple) else (declared,)
    shaped = [args[i] for i in slots.shaped]
    samples, shape = given.get("num_samples", 0), broadcast_shape(*shaped)
    if samples and slots.grad_z is None:
        shape, samples = torch.Size((samples, *shape)), 0  # one more dimension, along which mean and scale repeat
    event_ndim, needs = given.get("event_ndim", 0), given.get("needs", ())
    wanted = [*[True] * (len(declared) - len(needs)), *needs]
    double = accumulate_dtype(*shaped) == torch.float64
    launch: Launch | None = None
    ends: Sequence[shared.End | None] = [None] * len(declared)
    if math.prod(shape) > 0:
        operands = _Operands(
            slots=slots,
            args=args,
            shape=shape,
            event_ndim=event_ndim,
            samples=samples,
            results=tuple(r if want else None for r, want in zip(declared, wanted, strict=True)),
            double=double,
        )
        launch = operands.lay_out()
        ends = launch.ends
    specs = [_spec(r, end) for r, end in zip(declared, ends, strict=True)]
    return Plan(specs, ends, math.prod(shape[len(shape) - event_ndim :]), double, launch, {})


def _spec(result: Tensor, end: shared.End | None) -> tuple:
    if end is None:
        return result.size(), result.stride(), result.dtype
    return (math.prod(end.view),), (1,), result.dtype


@dataclass(frozen=True)
class _Operands:
    """Of one call, to be laid out. A result that has not the full shape is a sum, of an event or of what is shared."""

    slots: Slots
    args: tuple
    shape: torch.Size
    event_ndim: int
    samples: int  # of a backward; 0: no axis for them
    results: tuple[Tensor | None, ...]  # None: not wanted
    double: bool

    @property
    def batch_ndim(self) -> int:
        return 0 if self.event_ndim == 0 else len(self.shape) - self.event_ndim

    def lay_out(self) -> Launch:
        cut = self._cut()
        try:
            return self._lay_out(cut, None)
        except plan.UnmergeableError:
            results = tuple(r if r is None else r.contiguous() for r in self.results)
            args = contiguous(self.slots, self.shape, self.samples, self.args)
            return replace(self, args=args, results=results)._lay_out(cut, self.shape)

    def _is_shared(self, result: Tensor) -> bool:
        return shared.is_shared(result.shape, self.shape, self.event_ndim)

    def _cut(self) -> shared.Cut | None:
        """How rows are cut for what is shared; columns are told apart only where they are walked in their order."""
        sums = [r for r in self.results if r is not None and r.shape != self.shape]
        of_shared = [r.shape for r in sums if self._is_shared(r)]
        if not of_shared:
            return None
        cut = shared.cut_for(of_shared, self.shape, self.batch_ndim, len(sums) > len(of_shared))
        if cut is None or not cut.by_columns:
            return cut
        strides, _ = self._strides(cut)
        return cut if plan.is_in_order(self.shape, cut.rows_ndim, list(strides.values())) else None

    def _lay_out(self, cut: shared.Cut | None, copied_to: torch.Size | None) -> Launch:
        strides, steps = self._strides(cut)
        sums = cut is not None or any(r is not None and self._is_sum(r) for r in self.results)
        flat = plan.flatten(self.shape, self.batch_ndim if cut is None else cut.rows_ndim, list(strides.values()), sums)
        kinds = dict(zip(strides, plan.kinds(flat), strict=True))
        by_columns = cut is not None and cut.by_columns
        unit = plan.unit_of(flat, list(kinds.values()))
        shifted = not by_columns and plan.is_shifted(flat, kinds.values(), unit)
        tiling = plan.tile_columns(flat, _warp_size()) if by_columns else plan.tile(flat, sums, shifted, _warp_size())
        if self._in_blocks(steps.drawn) and plan.by_fours(flat, kinds["noise"], tiling, shifted):
            kinds["noise"] = ("blocks", ())
        placed, flat_strides = plan.with_places(list(kinds.values()), unit)
        layout = Layout(
            operands=self._in_order(dict(zip(kinds, placed, strict=True)), by_columns),
            num_inputs=len(self.slots.inputs),
            sums=sums,
            in_parts=sums and cut is None and tiling.parts > 1,
            cut=cut is not None,
            by_columns=by_columns,
            float=tl.float64 if self.double else tl.float32,
            rows=tiling.rows,
            cols=tiling.cols,
            unit=unit,
            one_row=flat.rows == 1,
            whole_rows=tiling.whole_rows,
            full_rows=flat.rows % tiling.rows == 0,
            full_cols=flat.cols % tiling.cols == 0 and not shifted,
            shifted=shifted,
            wide=self._reach(strides.values(), steps) >= 2**31 - plan.TILE * plan.MAX_PARTS,
        )
        space = Space(
            rows=flat.rows,
            cols=flat.cols // unit,
            inner_rows=flat.inner_rows,
            inner_cols=flat.inner_cols,
            strides=flat_strides,
            samples=max(self.samples, 1),
            steps=steps,
        )
        ends = [None if r is None else self._end(r, cut, flat, tiling) for r in self.results]
        return Launch(layout, space, tiling, (plan.programs(flat, tiling), 1, 1), copied_to, ends)

    def _is_sum(self, result: Tensor) -> bool:
        """Of events."""
        return result.shape != self.shape and not self._is_shared(result)

    def _end(self, result: Tensor, cut: shared.Cut | None, flat: plan.Flat, tiling: plan.Tiling) -> shared.End | None:
        if self._is_shared(result):
            if cut is None:
                return shared.end_of_terms(result.shape, self.shape)
            return shared.end_of_parts(result.shape, self.shape, cut, tiling.parts)
        if cut is None or not self._is_sum(result):
            return None
        return shared.end_of_sum(result.shape, flat.rows * (tiling.blocks or tiling.parts))

    def _in_blocks(self, step: int) -> bool:
        """Whether noise is drawn, and each sample's starts with a block."""
        return self._given(self.slots.seed) is not None and (self.samples <= 1 or step % 4 == 0)

    def _given(self, slot: int | None) -> Tensor | None:
        return None if slot is None else self.args[slot]

    def _strides(self, cut: shared.Cut | None) -> tuple[dict[Any, Sequence[int]], Steps]:
        """Strides over the full shape of whatever lies in memory, and from one sample to the next."""
        slots, numbered = self.slots, torch.empty(self.shape, device="meta").stride()
        rows = self.shape[: self.batch_ndim] if self.batch_ndim else self.shape
        strides: dict[Any, Sequence[int]] = {}
        for i, slot in enumerate(slots.inputs):
            tensor = self._given(slot)
            if tensor is not None:
                shape = rows if i < slots.per_row else self.shape
                strides["input", i] = (*tensor.expand(shape).stride(), *[0] * (len(self.shape) - len(shape)))
        weight, eps, grad_z = (self._given(slot) for slot in (slots.weight, slots.eps, slots.grad_z))
        if weight is not None:
            strides["weight"] = weight.expand(self.shape).stride()
        of_eps, eps_strides = self._of_samples(eps)
        of_grad, grad_strides = self._of_samples(grad_z)
        if eps is not None:
            strides["noise"] = eps_strides
        elif self._given(slots.seed) is not None:
            strides["noise"] = numbered
        if grad_z is not None:
            strides["grad_z"] = grad_strides
        for i, result in enumerate(self.results):
            if result is not None and result.shape == self.shape:
                strides["output", i] = result.stride()
            elif result is not None and cut is None and self._is_shared(result):
                strides["output", i] = numbered
        return strides, Steps(math.prod(self.shape), of_eps, of_grad)

    def _of_samples(self, tensor: Tensor | None) -> tuple[int, Sequence[int]]:
        """Elements from one sample to the next, strides within one."""
        if tensor is None:
            return 0, ()
        if self.samples == 0:
            return 0, tensor.expand(self.shape).stride()
        strides = tensor.expand((self.samples, *self.shape)).stride()
        return strides[0], strides[1:]

    def _in_order(self, at: dict[Any, Operand], by_columns: bool) -> tuple[Operand | None, ...]:
        """As rows.Layout has them."""
        slots = self.slots
        absent = [Operand("zero" if i < slots.per_row else "one") for i in range(len(slots.inputs))]
        inputs = [at.get(("input", i), operand) for i, operand in enumerate(absent)]
        outputs = [
            None if r is None else at.get(("output", i), Operand(self._kind_of_sum(r, by_columns)))
            for i, r in enumerate(self.results)
        ]
        grad_z = None if slots.grad_z is None else at.get("grad_z", Operand("zero"))
        return (*inputs, *outputs, at.get("weight"), at.get("noise"), grad_z)

    def _kind_of_sum(self, result: Tensor, by_columns: bool) -> str:
        return "shared" if by_columns and self._is_shared(result) else "sum"

    def _reach(self, strides: Collection[Sequence[int]], steps: Steps) -> int:
        """No offset is larger."""
        reach = max(sum((n - 1) * abs(s) for n, s in zip(self.shape, each, strict=True)) for each in strides)
        return max(reach, math.prod(self.shape)) + max(self.samples, 1) * max(steps)


def contiguous(slots: Slots, shape: torch.Size, samples: int, args: tuple) -> tuple:
    """The arguments, those with more than one element copied to the full shape."""
    shapes: dict[int | None, Sequence[int] | None] = dict.fromkeys(slots.inputs[: slots.per_row])
    shapes |= dict.fromkeys((*slots.inputs[slots.per_row :], slots.weight), shape)
    shapes |= dict.fromkeys((slots.eps, slots.grad_z), (samples, *shape) if samples else shape)
    return tuple(_copied(arg, shapes[i]) if i in shapes else arg for i, arg in enumerate(args))


def _copied(tensor: Tensor | None, shape: Sequence[int] | None) -> Tensor | None:
    if tensor is None or tensor.numel() <= 1:
        return tensor
    return (tensor if shape is None else tensor.expand(shape)).contiguous()


def _warp_size() -> int:
    return 32 if interpreting() else triton.runtime.driver.active.get_current_target().warp_size
