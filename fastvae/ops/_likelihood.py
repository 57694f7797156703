"""What every likelihood is beside an operator: what its value may be, and its loss in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributions import constraints

from ._contract import Contract
from ._one_pass import RowWise, one_pass_contract, total
from ._operator import Operator

PIXELS = {torch.uint8: 1 / 255}


class Likelihood(Operator):
    """log p(x|z) of a value x and parameters, the first and the other ones of `tensors`; summed over the event.

    `support` is where x lies, as torch.distributions says it. `x_scale` says what a value is multiplied by, by its
    dtype, where the caller does not: 1 unless it is named. `long_winded` formulas have some hundred operations.
    """

    def __init__(
        self,
        name: str,
        tensors: str,
        constants: str,
        value: Callable[..., Any],
        gradient: Callable[..., Any],
        support: constraints.Constraint,
        differentiable: tuple[str, ...] | None = None,
        x_scale: dict[torch.dtype, float] = PIXELS,
        long_winded: bool = False,
    ) -> None:
        arguments = f"{tensors}, Tensor? weight, int event_ndim, {constants}"
        super().__init__(name, arguments, ("log_prob",), value, gradient, differentiable)
        self.support, self.long_winded = support, long_winded
        self.x_scale = x_scale if "x_scale" in self.constants else {}
        self.one_pass = one_pass_contract(self)
        self.row_wise = RowWise(self, self.one_pass)
        self.total = total(self, self.one_pass)
        self.loss = total(self, self.one_pass, negative=True)

    @property
    def contracts(self) -> tuple[Contract, ...]:
        return *super().contracts, self.one_pass
