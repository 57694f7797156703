"""What torch.compile sees of an operator: one node, `name.traced`, that stands for its formula or for its kernels.

A kernel is opaque to the compiler; a formula it fuses with what surrounds it. Both are the same mathematics, forward
and hand-written backward, so nothing but speed depends on the choice. A node and not the Python code behind it, since
all that torch.compile follows there is a guard at each call.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.autograd import Function, forward_ad
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.fx.experimental.symbolic_shapes import has_static_value
from torch.utils.checkpoint import CheckpointPolicy

from .._shapes import accumulate_dtype, broadcast_shape
from ._contract import library
from ._dtensor import ready, replicated
from ._stream import stream

if TYPE_CHECKING:
    from ._operator import Operator

Choice = Literal["formula", "kernel"]
Chooser = Callable[["Operator", Any, str], Choice]  # by the number of elements and type of device

_choose: Chooser = lambda operator, numel, device_type: "formula"  # noqa: E731


# What the node stands for besides its arguments. It is one of them: the compiler's caches, in the process and on disk,
# know a node by nothing else.
_revision = ""


def choose_by(chooser: Chooser, state: str) -> None:
    """Who has kernels says where they are worth it; without any it is the formula. `state` is what that depends on."""
    global _choose, _revision
    _choose, _revision = chooser, f"{_sources()}:{state}"


def choice(operator: Any, numel: int, device_type: str) -> Choice:
    """What stands for the operator in a graph."""
    return _choose(operator, numel, device_type)


def node_revision() -> str:
    """For every node that runs code of this package while it is traced."""
    return _revision


@functools.cache
def _sources() -> str:
    """A hash of the code that a node runs while it is traced."""
    package = Path(__file__).parents[1]
    files = sorted(
        [
            package / "_shapes.py",
            *package.glob("formulas/*.py"),
            *package.glob("functional/*.py"),
            *package.glob("ops/*.py"),
            *package.glob("backends/*.py"),
        ]
    )
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def traced(operator: Operator, kernels: type[Function], formulas: type[Function]) -> Callable[..., Any]:
    """Declares the node, and returns it as a function. `kernels` and `formulas` are the two ways to compute it.

    The node has three arguments more: tensors for the numbers that vary from call to call, which arguments they are,
    and `_revision`.
    """
    schema = ", ".join(map(str, operator.arguments))
    library.define(
        f"{operator.name}.traced({schema}, Tensor[] numbers, int[] which, str revision) -> {operator.forward.returns}"
    )

    def implementation(*arguments: Any) -> Any:
        ready()
        *args, numbers, which, _ = arguments
        given = operator.forward.named(args)
        shape, dtype = broadcast_shape(*operator.shaped(given)), accumulate_dtype(*operator.shaped(given))
        given |= {operator.forward.names[i]: number.to(dtype) for i, number in zip(which, numbers, strict=True)}
        if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
            return operator.formula.forward(*given.values())
        if which or _choose(operator, math.prod(shape), args[0].device.type) == "formula":
            return formulas.apply(*_with_noise(operator, given, shape))
        if operator.row_wise is not None and operator.row_wise.serves(given, shape):
            return operator.row_wise.apply(*args)
        return kernels.apply(*args)

    library.impl(f"{operator.name}.traced", implementation, "CompositeImplicitAutograd")
    node = getattr(torch.ops.fastvae, operator.name).traced

    def call(*args: Any) -> Any:
        which = [i for i, arg in enumerate(args) if isinstance(arg, float) and not has_static_value(arg)]
        if not which:
            return node(*args, [], [], _revision)
        # As tensors, new values are no new graph; by a product, since a tracer asks torch.full for the value.
        one = torch.ones((), dtype=torch.float64, device=args[0].device)
        numbers = [one * args[i] for i in which]
        return node(*(0.0 if i in which else arg for i, arg in enumerate(args)), numbers, which, _revision)

    return call


def _with_noise(operator: Operator, given: dict[str, Any], shape: torch.Size) -> tuple[Any, ...]:
    """The noise of a seed made by a kernel: no compiler has a generator as fast."""
    if operator.samples and given["eps"] is None:
        eps = replicated(stream(operator, given, shape), operator.shaped(given))
        given |= {"seed": None, "eps": eps}
    return tuple(given.values())


@contextlib.contextmanager
def saved() -> Iterator[None]:
    """What is computed here is kept for backward, however short the memory: it would come out otherwise there.

    The nodes are marked when they stand in the graph: a checkpointed region marks all that comes about in it.
    """
    mode = get_proxy_mode()
    nodes: Any = () if mode is None else mode.tracer.graph.nodes
    before = len(nodes)
    yield
    for node in itertools.islice(reversed(nodes), len(nodes) - before):
        node.meta["recompute"] = CheckpointPolicy.MUST_SAVE
