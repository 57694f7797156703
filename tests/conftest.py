"""Every operator goes through the same tests on every backend; only a native one that was not built is skipped."""

from __future__ import annotations

import os

import hypothesis
import oracles
import pytest
import torch

import fastvae.backends as backends

BACKENDS = ("reference", "native")

hypothesis.settings.register_profile("fastvae", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("fastvae")


def pytest_addoption(parser):
    parser.addoption("--accuracy-table", action="store_true", help="print the tables of wrong bits")


@pytest.fixture(params=BACKENDS)
def backend(request):
    reason = backends.available()[request.param]
    if reason is not None:
        pytest.skip(f"backend {request.param}: {reason}")
    with backends.use(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def _fixed_conditions():
    # One thread: small tensors gain nothing from two. Tests of threads set their number themselves.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter):
    skipped = backends.BACKENDS["native"].why_not("cpu")
    if skipped is not None:
        terminalreporter.section("native backend not tested")
        terminalreporter.line(skipped)
    for report in terminalreporter.stats.get("skipped", []):
        if "nvcc" in str(report.longrepr):
            terminalreporter.line(f"skipped {report.nodeid}: {report.longrepr[2]}")
    if terminalreporter.config.getoption("--accuracy-table") or os.environ.get("FASTVAE_ACCURACY_TABLE"):
        terminalreporter.section("accuracy against mpmath")
        for line in oracles.accuracy_table():
            terminalreporter.line(line)
