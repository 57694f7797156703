"""Options, test generation, the fixture that measures, and what goes into pytest-benchmark's report."""

from __future__ import annotations

import os
import sys

import pytest
import torch
from tqdm import tqdm

from fastvae.backends import native
from fastvae.measure import machine
from fastvae.measure.reports import document

from . import bench as benches
from . import environment
from .bench import BUDGETS, Bench

# pytest-benchmark times one function for each test; ours are timed in turns, all variants of a case together. So a
# test's samples are there before pytest-benchmark asks, and its timer reads them out: start, end, start, end ...
_recorded: list[float] = []


def replay() -> float:
    return _recorded.pop(0)


def pytest_addoption(parser):
    group = parser.getgroup("fastvae benchmarks")
    group.addoption("--threads", type=int, default=2, help="CPU threads for torch and fastvae")
    group.addoption("--suite", choices=BUDGETS, default="full", help="which cases, and how long for each")
    group.addoption("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where tensors live")
    group.addoption("--seconds", type=float, help="how long the variants of a case are timed, instead of the suite's")
    group.addoption("--compiler", default="inductor", help="torch.compile's backend, for tests")


def pytest_configure(config):
    name = config.getoption("--device")
    config.stash[_DEVICE] = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    config.stash[_LOAD] = f"{os.getloadavg()[0]:.1f}"
    config.stash[_WRONG] = []


def pytest_generate_tests(metafunc):
    """A test for each variant of each of the module's cases; their order is that of measuring."""
    if "variant" not in metafunc.fixturenames:
        return
    suite, device = metafunc.config.getoption("--suite"), metafunc.config.stash[_DEVICE]
    pairs = [
        pytest.param(case, name, id=f"{case} {name}".replace(" ", "-"))
        for case in metafunc.module.cases(suite, device)
        for name in benches.variant_names(case, suite, device)
    ]
    metafunc.parametrize(("case", "variant"), pairs)


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.benchmark(timer=replay, group=str(item.callspec.params["case"])))


def pytest_collection_finish(session):
    """Print how long the run will take, before it begins."""
    config = session.config
    config.stash[_PLAN] = plan = _plan(config, session.items)
    if config.getoption("--benchmark-enable") and not config.getoption("--collect-only") and plan:
        variants = sum(len(names) for names, _ in plan.values())
        expected = sum(seconds for _, seconds in plan.values())
        suite = config.getoption("--suite")
        print(
            f"suite {suite}: {len(plan)} cases, {variants} variants on {config.stash[_DEVICE]}, "
            f"{config.getoption('--threads')} threads, {_minutes(expected)}",
            file=sys.stderr,
            flush=True,
        )
        quiet = not sys.stderr.isatty()  # a log gets a line now and then
        bar = "{desc:<56} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
        every = 10 if quiet else 0.2
        config.stash[_BAR] = tqdm(total=expected, bar_format=bar, mininterval=every, ncols=110, smoothing=0)


def _minutes(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds > 150 else f"about {seconds:.0f} s"


def _plan(config, items) -> dict[str, tuple[list[str], float]]:
    """By case: the variants that were selected, and the seconds that they will take."""
    cases: dict[str, tuple] = {}
    for item in items:
        case, name = item.callspec.params["case"], item.callspec.params["variant"]
        cases.setdefault(str(case), (case, []))[1].append(name)
    budget = benches.budget(config.getoption("--suite"), config.getoption("--seconds"))
    device, groups, plan = config.stash[_DEVICE], set(), {}
    for key, (case, names) in cases.items():
        plan[key] = names, benches.estimate(case, names, case.group not in groups, budget, device)
        groups.add(case.group)
    return plan


@pytest.fixture(scope="session")
def bench(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.config.getoption("--threads"))
    option = request.config.getoption
    budget = benches.budget(option("--suite"), option("--seconds"))
    yield Bench(request.config.stash[_DEVICE], budget, option("--compiler"))
    torch.set_num_threads(before)


@pytest.fixture
def record(benchmark, bench, request):
    """Verifies a variant and hands its samples to pytest-benchmark. With --benchmark-disable only the former."""
    config = request.config

    def run(case, name: str) -> None:
        outcome = bench.verify(case, name) if benchmark.disabled else _outcome(config, bench, case, name)
        if outcome.wrong is not None:
            _wrong(config, benchmark, case, name, outcome)
        benchmark.extra_info.update(outcome.info or {}, threads=torch.get_num_threads())
        _recorded[:] = [reading for seconds in outcome.seconds for reading in (0.0, seconds)]
        benchmark.pedantic(lambda: None, rounds=max(1, len(outcome.seconds)))

    return run


def _outcome(config, bench: Bench, case, name: str):
    names, seconds = config.stash[_PLAN][str(case)]
    bar = config.stash.get(_BAR, None)
    if bar is not None and name == names[0]:
        bar.set_description_str(str(case)[:56])
    outcome = bench.outcome(case, name, names)
    if bar is not None and name == names[-1]:
        bar.update(min(seconds, bar.total - bar.n))
    return outcome


def _wrong(config, benchmark, case, name: str, outcome) -> None:
    """A wrong variant is not timed. A naive one is skipped; one of fastvae's fails its test."""
    line = f"{case} {name}: {outcome.wrong}"
    config.stash[_WRONG].append(line)
    benchmark.skipped = True  # the fixture would complain that it was not used
    if outcome.failure:
        pytest.fail(line, pytrace=False)
    pytest.skip(line)


def pytest_report_teststatus(report, config):
    """No dots: the bar shows progress."""
    if report.passed and report.when == "call" and config.getoption("--benchmark-enable"):
        return "passed", "", ""
    return None


def pytest_sessionfinish(session):
    bar = session.config.stash.get(_BAR, None)
    if bar is not None:
        bar.close()


def pytest_benchmark_generate_machine_info(config):
    return {
        **machine.describe(),
        **environment.accelerator(config.stash[_DEVICE]),
        "threads": str(config.getoption("--threads")),
        "kernels": native.instruction_set() if native.why_not("cpu") is None else "none, plain torch computes",
        "load average before": config.stash[_LOAD],
    }


def pytest_benchmark_generate_commit_info(config):
    return environment.commit()


def pytest_benchmark_update_json(config, output_json):
    """Adds fastvae's fields to pytest-benchmark's report, and to its entries what depends on all of them."""
    ran = {(e["extra_info"]["case"], e["extra_info"]["variant"]) for e in output_json["benchmarks"]}
    planned = sum(len(names) for names, _ in config.stash[_PLAN].values())
    output_json[document.SCHEMA] = document.VERSION
    output_json["suite"] = config.getoption("--suite")
    output_json["device"] = config.stash[_DEVICE]
    output_json["wrong"] = config.stash[_WRONG]
    output_json["complete"] = len(ran) + len(config.stash[_WRONG]) == planned
    infos = [entry["extra_info"] for entry in output_json["benchmarks"]]
    copied = next((info["gb_per_s"] for info in infos if info["variant"] == "copy"), None)
    for entry, info in zip(output_json["benchmarks"], infos, strict=True):
        if copied and "gb_per_s" in info:
            info["copy_percent"] = 100 * info["gb_per_s"] / copied
        if "peak_gb_per_s" in info:
            info["peak_percent"] = 100 * info["gb_per_s"] / info["peak_gb_per_s"]
        del entry["params"]  # the case as an object, which JSON would spell out as its name again
        entry["stats"]["data"] = [float(f"{sample:.5g}") for sample in entry["stats"]["data"]]


_DEVICE = pytest.StashKey[str]()
_LOAD = pytest.StashKey[str]()  # other processes make waiting threads spin: who reads the figures should know
_WRONG = pytest.StashKey[list]()
_PLAN = pytest.StashKey[dict]()
_BAR = pytest.StashKey[tqdm]()
