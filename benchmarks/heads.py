"""A decoder's last layer with its likelihood, forward + backward, against the same in eager mode and compiled.

    python -m benchmarks.heads --rounds 7 --threads 2

prints a table: median, peak memory above the start, and the time as a ratio to eager and compiled, round by round.
"""

from __future__ import annotations

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
from .script import options_of, parser_of


def pixels(batch: int, columns: int) -> Tensor:
    return torch.randint(0, 256, (batch, columns), dtype=torch.uint8)


def few_counts(batch: int, columns: int) -> Tensor:
    """One of a hundred is not 0, as of the items that a user has rated."""
    return (torch.rand(batch, columns) < 0.01).float()


class Likelihood(NamedTuple):
    """Its value x, the published expression of (x, logits), and the package's own, without and with the layer."""

    values: Callable[[int, int], Tensor]
    naive: Callable[[Tensor, Tensor], Tensor]
    kernel: Callable[..., Tensor]
    fused: Callable[..., Tensor]


BERNOULLI = Likelihood(
    pixels,
    lambda x, logits: (
        -F.binary_cross_entropy_with_logits(logits, (x / 255).expand(logits.shape), reduction="none").sum(-1)
    ),
    partial(fastvae.bernoulli_log_prob, event_ndim=1),
    fastvae.linear_bernoulli_log_prob,
)
MULTINOMIAL = Likelihood(
    few_counts,
    lambda x, logits: (x * F.log_softmax(logits, -1)).sum(-1),
    partial(fastvae.multinomial_log_prob, normalized=False),
    partial(fastvae.linear_multinomial_log_prob, normalized=False),
)


class Head(NamedTuple):
    """x is [batch, columns]; what the layer is given is [*samples, batch, hidden]."""

    likelihood: Likelihood

    batch: int
    hidden: int
    columns: int
    reduction: Reduction
    bound: Callable[[Tensor], Tensor]  # of log p(x|z), [*samples, batch] or the mean
    samples: tuple[int, ...] = ()


HEADS = {
    "ELBO, 6,000 x 9,000, H = 96": Head(BERNOULLI, 6000, 96, 9000, "mean", lambda log_px: log_px),
    "IWAE, K = 64, 100 x 784, H = 400": Head(
        BERNOULLI, 100, 400, 784, "none", lambda log_px: log_px.logsumexp(0).mean(), (64,)
    ),
    "multinomial, 512 x 50,000, H = 200": Head(MULTINOMIAL, 512, 200, 50_000, "mean", lambda log_px: log_px),
    "multinomial, 512 x 50,000, H = 600": Head(MULTINOMIAL, 512, 600, 50_000, "mean", lambda log_px: log_px),
}
RIVALS = ("eager", "compiled")


def calls(head: Head) -> dict[str, Call]:
    """Each gives the gradients of what the layer is given, its weight and its bias."""
    torch.manual_seed(0)
    x, likelihood = head.likelihood.values(head.batch, head.columns), head.likelihood
    weight = torch.randn(head.columns, head.hidden) / head.hidden**0.5
    operands = torch.randn(*head.samples, head.batch, head.hidden), weight, torch.zeros(head.columns)
    layer = [operand.requires_grad_() for operand in operands]

    def naive(reduction: Reduction) -> Tensor:
        log_px = likelihood.naive(x, F.linear(*layer))
        return log_px.mean() if reduction == "mean" else log_px

    def pair(reduction: Reduction) -> Tensor:
        return likelihood.kernel(x, F.linear(*layer), reduction=reduction)

    def fused(reduction: Reduction) -> Tensor:
        return likelihood.fused(x, *layer, reduction=reduction)

    def gradients(function: Callable[[Reduction], Tensor], i: int, _: object) -> tuple[Tensor, ...]:
        return torch.autograd.grad(head.bound(function(head.reduction)), layer)

    functions = (naive, torch.compile(naive, dynamic=False), pair, fused)
    names = (*RIVALS, "layer, then kernel", "fused")
    return {name: Call(partial(gradients, function)) for name, function in zip(names, functions, strict=True)}


def measured(rivals: dict[str, Call], rounds: int) -> str:
    """A table of calls, `RIVALS` among them."""
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
    parser = parser_of(__doc__, rounds=7)
    parser.add_argument("--only", default="", help="heads whose title has this in it")
    options = options_of(parser)
    for title, head in ((title, head) for title, head in HEADS.items() if options.only in title):
        print(f"{title}\n\n{measured(calls(head), options.rounds)}\n")
