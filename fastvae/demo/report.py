"""The demo's table, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..measure.reports import tables
from .evaluate import Agreement, Estimate
from .steps import StepTime


@dataclass(frozen=True)
class Result:
    """One way's figures: seconds, nats."""

    name: str
    time: StepTime
    test: Estimate
    batch_size: int

    @property
    def images_per_second(self) -> float:
        return self.batch_size / self.time.step


COLUMNS = (
    "way",
    "step (ms)",
    "images/s",
    "ELBO operators (ms)",
    "test ELBO (nats)",
    "step, ratio",
    "operators, ratio",
)

EXPLANATION = (
    "Medians over interleaved rounds, batch {batch}. ELBO operators: the step less a step of the same network and "
    "optimiser without an objective. Test ELBO after {epochs} epochs, the same evaluation in float64 for every way, "
    "± its Monte-Carlo standard error."
)


def table(results: Sequence[Result]) -> str:
    """Markdown; the ratios say how many times less than the first way's time a way takes."""
    return tables.table(COLUMNS, [_row(result, results[0]) for result in results], "lr")


def _row(result: Result, baseline: Result) -> tuple[str, ...]:
    return (
        result.name,
        f"{result.time.step * 1e3:.3f}",
        f"{result.images_per_second:,.0f}",
        f"{result.time.elbo * 1e3:.3f}",
        f"{result.test.elbo:.3f} ± {result.test.standard_error:.3f}",
        f"{baseline.time.step / result.time.step:.2f}x",
        f"{baseline.time.elbo / result.time.elbo:.2f}x",
    )


LIMIT = (
    "{ways}: the ELBO of so small an image is a few microseconds of arithmetic, the rest are calls, which no kernel "
    "shortens. `fastvae bench --suite full` measures larger ones."
)


def limit(results: Sequence[Result]) -> str:
    """Where a step of fastvae's is not ahead of the naive one in its mode, and why; empty where all are."""
    times = {result.name: result.time.step for result in results}
    behind = []
    for name, step in times.items():
        way, _, mode = name.partition(", ")
        rival = times.get(f"naive, {mode}", math.inf)
        if way == "fastvae" and step > rival:
            behind.append(f"{name} is {100 * (step / rival - 1):.1f} % behind")
    return LIMIT.format(ways=", ".join(behind)) if behind else ""


def verdict(agreement: Agreement, noise_runs: int) -> str:
    noise = (
        f"{noise_runs} further runs of the naive way, other noise alone: "
        f"{agreement.centre:.3f} nats, standard deviation {agreement.spread:.3f}."
    )
    if not agreement.deviating:
        return f"Test ELBO: all ways agree within ±{agreement.tolerance:.3f} nats. {noise}"
    ways = "; ".join(f"{name} by {agreement.deviations[name]:+.3f}" for name in agreement.deviating)
    return f"Test ELBO: not within ±{agreement.tolerance:.3f} nats: {ways}. {noise}"


def as_data(results: Sequence[Result]) -> list[dict]:
    """Seconds and nats by way, for JSON."""
    return [
        {
            "way": result.name,
            "step_seconds": result.time.step,
            "images_per_second": result.images_per_second,
            "elbo_operators_seconds": result.time.elbo,
            "step_ratio": results[0].time.step / result.time.step,
            "elbo_operators_ratio": results[0].time.elbo / result.time.elbo,
            "test": asdict(result.test),
        }
        for result in results
    ]


def finite(data: Any) -> Any:
    """`data` with None for NaN and infinity, which JSON does not know."""
    if isinstance(data, dict):
        return {name: finite(value) for name, value in data.items()}
    if isinstance(data, list):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
