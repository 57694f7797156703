"""One operator of the dispatcher: its schema, parsed once, and what it is in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from .._shapes import autocast_dtype

library = torch.library.Library("fastvae", "DEF")

CONTRACTS: dict[str, Contract] = {}  # every one that was declared, but for those that call others
COMPOSED: dict[str, Composed] = {}  # these


@dataclass(frozen=True)
class Argument:
    """`type` in the dispatcher's language: "Tensor", "Tensor?", "int", "SymInt", "float", "bool", "str", "bool[]"."""

    type: str
    name: str

    @property
    def is_tensor(self) -> bool:
        return self.type.startswith("Tensor")

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


def parse(text: str) -> tuple[Argument, ...]:
    return tuple(Argument(*part.split()) for part in text.split(",") if part.strip())


@dataclass(eq=False)
class Contract:
    """`name(arguments) -> results`: what a backend computes. Tensors come before constants.

    `fake` gives empty results, `formula` the results in plain torch; both take the arguments in their order. `call` is
    the operator itself, as the dispatcher has it.
    """

    name: str
    arguments: tuple[Argument, ...]
    returns: str
    fake: Callable[..., Any]
    formula: Callable[..., Any]
    names: tuple[str, ...] = field(init=False)
    num_tensors: int = field(init=False)
    call: Callable[..., Any] = field(init=False)

    def __post_init__(self) -> None:
        # At once, and not by functools.cached_property, whose lock torch.compile cannot trace.
        self.names = tuple(argument.name for argument in self.arguments)
        self.num_tensors = sum(argument.is_tensor for argument in self.arguments)
        library.define(f"{self.name}({', '.join(map(str, self.arguments))}) -> {self.returns}")
        self.call = getattr(torch.ops.fastvae, self.name).default
        torch.library.register_fake(f"fastvae::{self.name}", self.fake, lib=library)
        self.declare()

    def declare(self) -> None:
        """Says that backends may compute it."""
        CONTRACTS[self.name] = self

    def named(self, args) -> dict[str, Any]:
        return dict(zip(self.names, args, strict=True))

    def register_vmap(self, rule: Callable[..., Any]) -> None:
        torch.library.register_vmap(f"fastvae::{self.name}", rule, lib=library)


class Composed(Contract):
    """An operator that calls others: its `formula` serves wherever a backend has no kernel of the whole.

    The others see neither gradients nor autocast: what they compute is this operator's.
    """

    def declare(self) -> None:
        work = self.formula

        def call(*args: Any) -> Any:
            device = next(arg.device for arg in args if isinstance(arg, torch.Tensor))
            off = nullcontext() if autocast_dtype(device) is None else torch.autocast(device.type, enabled=False)
            with torch.no_grad(), off:
                return work(*args)

        self.formula = call
        COMPOSED[self.name] = self


Work = tuple[Callable[..., Any], Callable[..., Any]]  # what is known before, and what is computed


def composed(
    name: str, arguments: tuple[Argument, ...], gradients: int, forward: Work, backward: Work, one_pass: Work
) -> tuple[Composed, Composed, Composed]:
    """A likelihood that calls others, its backward, and a loss in one pass, which has its gradients, too."""
    needs = parse("bool[] needs")
    ahead = *arguments, *parse("float factor"), *needs
    behind = *parse("Tensor grad_log_prob"), *arguments, *needs
    return (
        Composed(name, arguments, "Tensor", *forward),
        Composed(f"{name}_backward", behind, tensors(gradients), *backward),
        Composed(f"{name}_one_pass", ahead, tensors(1 + gradients), *one_pass),
    )


def tensors(count: int) -> str:
    """The return type of so many tensors."""
    return "Tensor" if count == 1 else "(" + ", ".join(["Tensor"] * count) + ")"
