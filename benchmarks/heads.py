"""A decoder's last layer with its likelihood, forward + backward, against the same in eager mode and compiled.

    python -m benchmarks.heads --rounds 7 --threads 2

prints a table: median, peak memory above the start, and the time as a ratio to eager and compiled, round by round.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import fastvae
from fastvae.functional._arguments import Reduction
from fastvae.measure.clock import Call, WallMeter, alternate
from fastvae.measure.reports.tables import duration, number, size, table

from .probes import peak_bytes


class Head(NamedTuple):
    """x is [batch, columns], uint8; what the layer is given is [*samples, batch, hidden]."""

    batch: int
    hidden: int
    columns: int
    reduction: Reduction
    bound: Callable[[Tensor], Tensor]  # of log p(x|z), [*samples, batch] or the mean
    samples: tuple[int, ...] = ()


HEADS = {
    "ELBO, 6,000 x 9,000, H = 96": Head(6000, 96, 9000, "mean", lambda log_px: log_px),
    "IWAE, K = 64, 100 x 784, H = 400": Head(100, 400, 784, "none", lambda log_px: log_px.logsumexp(0).mean(), (64,)),
}
RIVALS = ("eager", "compiled")


def naive(x: Tensor, layer: list[Tensor], reduction: Reduction) -> Tensor:
    logits = F.linear(*layer)
    log_px = -F.binary_cross_entropy_with_logits(logits, (x / 255).expand(logits.shape), reduction="none").sum(-1)
    return log_px.mean() if reduction == "mean" else log_px


def pair(x: Tensor, layer: list[Tensor], reduction: Reduction) -> Tensor:
    return fastvae.bernoulli_log_prob(x, F.linear(*layer), event_ndim=1, reduction=reduction)


def fused(x: Tensor, layer: list[Tensor], reduction: Reduction) -> Tensor:
    return fastvae.linear_bernoulli_log_prob(x, *layer, reduction=reduction)


def calls(head: Head) -> dict[str, Call]:
    """Each gives the gradients of what the layer is given, its weight and its bias."""
    torch.manual_seed(0)
    x = torch.randint(0, 256, (head.batch, head.columns), dtype=torch.uint8)
    weight = torch.randn(head.columns, head.hidden) / head.hidden**0.5
    operands = torch.randn(*head.samples, head.batch, head.hidden), weight, torch.zeros(head.columns)
    layer = [operand.requires_grad_() for operand in operands]

    def gradients(function: Callable[..., Tensor], i: int, _: object) -> tuple[Tensor, ...]:
        return torch.autograd.grad(head.bound(function(x, layer, head.reduction)), layer)

    functions = (naive, torch.compile(naive, dynamic=False), pair, fused)
    names = (*RIVALS, "layer, then kernel", "fused")
    return {name: Call(partial(gradients, function)) for name, function in zip(names, functions, strict=True)}


def measured(head: Head, rounds: int) -> str:
    rivals = calls(head)
    peaks = {name: peak_bytes(call, "cpu") for name, call in rivals.items() if call.once()}
    samples = alternate({name: WallMeter(call) for name, call in rivals.items()}, range(rounds))

    def ratio(name: str, rival: str) -> str:
        return number(median(a / b for a, b in zip(samples[name], samples[rival], strict=True)), 2)

    rows = [
        [name, duration(median(samples[name])), size(peaks[name]), *(ratio(name, rival) for rival in RIVALS)]
        for name in rivals
    ]
    return table(["", "median", "peak", *(f"of {rival}" for rival in RIVALS)], rows, "lr")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for title, head in HEADS.items():
        print(f"{title}\n\n{measured(head, options.rounds)}\n")
