"""A public function as torch.compile sees it: one node of its graph, whatever the function checks and decides.

All that torch.compile follows by itself, a name, a default, a comparison, is a guard at each call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.compiler import is_compiling

from ..ops._contract import library, tensors
from ..ops._traced import node_revision

Function = TypeVar("Function", bound=Callable[..., Any])

# Of keywords, by annotation, the schema's type. A call with any other one is followed: numbers vary from call to call.
TYPES = {
    "Tensor | None": "Tensor?",
    "int | None": "int?",
    "bool": "bool",
    "DispersionAs": "str",
    "FreeBitsOver": "str",
    "LaplaceScaleName": "str",
    "MeanAs": "str",
    "RateAs": "str",
    "Reduction": "str",
    "ScaleName": "str",
}
_VARYING = frozenset({"num_samples"})
_PLAIN = (Tensor, int, str)


def one_node(results: int = 1, as_result: Callable[[Any], Any] | None = None) -> Callable[[Function], Function]:
    """`results` tensors, that `as_result` makes of the node's where that is no tensor nor tuple."""

    def decorate(function: Function) -> Function:
        name, parameters = function.__name__, inspect.signature(function).parameters.values()
        operands = [p.name for p in parameters if p.default is p.empty]
        keywords = {p.name: p for p in parameters if p.annotation in TYPES and p.name not in _VARYING}
        _declare(function, operands, list(keywords.values()), results)
        node, count = getattr(torch.ops.fastvae, name).whole, len(operands)
        in_schema = frozenset(keywords)

        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            if not is_compiling() or not _is_plain(args, count, given, in_schema):
                return function(*args, **given)
            result = node(node_revision(), *args, **given)
            return result if as_result is None else as_result(result)

        return cast(Function, call)

    return decorate


def _is_plain(args: tuple[Any, ...], count: int, given: dict[str, Any], in_schema: frozenset[str]) -> bool:
    """Whether the schema holds these arguments."""
    if len(args) != count or not all(isinstance(arg, Tensor) for arg in args):
        return False
    return all(name in in_schema and (value is None or isinstance(value, _PLAIN)) for name, value in given.items())


def _declare(
    function: Callable[..., Any], operands: list[str], keywords: list[inspect.Parameter], results: int
) -> None:
    name = function.__name__
    defaults = [f"{TYPES[p.annotation]} {p.name}={_literal(p.default)}" for p in keywords]
    arguments = ", ".join(["str revision", *(f"Tensor {operand}" for operand in operands), "*", *defaults])
    library.define(f"{name}.whole({arguments}) -> {tensors(results)}")

    def implementation(revision: str, *args: Any, **given: Any) -> Any:
        try:
            result = function(*args, **given)
        except (TypeError, ValueError) as error:
            if not is_compiling():
                raise
            # By these words torch.compile knows to leave the call to eager mode, where the error itself is raised.
            raise TypeError(f"an argument of {name} is refused: {error}") from error
        return result if isinstance(result, Tensor) else tuple(result)

    library.impl(f"{name}.whole", implementation, "CompositeImplicitAutograd")


def _literal(default: Any) -> str:
    return f'"{default}"' if isinstance(default, str) else str(default)
