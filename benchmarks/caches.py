"""A call of counts right after itself and after its operands have left the caches, on one thread and on several.

    python -m benchmarks.caches --rounds 200 --threads 2

128 x 2,000, nine of ten 0, a dispersion for each gene, value and then gradients. Prints medians, and the pages a call
is the first to touch. Calls of the rows follow one another in turns.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

import fastvae
from fastvae.measure.reports.tables import duration, number, table

from .script import options_of, parser_of

CELLS, GENES, ZEROS = 128, 2000, 0.9
WALKED = 2**24  # float32 numbers, 64 MB: more than a core's share of any cache


def call(inflated: bool) -> Callable[[], object]:
    torch.manual_seed(0)
    x = torch.poisson(torch.rand(CELLS, GENES) * 10) * (torch.rand(CELLS, GENES) > ZEROS)
    mean, dispersion = torch.rand(CELLS, GENES).add(0.1), torch.rand(GENES).add(0.5)
    zero_logits = torch.randn(CELLS, GENES) if inflated else None
    operands = [t.requires_grad_() for t in (mean, dispersion, zero_logits) if t is not None]

    def run() -> tuple[Tensor, ...]:
        log_px = fastvae.negative_binomial_log_prob(x, *operands)
        return torch.autograd.grad(log_px.sum(), operands)

    return run


def sampled(run: Callable[[], object], before: Callable[[], object]) -> tuple[float, int]:
    """Seconds, and faults of pages."""
    before()
    faults, start = _faults(), perf_counter()
    run()
    return perf_counter() - start, _faults() - faults


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def rows(rounds: int, threads: int) -> list[list[str]]:
    walked, calls = torch.ones(WALKED), {"nb": call(False), "zinb": call(True)}
    ways = {
        (name, number_of, state): (run, run if state == "itself" else walked.sum)
        for number_of in (1, threads)
        for name, run in calls.items()
        for state in ("itself", "a walk through 64 MB")
    }
    samples: dict[tuple[str, int, str], list[tuple[float, int]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (run, before) in ways.items():
            torch.set_num_threads(way[1])
            samples[way].append(sampled(run, before))
    return [
        [name, str(number_of), state, *_medians(samples[name, number_of, state])] for name, number_of, state in ways
    ]


def _medians(of: list[tuple[float, int]]) -> tuple[str, str]:
    seconds, faults = zip(*of, strict=True)
    return duration(median(seconds)), number(median(faults), 0)


if __name__ == "__main__":
    options = options_of(parser_of(__doc__, rounds=200))
    print(table(["likelihood", "threads", "after", "median", "faults"], rows(options.rounds, options.threads), "lrlrr"))
