"""A decoder's last layer together with the likelihood: where that can be, and where it is worth it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from .. import functional

NETWORKS = ("mlp", "linear")  # whose decoder ends in a linear layer


class Wide(NamedTuple):
    """From here on parameters that are never whole in memory are worth the chunks."""

    elements: int  # of the layer's output, at least
    ratio: int  # of its columns to its inputs, at least
    hidden: float = float("inf")  # inputs at most


# By what is differentiated: one number, whose gradients are made on the way, or one for each row, for which backward
# multiplies once more. Of the time of the layer and its kernel on a CPU, by `python -m benchmarks.heads` and the like:
# one number, H = 96, D = 9,000: 0.7; H = 400, D = 784: 1.0; each row, H = 96, D = 9,000: 0.9; H = 400, D = 784: 1.5.
WIDE = {"one number": Wide(2**22, ratio=4), "each row": Wide(2**22, ratio=4, hidden=128)}


def why_not(network: str, likelihood: str, variance: str, num_outputs: int) -> str | None:
    """None where a model can have its last layer fused, else the reason."""
    if network not in NETWORKS:
        return f"the decoder of model {network!r} does not end in a linear layer"
    if function_name(likelihood) not in functional.linear.__all__:
        return f"there is no fastvae.{function_name(likelihood)}"
    if variance == "optimal":
        return "variance 'optimal' is known after the whole batch"
    if num_outputs > 1:
        return f"variance {variance!r} is a second output of the decoder"
    return None


def function_name(likelihood: str) -> str:
    return f"linear_{likelihood}_log_prob"


def is_wide(rows: int, columns: int, hidden: int, each_row: bool) -> bool:
    wide = WIDE["each row" if each_row else "one number"]
    return rows * columns >= wide.elements and columns >= wide.ratio * hidden and hidden <= wide.hidden


def split(decoder: nn.Module, z: Tensor) -> tuple[Tensor, nn.Linear]:
    """What the last layer is given of z [rows, L], and that layer.

    Raises:
        TypeError: the decoder does not end in a linear layer.
    """
    *body, last = decoder if isinstance(decoder, nn.Sequential) else [decoder]
    if not isinstance(last, nn.Linear):
        raise TypeError(f"a fused head wants a decoder that ends in nn.Linear, got {type(last).__name__}")
    for layer in body:
        z = layer(z)
    return z, last
