"""Pytest plugin for that GPU: tests are collected as for a real one; benchmarks run, on small CPU tensors.

The CPU's library computes, also in Triton's place, whose interpreter takes long.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

SEED_OFFSET = torch.zeros(16, dtype=torch.uint8)
ANSWERS = {
    "synchronize": None,
    "empty_cache": None,
    "reset_peak_memory_stats": None,
    "memory_allocated": 0,
    "max_memory_allocated": 0,
    "get_rng_state": SEED_OFFSET,
    "set_rng_state": None,
}


class Recorder:
    """In CudaDevice's place: a replay takes a second."""

    l2_bytes = 1

    def warm(self, work):
        work()

    def pool(self):
        return None

    def capture(self, work, pool):
        return (lambda: None), work()

    def event(self):
        return SimpleNamespace(record=lambda: None, elapsed_time=lambda end: 1e3)

    def synchronize(self):
        pass


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    for name, answer in ANSWERS.items():
        setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    if hasattr(config.option, "compiler"):
        config.option.compiler, config.option.threads = "eager", 1
        _on_the_cpu()
    else:
        config.option.collectonly = True


def _on_the_cpu():
    from benchmarks import bench, experiments, training
    from benchmarks.workload import workload
    from fastvae import backends
    from fastvae.measure import cuda_clock

    why_not, use = backends.native.why_not, backends.use
    backends.BACKENDS["native"] = backends.BACKENDS["native"]._replace(why_not=lambda device: why_not("cpu"))
    backends.use = lambda name: use(name) if name == "reference" else nullcontext()
    bench.kernels = lambda call, device: 0  # torch's profiler would look for the GPU
    bench.launch_seconds = lambda *_: 1e-3
    bench.BUDGETS.update(dict.fromkeys(bench.BUDGETS, bench.Budget(0.0, least=1, most=1, energy_seconds=0.0)))
    training.CHECKS = 4
    cuda_clock.WARM_SETS = cuda_clock.LEAST_REPLAYS = 1
    experiments.COPY_BYTES.update(cpu=2**20, cuda=2**20)
    experiments.workload = lambda case, device, l2_bytes: workload(_small(case), "cpu", l2_bytes)
    bench._cuda = Recorder
    torch._dynamo.reset = lambda: None  # with a GPU it imports all of inductor
    bench.FloorExperiment = _Floor(bench.FloorExperiment)
    bench.TrainingExperiment = lambda case, device, compiler: training.TrainingExperiment(
        replace(case, task=replace(case.task, batch={"cpu": 4})), "cpu", compiler
    )


def _small(case):
    return replace(case, shape=(6, *(min(n, 8) for n in case.shape[1:])))


def _Floor(experiment):  # noqa: N802
    class Floor(experiment):
        def call(self, name, case):
            return experiment(case, "cpu").call(name, case)

    return Floor
