"""What several public functions say alike, written once: `documented` puts it into each one's docstring."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

SHARED = {
    "event_ndim": (
        "how many trailing dimensions are summed. None: all but the first of the operand with the fewest dimensions, "
        "two at least and scales aside, so x [B, D] with logits [K, B, D] gives [K, B]. 0: none, it is elementwise."
    ),
    "scale_as": (
        'what `log_var` holds: "log_var", "log_std", "var", "std", or "softplus" (std = softplus(s) + scale_eps).'
    ),
    "scale_eps": 'added to the standard deviation; read by `scale_as="softplus"` only.',
    "clamp": "(lo, hi) on the log-variance, however it is given. Outside it the gradient is zero.",
    "num_samples": "K >= 1: as many samples, on a new leading axis; `mean` is not expanded in memory. None: no axis.",
    "seed": (
        "the key of the noise stream that `fastvae.ops.noise` defines: an int, or an int64 tensor with one element. "
        "Given none of seed, generator and eps, `torch.randint` draws it on mean's device."
    ),
    "generator": (
        "the torch.Generator that the seed is drawn from; while a CUDA graph is captured, one on the GPU that is "
        "registered with the graph."
    ),
    "eps": "the noise itself, shaped like z.",
    "free_bits": (
        "nats, a number or a 0-d tensor: floor for the KL at the level `free_bits_over` (Kingma et al. 2016, "
        '"Improving variational inference with inverse autoregressive flow", eq. 15). Where the floor holds, the '
        "gradient is exactly zero."
    ),
    "free_bits_over": (
        'what is floored: each "element"; each "latent", averaged over the batch; each "sample"; the "batch" mean. '
        "Levels above the element count only what mask and weight leave in."
    ),
    "mask": (
        "bool, broadcasts to the elements. Where it is False, value and gradients are exactly zero, also where the "
        "element is NaN."
    ),
    "weight": "floating, broadcasts to the elements, whose terms it multiplies; zero is a mask's False.",
    "element_weight": (
        "floating, broadcasts to the elements: what `weight` is to the other likelihoods; here that is the layer's."
    ),
    "reduction": (
        '"none" gives one value for each element of the batch; "sum" and "mean" one for all of it, and gradients made '
        "in the same pass where they are not float16: what a loss needs that holds its negative. Under torch.compile "
        "and torch.func the passes are theirs to fuse."
    ),
    "x_scale": "x is read as x * x_scale. None: 1/255 for uint8, 1 otherwise.",
}

RAISES = """\
TypeError: what is no tensor or of a wrong dtype; a number that is none.
ValueError: shapes that do not broadcast, operands on different devices, values out of range, unknown names.
Both are raised before any work, and name the argument. What only the data can tell is not checked."""

SECTIONS = ("Args", "Shape", "Returns", "Raises", "Reference")


def documented(function: Function) -> Function:
    """Into the function's docstring: those of its keywords that others share, and what all raise."""
    if function.__doc__:  # absent under python -OO
        text = inspect.cleandoc(function.__doc__)
        shared = [
            name for name in inspect.signature(function).parameters if name in SHARED and f"\n    {name}:" not in text
        ]
        arguments = "\n".join(_wrapped(f"{name}: {SHARED[name]}", "    ") for name in shared)
        text = text.replace("\n\nShape:", f"\n{arguments}\n\nShape:", 1)
        raises = f"Raises:\n{textwrap.indent(RAISES, '    ')}"
        function.__doc__ = text.replace("\n\nReference:", f"\n\n{raises}\n\nReference:", 1)
    return function


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=indent + "    ")
