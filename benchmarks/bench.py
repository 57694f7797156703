"""The measuring itself: one experiment at a time, its variants verified, timed in turns, and probed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fastvae.measure.clock import Call, WallMeter, alternate
from fastvae.measure.cuda_clock import CudaDevice, GraphMeter, StreamMeter, launch_seconds
from fastvae.measure.reports.document import FUSED

from . import experiments, training
from .cases import Case
from .experiments import Bound, Experiment, FloorExperiment, OperatorExperiment
from .probes import Gauge, attempt, kernels, peak_bytes
from .training import TrainingCase, TrainingExperiment
from .variants import COMPILERS
from .workload import WrongVariantError

AnyCase = Case | Bound | TrainingCase


@dataclass(frozen=True)
class Budget:
    """Rounds fill `seconds` for each case, within bounds."""

    seconds: float
    least: int
    most: int
    energy_seconds: float

    def rounds(self, case: AnyCase, round_seconds: float) -> int:
        return min(self.most, max(self.least, int(self.of(case) / round_seconds)))

    def of(self, case: AnyCase) -> float:
        """Seconds for a case; four times as many for training steps, of which a sample is ten times as long."""
        return self.seconds * (4 if isinstance(case, TrainingCase) else 1)


BUDGETS = {
    "quick": Budget(seconds=0.8, least=9, most=36, energy_seconds=0.1),
    "full": Budget(seconds=2.0, least=16, most=64, energy_seconds=0.2),
}

# Seconds: on the CPU from runs on two cores, on GPUs a guess. The bar corrects them as it goes.
COMPILE_SECONDS = {"cpu": 6.0, "cuda": 5.0}
TRAINING_COMPILE_SECONDS = {"cpu": 14.0, "cuda": 15.0}
VARIANT_SECONDS = {"cpu": 0.25, "cuda": 0.9}  # verifying, warming, recording, probing


@dataclass(frozen=True)
class Outcome:
    """A variant's samples and fields. Where it has none, `wrong` says why; for fastvae's own, that is a `failure`."""

    seconds: tuple[float, ...] = ()
    info: Mapping[str, Any] | None = None
    wrong: str | None = None
    failure: bool = False


@dataclass(frozen=True)
class Timed:
    """A call and its clock."""

    call: Call
    meter: WallMeter | GraphMeter | StreamMeter
    clock: str


def variant_names(case: AnyCase, suite: str, device: str) -> list[str]:
    if isinstance(case, Bound):
        return [case.name]
    if isinstance(case, TrainingCase):
        return training.names(device)
    return experiments.operator_names(case, suite, device)


def budget(suite: str, seconds: float | None = None) -> Budget:
    return BUDGETS[suite] if seconds is None else replace(BUDGETS[suite], seconds=seconds)


def estimate(case: AnyCase, names: Sequence[str], first: bool, budget: Budget, device: str) -> float:
    """Seconds that a case will take; the first case of its group also waits for the compiler."""
    compiled = sum(map(_is_compiled, names))
    each = (TRAINING_COMPILE_SECONDS if isinstance(case, TrainingCase) else COMPILE_SECONDS)[device]
    return budget.of(case) * 1.2 + VARIANT_SECONDS[device] * len(names) + (compiled * each if first else 0.0)


def _is_compiled(name: str) -> bool:
    return name.split(", ")[-1] in COMPILERS


class Bench:
    """Holds one experiment, the current one, and the outcomes of its current case."""

    def __init__(self, device: str, budget: Budget, compiler: str = "inductor") -> None:
        self.device, self.budget, self.compiler = device, budget, compiler
        self.gauge = Gauge(device)
        self.cuda = _cuda() if device == "cuda" else None
        self._group: tuple | None = None
        self._experiment: Experiment | None = None
        self._measured: tuple[str, dict[str, Outcome]] = ("", {})

    def verify(self, case: AnyCase, name: str) -> Outcome:
        """What is wrong with a variant, without timing it."""
        experiment = self._experiment_of(case)
        try:
            experiment.call(name, case).once()
        except WrongVariantError as error:
            return Outcome(wrong=str(error), failure=experiment.role(name) == FUSED)
        return Outcome()

    def outcome(self, case: AnyCase, name: str, names: Sequence[str]) -> Outcome:
        """The outcome of variant `name`. The first call for a case measures all of its variants `names`, in turns."""
        if self._measured[0] != str(case):
            self._measured = str(case), self._measure(case, names)
        return self._measured[1][name]

    def _experiment_of(self, case: AnyCase) -> Experiment:
        if self._group != case.group:
            self._experiment = self._group = None  # frees the last one's memory first
            torch._dynamo.reset()
            if self.cuda is not None:
                torch.cuda.empty_cache()
            torch.manual_seed(0)
            self._experiment, self._group = self._make(case), case.group
        assert self._experiment is not None
        return self._experiment

    def _make(self, case: AnyCase) -> Experiment:
        if isinstance(case, Bound):
            return FloorExperiment(case, self.device)
        if isinstance(case, TrainingCase):
            return TrainingExperiment(case, self.device, self.compiler)
        return OperatorExperiment(case, self.device, self.compiler, 0 if self.cuda is None else self.cuda.l2_bytes)

    def _measure(self, case: AnyCase, names: Sequence[str]) -> dict[str, Outcome]:
        try:
            experiment = self._experiment_of(case)
        except Exception as error:  # a size that this device has no memory for is no end of the others
            return dict.fromkeys(names, Outcome(wrong=f"cannot be set up: {_line(error)}"))
        outcomes: dict[str, Outcome] = {}
        calls: dict[str, Timed] = {}
        for name in names:
            try:
                calls[name] = self._timed(experiment.call(name, case), experiment.sets)
            except Exception as error:  # whatever a compiler or a driver raises, the other variants are measured
                reason = str(error) if isinstance(error, WrongVariantError) else f"cannot be timed: {_line(error)}"
                outcomes[name] = Outcome(wrong=reason, failure=experiment.role(name) == FUSED)
        meters = {name: timed.meter for name, timed in calls.items()}
        rounds = self.budget.rounds(case, sum(meter.sample_seconds for meter in meters.values())) if meters else 0
        samples = alternate(meters, range(rounds))
        derived = experiment.derived(samples)
        for name, timed in calls.items():
            facts = {"role": experiment.role(name), **experiment.info(name, case)}
            facts |= {**self._probe(timed, experiment), **derived.get(name, {})}
            outcomes[name] = Outcome(tuple(samples[name]), self._info(case, name, facts, samples[name]))
        return outcomes

    def _timed(self, call: Call, sets: int) -> Timed:
        if self.cuda is None:
            return Timed(call, WallMeter(call), "wall")
        if call.captured:
            try:
                return Timed(call, GraphMeter(self.cuda, call, sets), "graph")
            except RuntimeError as error:  # what cannot be recorded is launched, and the report says so
                return Timed(call, StreamMeter(self.cuda, call, sets), f"stream, not recorded: {_line(error)}")
        return Timed(call, StreamMeter(self.cuda, call, sets), "stream")

    def _probe(self, timed: Timed, experiment: Experiment) -> dict[str, Any]:
        call, meter = timed.call, timed.meter
        facts = {"clock": timed.clock, "calls_per_sample": meter.calls}
        if self.cuda is None or isinstance(meter, WallMeter):
            return {**facts, "peak_bytes": attempt(peak_bytes, call, self.device)}
        spent = self.gauge.spend(meter, meter.calls_made, self.budget.energy_seconds)
        if call.prepare is not None:
            spent["energy_joules"] = None  # the samples spent energy on `prepare`, too
        return {
            **facts,
            "input_sets": experiment.sets,
            "cold": experiment.cold,
            "peak_bytes": attempt(peak_bytes, call, self.device),
            "kernels": attempt(kernels, call, self.device),
            "launch_seconds": attempt(launch_seconds, self.cuda, call, experiment.sets),
            **spent,
        }

    def _info(self, case: AnyCase, name: str, facts: dict[str, Any], samples: Sequence[float]) -> dict[str, Any]:
        p20, middle, p80 = (float(p) for p in np.percentile(samples, (20, 50, 80)))
        speed = {"gb_per_s": facts["bytes"] / middle / 1e9} if "bytes" in facts else {}
        known = {key: value for key, value in {**facts, **speed}.items() if value is not None}
        return {"case": str(case), "variant": name, **known, "p20": p20, "p80": p80}


def _cuda() -> CudaDevice:
    return CudaDevice(torch.device("cuda", torch.cuda.current_device()))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
