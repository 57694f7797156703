"""scvi-tools' own VAE, a whole training step, before and after `fastvae.integrations.scvi.patch()`.

    pip install scvi-tools
    python -m benchmarks.scvi --rounds 15 --threads 2

prints a table. `bound` is a step whose likelihood is the parameters' sum: no likelihood can be faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from statistics import median
from unittest import mock

import torch
from scvi import distributions
from scvi.module import VAE
from torch import Tensor

from fastvae.integrations.scvi import patch
from fastvae.measure.clock import Call, WallMeter, alternate
from fastvae.measure.reports.tables import duration, number, table

from .script import options_of, parser_of

BATCH = 128
PATCHED = distributions.NegativeBinomial, distributions.ZeroInflatedNegativeBinomial
CASES = ((2000, "zinb"), (2000, "nb"), (10000, "zinb"), (10000, "nb"))


def counts(genes: int) -> Tensor:
    """Of a Poisson whose rate is its own for each gene: more than half of them are 0."""
    return torch.poisson(torch.rand(BATCH, genes) * torch.rand(genes) * 3)


def step_of(genes: int, likelihood: str) -> Callable[[], Tensor]:
    torch.manual_seed(0)
    module = VAE(n_input=genes, gene_likelihood=likelihood, n_layers=1, n_hidden=128, n_latent=10)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, eps=0.01, weight_decay=1e-6)
    batch = {"X": counts(genes), "batch": torch.zeros(BATCH, 1), "labels": torch.zeros(BATCH, 1)}

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = module(batch)[-1].loss
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@contextmanager
def bound() -> Iterator[None]:
    def parameters(self, value: Tensor) -> Tensor:
        zero_logits = getattr(self, "zi_logits", None)
        return self.mu + self.theta if zero_logits is None else self.mu + self.theta + zero_logits

    patches = (mock.patch.object(kind, "log_prob", parameters) for kind in PATCHED)
    with next(patches), next(patches):
        yield


WAYS: dict[str, Callable[[], AbstractContextManager]] = {"scvi-tools": nullcontext, "patched": patch, "bound": bound}


def measured(genes: int, likelihood: str, rounds: int) -> list[str]:
    calls = {
        name: Call(partial(_run, step_of(genes, likelihood)), context=context, loop=True)
        for name, context in WAYS.items()
    }
    samples = alternate({name: WallMeter(call) for name, call in calls.items()}, range(rounds))
    theirs = samples["scvi-tools"]
    ratios = (median(a / b for a, b in zip(theirs, samples[name], strict=True)) for name in ("patched", "bound"))
    medians = (duration(median(samples[name])) for name in WAYS)
    return [f"{genes:,} genes, {likelihood}", *medians, *(f"{number(ratio, 2)}x" for ratio in ratios)]


def _run(step: Callable[[], Tensor], i: int, _: object) -> Tensor:
    return step()


if __name__ == "__main__":
    options = options_of(parser_of(__doc__, rounds=15))
    rows = [measured(genes, likelihood, options.rounds) for genes, likelihood in CASES]
    print(table(["training step", *WAYS, "patched is faster by", "bound"], rows, "lr"))
