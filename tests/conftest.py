"""Every operator goes through the same tests on every backend and device; what cannot serve is skipped, and said."""

from __future__ import annotations

import inspect
import os
from collections import Counter
from importlib.util import find_spec

import hypothesis
import oracles
import pytest
import torch

GPU = torch.cuda.is_available()
if not GPU and find_spec("triton") is not None:
    # Before any kernel is defined: Triton then runs them in its interpreter, on CPU tensors.
    os.environ.setdefault("TRITON_INTERPRET", "1")

import fastvae.backends as backends  # noqa: E402

# (backend, device): each serves the tests of every operator.
TARGETS = (
    ("reference", "cpu"),
    ("native", "cpu"),
    *((("triton", "cuda"), ("native", "cuda")) if GPU else (("triton", "cpu"),)),
)

hypothesis.settings.register_profile("fastvae", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("fastvae")


def pytest_addoption(parser):
    parser.addoption("--accuracy-table", action="store_true", help="print the tables of wrong bits")


# Triton's interpreter takes 20 to 200 ms for each program of a kernel. Under it run all operators, keywords and dtypes,
# and few of the sizes; not what checks torch's side of an operator, which is the same whoever computes.
MARKERS = (
    "not_interpreted: left out where Triton's kernels would run in its interpreter",
    "interpreted(where): run there only where the predicate of the test's parameters holds",
)


def pytest_configure(config):
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def _is_left_out(item):
    """Under the interpreter."""
    if item.get_closest_marker("not_interpreted"):
        return True
    marker = item.get_closest_marker("interpreted")
    if marker is None:
        return False
    where = marker.kwargs["where"]
    return not where(*(item.callspec.params[name] for name in inspect.signature(where).parameters))


def pytest_collection_modifyitems(config, items):
    if GPU:
        return
    left_out = [item for item in items if "[triton" in item.name and _is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    dropped = set(left_out)
    items[:] = [item for item in items if item not in dropped]


def _why_not(backend, device):
    return backends.BACKENDS[backend].why_not(device)


@pytest.fixture(params=TARGETS, ids=lambda target: target[0] if target[1] == "cpu" else "-".join(target))
def backend(request):
    name, device = request.param
    reason = _why_not(name, device)
    if reason is not None:
        pytest.skip(f"backend {name} on {device}: {reason}")
    torch.set_default_device(device)
    with backends.use(name):
        yield name
    torch.set_default_device(None)


@pytest.fixture(autouse=True)
def _fixed_conditions():
    # One thread: small tensors gain nothing from two. Tests of threads set their number themselves.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter):
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, count in reasons.items():
        terminalreporter.line(f"{count} not run: {reason.removeprefix('Skipped: ')}")
    if terminalreporter.config.getoption("--accuracy-table") or os.environ.get("FASTVAE_ACCURACY_TABLE"):
        terminalreporter.section("accuracy against mpmath")
        for line in oracles.accuracy_table():
            terminalreporter.line(line)
