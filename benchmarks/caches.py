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

from .cases import Case
from .script import options_of, parser_of
from .workload import workload

SHAPE = (128, 2000)
OPERATORS = {"nb": "negative_binomial_log_prob", "zinb": "zero_inflated_negative_binomial_log_prob"}
WALKED = 2**24  # float32 numbers, 64 MB: more than a core's share of any cache


def call(operator: str) -> Callable[[], object]:
    inputs = workload(Case(operator, SHAPE, "fp32"), "cpu").inputs[0]

    def run() -> tuple[Tensor, ...]:
        log_px = fastvae.negative_binomial_log_prob(*inputs.operands)
        return torch.autograd.grad(log_px, inputs.leaves, inputs.cotangents)

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
    torch.manual_seed(0)
    walked, calls = torch.ones(WALKED), {name: call(operator) for name, operator in OPERATORS.items()}
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
