"""Options, the fixtures that measure, and what goes into and out of pytest-benchmark's report."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from fastvae import machine
from fastvae.backends import native

from . import measure, report
from .workload import variants, verify, workload


def pytest_addoption(parser):
    group = parser.getgroup("fastvae benchmarks")
    group.addoption("--threads", type=int, default=2, help="threads for torch and fastvae")
    group.addoption("--quick", action="store_true", help="fewer cases, fewer rounds")
    group.addoption("--table", type=Path, metavar="PATH", help="write the table to PATH, in Markdown")


def pytest_configure(config):
    config.stash[_LOAD] = f"{os.getloadavg()[0]:.1f}"


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--quick"):
        return
    left_out = [item for item in items if not getattr(_parameter(item, "case"), "quick", True)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def _parameter(item, name: str):
    return item.callspec.params.get(name) if hasattr(item, "callspec") else None


@pytest.fixture(autouse=True, scope="session")
def _threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.config.getoption("--threads"))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def record(benchmark, request):
    """Hands samples that were taken elsewhere to pytest-benchmark, as a benchmark of their own in `group`."""

    def add(name: str, group: str, sample: measure.Sample, extra_info: dict) -> None:
        benchmark.group, benchmark.name, benchmark.param, benchmark.params = group, name, None, None
        benchmark.fullname = f"{request.node.nodeid} {name}"
        benchmark.extra_info = {**extra_info, "threads": torch.get_num_threads()}
        stats = benchmark._make_stats(sample.iterations)
        stats.options = {"disable_gc": True, "timer": "perf_counter"}
        for seconds in sample.seconds:
            stats.update(seconds * sample.iterations)

    # pytest-benchmark times one function for each test and has no public way in for interleaved ones.
    benchmark._mode = "samples"
    return add


@pytest.fixture
def budget(request):
    return measure.QUICK if request.config.getoption("--quick") else measure.FULL


@pytest.fixture
def compare(benchmark, record, budget, progress, position):
    """Checks a case's variants against the reference, then times them. With --benchmark-disable only the former."""

    def run(case) -> None:
        torch._dynamo.reset()
        torch.manual_seed(0)
        progress(f"{position}  {case!s:<36}")
        work = workload(case)
        calls = {name: work.call(function) for name, function in variants(case.operator).items()}
        for name, call in calls.items():
            verify(work, name, call)
        if benchmark.disabled:
            return
        samples = measure.measure(calls, budget)
        fused = samples["fastvae"].median
        for name, sample in samples.items():
            info = {"operator": case.operator, "shape": list(case.shape), "dtype": case.dtype, "variant": name}
            record(name, str(case), sample, {**info, "ratio": sample.median / fused})
        progress(report.line({name: sample.median for name, sample in samples.items()}) + "\n")

    return run


@pytest.fixture
def progress(request):
    """Writes at once; seen while it runs only where pytest does not capture (-s)."""
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    return lambda text: terminal.write(text, flush=True)


@pytest.fixture
def position(request):
    items = request.session.items
    return f"{items.index(request.node) + 1:>3}/{len(items)}"


def pytest_report_teststatus(report, config):
    """No dots: each case writes its own line."""
    if report.passed and report.when == "call" and config.getoption("--benchmark-enable"):
        return "passed", "", ""
    return None


def pytest_benchmark_generate_machine_info(config):
    return machine.describe() | {
        "threads": str(config.getoption("--threads")),
        "kernels": native.instruction_set() if native.why_not("cpu") is None else "none, plain torch computes",
        "load average before": config.stash[_LOAD],
    }


def pytest_benchmark_update_json(config, output_json):
    """The table is made from the report alone, so that a stored report gives the same one."""
    text = report.render(output_json)
    config.stash[_TABLE] = text
    path = config.getoption("--table")
    if path:
        path.write_text(text, encoding="utf-8")


def pytest_terminal_summary(terminalreporter, config):
    text = config.stash.get(_TABLE, None)
    if text is not None:
        terminalreporter.write(f"\n{text}\n")


_TABLE = pytest.StashKey[str]()
_LOAD = pytest.StashKey[str]()  # other processes make waiting threads spin: who reads the figures should know
