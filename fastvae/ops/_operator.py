"""One declaration of an operator, from which its schemas, fakes, gradients and vmap rules follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._shapes import accumulate_dtype, batch_shape, broadcast_shape, empty_grad
from . import _autograd
from ._contract import Contract, parse, tensors
from ._formula import PlainTorch
from ._vmap import backward_rule, forward_rule

if TYPE_CHECKING:
    from ._one_pass import RowWise

# How the second parameter of a Gaussian is read; the same four arguments close every schema that has one.
SCALE_AS = "str scale_as, float scale_eps, float clamp_lo, float clamp_hi"

NOT_OPERANDS = frozenset({"weight", "seed", "eps"})

OPERATORS: dict[str, Operator] = {}  # every one of elements that was declared


class Operator:
    """An operator and its backward: `name(arguments) -> outputs`.

    `arguments` is schema text; what an argument is called says what it is:

    - `weight` multiplies each element's term, and where it is zero value and gradients are zero. It gets no gradient.
    - `seed` and `eps`: exactly one is given, and the first output is a sample, shaped like the operands broadcast.
    - `num_samples` = K > 0 puts a leading axis of K on that; 0 puts none.
    - `event_ndim`: how many trailing dimensions are summed in the other outputs. Without it nothing is.
    - `averaged`: whether they are averaged over the event instead.

    Every other tensor is an operand, and gets a gradient unless `differentiable` names fewer, the last ones. `value`
    and `gradient` are the formula, element by element: they take operands, noise, and by name the remaining constants.

    `apply` is the operator as autograd, torch.func and torch.compile differentiate it. `summed` are the outputs that
    are summed over the event; `samples` says that the first is none of them. `of_rows`: see `_rows`.
    """

    registry = OPERATORS
    of_rows = False
    long_winded = False

    def __init__(
        self,
        name: str,
        arguments: str,
        outputs: tuple[str, ...],
        value: Callable[..., Any],
        gradient: Callable[..., Any],
        differentiable: tuple[str, ...] | None = None,
    ) -> None:
        self.name, self.arguments, self.outputs = name, parse(arguments), outputs
        self.kernel = name  # the one that backends have for it
        self.tensors = tuple(argument.name for argument in self.arguments if argument.is_tensor)
        self.constants = tuple(argument.name for argument in self.arguments if not argument.is_tensor)
        self.operands = tuple(tensor for tensor in self.tensors if tensor not in NOT_OPERANDS)
        # Whether the first output is a sample. Noise is numbered by element: vmap may not merge calls into one.
        self.samples = "seed" in self.tensors
        self.summed = outputs[1:] if self.samples else outputs
        self.differentiable = self.operands if differentiable is None else differentiable
        self.formula = PlainTorch(self, value, gradient)
        self.forward = Contract(name, self.arguments, tensors(len(outputs)), self._fake, self.formula.forward)
        self.backward = Contract(
            f"{name}_backward",
            (
                *parse(", ".join(f"Tensor? grad_{output}" for output in outputs)),
                *self.arguments,
                *parse("bool[] needs"),
            ),
            tensors(len(self.differentiable)),
            self._fake_backward,
            self.formula.backward,
        )
        self.forward.register_vmap(forward_rule(self.forward, self.samples))
        self.backward.register_vmap(backward_rule(self.backward, len(outputs), self.samples))
        self.row_wise: RowWise | None = None  # where one pass gives values and gradients
        self.gradients = _autograd.gradients_of(self)
        self.apply = _autograd.differentiable(self)
        self.registry[name] = self

    @property
    def contracts(self) -> tuple[Contract, ...]:
        return self.forward, self.backward

    def shaped(self, given: dict[str, Any]) -> list[Tensor | None]:
        """The tensors that broadcast against each other."""
        return [given[name] for name in self.tensors if name not in ("seed", "eps")]

    def _fake(self, *args) -> Any:
        given = self.forward.named(args)
        shaped, first = self.shaped(given), args[0]
        shape, dtype = broadcast_shape(*shaped), accumulate_dtype(*shaped)
        batch = batch_shape(shape, given.get("event_ndim", 0))
        results = [first.new_empty(batch, dtype=dtype) for _ in self.summed]
        if self.samples:
            results.insert(0, _empty_sample(first, shape, given.get("num_samples", 0)))
        return results[0] if len(results) == 1 else tuple(results)

    def _fake_backward(self, *args) -> Any:
        given = self.backward.named(args)
        grads = self.empty_grads(given)
        return grads[0] if len(grads) == 1 else grads

    def empty_grads(self, given: dict[str, Any]) -> tuple[Tensor, ...]:
        """Of the differentiable operands; without elements where none is needed."""
        shaped, event_ndim = self.shaped(given), given.get("event_ndim", 0)
        shape, dtype = broadcast_shape(*shaped), accumulate_dtype(*shaped)
        wanted = zip(self.differentiable, given["needs"], strict=True)
        nothing = given[self.operands[0]]
        return tuple(
            empty_grad(given[name], shape, event_ndim, dtype) if need else nothing.new_empty(0) for name, need in wanted
        )


def _empty_sample(first: Tensor, shape: Sequence[int], num_samples: int) -> Tensor:
    if num_samples > 0:
        return first.new_empty([num_samples, *shape])
    return torch.empty_like(first) if first.shape == shape else first.new_empty(shape)
