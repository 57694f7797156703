"""The suite itself: its cases, that its variants agree, what it counts, and that what is wrong gets no speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from benchmarks import bench, experiments, probes, training
from benchmarks import cases as all_cases
from benchmarks import variants as registry
from benchmarks.__main__ import main
from benchmarks.bench import Bench, Budget
from benchmarks.cases import Case
from benchmarks.experiments import OperatorExperiment
from benchmarks.test_likelihood import OPERATORS as LIKELIHOOD
from benchmarks.test_posterior import OPERATORS as POSTERIOR
from benchmarks.variants import Variant, variants
from benchmarks.workload import DATA, VALUES, WrongVariantError, verify, workload
from examples import EXAMPLES
from fastvae import backends
from fastvae.measure.clock import Call
from fastvae.measure.reports import document
from fastvae.measure.reports.document import FUSED

OPERATORS = (*POSTERIOR, *LIKELIHOOD)
TINY = Budget(seconds=0.0, least=3, most=4, energy_seconds=0.0)


def cases(suite, device):
    return [*all_cases.operators(OPERATORS, suite, device), *all_cases.scaling(suite, device)]


def small(case):
    """One of each kind: sizes do not matter to what is computed."""
    return replace(case, shape=(6, *(min(n, 8) for n in case.shape[1:])), direction="forward+backward", reason="")


SMALL = sorted({small(case) for device in ("cpu", "cuda") for case in cases("full", device)}, key=str)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("suite", ["quick", "full"])
def test_cases_are_unique_and_reasoned(suite, device):
    found = cases(suite, device)
    assert len(set(map(str, found))) == len(found) > 10
    assert all(case.reason for case in found)
    assert {case.operator for case in cases("full", device)} == set(OPERATORS) >= EXAMPLES.keys() - {"elbo"}
    groups = [case.group for case in found]
    blocks = [group for i, group in enumerate(groups) if i == 0 or groups[i - 1] != group]
    assert len(set(blocks)) == len(blocks)  # the directions of a group stand together: compiled once


def test_regimes_are_there():
    found = cases("full", "cpu")
    assert {case.samples for case in found} >= {1, 8, 64}
    assert {case.target for case in found} == {"float", "frequent", "int32", "uint8"}
    assert {case.layout for case in found} == {"contiguous", "packed", "channels_last"}
    assert {case.dtype for case in found} == {"fp32", "bf16", "fp16"}
    assert {case.direction for case in found} == {"forward", "backward", "forward+backward"}
    assert max(case.elements for case in found if case.kind == "scaling") == 10**7
    assert max(case.elements for case in cases("full", "cuda") if case.kind == "scaling") == 10**8
    assert {case.shape[-1] for case in cases("full", "cuda")} >= {20, 784, 32, 256, 512, 64}


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_variants_agree(case):
    experiment = OperatorExperiment(case, "cpu", compiler="aot_eager")
    for name in variants(case.operator, "cpu", case.dtype):
        for direction in all_cases.DIRECTIONS:
            experiment.call(name, replace(case, direction=direction)).once()


@pytest.mark.parametrize("case", cases("quick", "cpu"), ids=str)
def test_quick_cases_are_right(case):
    measured = Bench("cpu", TINY, compiler="aot_eager")
    for name in bench.variant_names(case, "quick", "cpu"):
        assert measured.verify(case, name).wrong is None


@pytest.mark.parametrize("task", training.TASKS, ids=lambda task: task.name)
def test_objectives_agree(task):
    case = training.TrainingCase(replace(task, batch={"cpu": 4}))
    measured = Bench("cpu", TINY, compiler="aot_eager")
    for name in ("fastvae, eager", "naive, eager", "network, eager", "fastvae, compiled"):
        assert measured.verify(case, name).wrong is None


def test_a_wrong_objective_is_found():
    task = training.TASKS[0]
    fused = task.objectives["fastvae"]
    wrong = replace(task, batch={"cpu": 4}, objectives={**task.objectives, "fastvae": lambda m, x: 1.05 * fused(m, x)})
    assert "the mean loss is off" in Bench("cpu", TINY).verify(training.TrainingCase(wrong), "fastvae, eager").wrong


def test_elbo_share_is_the_step_without_the_networks():
    experiment = training.TrainingExperiment(training.cases("quick")[0], "cpu")
    samples = {"naive, eager": [5.0, 6.0, 9.0], "network, eager": [3.0, 4.5, 5.0], "naive, compiled": [1.0] * 3}
    assert experiment.derived(samples) == {"naive, eager": {"elbo_seconds": 2.0}}


def call_of(operands, function):
    return operands.call(Variant("made up", function), function, "forward+backward")


@pytest.mark.parametrize("operator", OPERATORS)
def test_deviation_is_found(operator):
    packed = operator in all_cases.PACKED
    shape, layout = ((6, 4, 5, 5), "packed") if packed else ((6, 50), "contiguous")
    work = workload(Case(operator, shape, "fp32", layout=layout), "cpu")
    function = variants(operator, "cpu")["eager"].function
    verify(work, call_of(work, function))
    first = work.inputs[0]
    wrong = replace(work, inputs=[replace(first, cotangents=tuple(t + 0.01 for t in first.cotangents))])
    if operator not in all_cases.WITHOUT_GRADIENTS:
        with pytest.raises(WrongVariantError, match="gradient 0"):
            verify(work, call_of(wrong, function))

    def nan(*operands):
        outputs = function(*operands)
        return tuple(t * torch.nan for t in outputs) if isinstance(outputs, tuple) else outputs * torch.nan

    with pytest.raises(WrongVariantError):
        verify(work, call_of(work, nan))


def test_other_noise_is_found():
    work = workload(Case("rsample_kl", (100, 50), "fp32"), "cpu")
    eager = variants("rsample_kl", "cpu")["eager"].function
    with pytest.raises(WrongVariantError, match="is not N"):
        verify(work, call_of(work, lambda mean, log_var: eager(mean, log_var + 0.5)))


def test_what_is_wrong_or_cannot_run_has_no_speed(monkeypatch):
    def crooked(mean, log_var):
        return (mean + log_var).sum(1)

    def broken(mean, log_var):
        raise RuntimeError("no such kernel\nand a long trace")

    further = [Variant("crooked", crooked), Variant("broken", broken), Variant("ours", crooked, role=FUSED)]
    registered = variants("kl_standard_normal", "cpu") | {v.name: v for v in further}
    monkeypatch.setattr(experiments, "variants", lambda *_: registered)
    case, names = Case("kl_standard_normal", (6, 50), "fp32"), ["eager", "crooked", "broken", "ours"]
    measured = Bench("cpu", TINY)
    outcomes = {name: measured.outcome(case, name, names) for name in names}
    assert outcomes["eager"].wrong is None
    assert len(outcomes["eager"].seconds) >= TINY.least
    assert "output 0 is off by" in outcomes["crooked"].wrong
    assert outcomes["broken"].wrong == "cannot run: RuntimeError: no such kernel"
    assert outcomes["crooked"].seconds == outcomes["broken"].seconds == outcomes["ours"].seconds == ()
    assert [outcomes[name].failure for name in names] == [False, False, False, True]  # a rival's fault fails no run


def test_bytes_that_must_move():
    n, element, rows = 6 * 50, 4, 6 * 4
    moved = workload(Case("bernoulli_log_prob", (6, 50), "fp32"), "cpu").bytes
    assert moved("forward") == 2 * n * element + rows
    assert moved("backward") == 3 * n * element + rows  # x has no gradient
    assert moved("forward+backward") == 3 * n * element + 2 * rows
    stored = workload(Case("bernoulli_log_prob", (6, 50), "bf16", target="uint8"), "cpu").bytes
    assert stored("forward") == n + 2 * n + rows
    sampled = workload(Case("rsample", (6, 50), "fp32", samples=8), "cpu").bytes
    assert sampled("forward") == 2 * n * element + 8 * n * element
    assert sampled("backward") == n * element + 8 * n * element + 2 * n * element  # no gradient depends on the mean


def test_saved_bytes_count_each_storage_once_and_no_input():
    x = torch.randn(100, requires_grad=True)
    y = torch.randn(100, requires_grad=True)
    assert probes.saved_bytes(lambda: x * y, (x, y)) == 0
    assert probes.saved_bytes(lambda: x.exp() * x.exp(), (x,)) == 800  # two results; each saved twice

    def fused():
        return variants("rsample_kl", "cpu")["native"].function(x.view(10, 10), y.view(10, 10))

    if backends.available()["native"] is None:
        assert probes.saved_bytes(fused, (x, y)) == 8  # the seed


def test_peak_bytes_on_the_cpu_are_those_of_the_allocator():
    x = torch.rand(1000)
    assert probes.peak_bytes(Call(lambda i, _: (x.exp() + 1).sum()), "cpu") in range(8000, 8200)  # two at a time


def test_kernels_and_energy_are_absent_on_the_cpu():
    assert probes.kernels(None, "cpu") is None
    assert not probes.Gauge("cpu")
    assert probes.Gauge("cpu").state() == dict.fromkeys(("sm_mhz", "memory_mhz", "celsius", "throttle_reasons"))
    assert probes.Gauge("cpu").spend(lambda: 0.0, 1, 0.0)["energy_joules"] is None


def test_a_probe_that_fails_leaves_its_field_out():
    with pytest.warns(UserWarning, match="saved_bytes: no hooks here"):
        assert probes.attempt(probes.saved_bytes, failing, ()) is None


def failing():
    raise RuntimeError("no hooks here")


def test_a_further_way_to_call_is_a_variant(monkeypatch):
    monkeypatch.setitem(registry._VARIANTS, "rsample", [])
    registry.fused("rsample", "one pass")(torch.add)
    assert [v.name for v in registry._VARIANTS["rsample"]] == ["native, one pass", "triton, one pass"]
    assert {v.role for v in registry._VARIANTS["rsample"]} == {FUSED}


class FakeNvml:
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlClocksEventReasonGpuIdle, nvmlClocksEventReasonSwPowerCap, nvmlClocksThrottleReasonBoardLimit = 1, 4, 8  # noqa: N815
    NVMLError = KeyError

    def __init__(self):
        self.millijoules = 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        return self.millijoules

    def nvmlDeviceGetClockInfo(self, handle, which):  # noqa: N802
        return {1: 1980, 2: 3201}[which]

    def nvmlDeviceGetTemperature(self, handle, which):  # noqa: N802
        raise KeyError("not supported")

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):  # noqa: N802
        return 1 | 4


def test_gauge_reads_what_the_board_answers(monkeypatch):
    nvml = FakeNvml()
    names = {**vars(FakeNvml), **{n: getattr(nvml, n) for n in dir(nvml) if n.startswith("nvmlDevice")}}
    fake = SimpleNamespace(**{name: value for name, value in names.items() if not name.startswith("__")})
    monkeypatch.setattr(probes, "_nvml_handle", lambda: (fake, object()))
    made = []

    def sample():
        made.append(1)
        nvml.millijoules = 3000 * 2 * (len(made) // 2)  # the counter moves at every other sample

    found = probes.Gauge("cuda").spend(sample, calls=10, seconds=0.0)
    assert len(made) == 4  # until the counter moved, and until it moved again
    assert found["energy_joules"] == pytest.approx(3.0 / 10)
    assert found["power_watts"] > 0
    assert (found["sm_mhz"], found["memory_mhz"], found["celsius"]) == (1980, 3201, None)
    assert found["throttle_reasons"] == ["SwPowerCap"]  # being idle is no throttling


def test_rounds_fill_the_budget_within_bounds():
    budget = Budget(seconds=1.0, least=5, most=100, energy_seconds=0.0)
    case, step = Case("rsample", (6, 50), "fp32"), training.cases("quick")[0]
    assert [budget.rounds(case, seconds) for seconds in (1.0, 0.05, 1e-4)] == [5, 20, 100]
    assert budget.rounds(step, 0.05) == 80


def test_estimates_wait_for_the_compiler_once():
    case, budget = Case("rsample", (6, 50), "fp32"), bench.budget("quick")
    names = ["native", "eager", "compiled"]
    again = bench.estimate(case, names, False, budget, "cpu")
    assert bench.estimate(case, names, True, budget, "cpu") == again + bench.COMPILE_SECONDS["cpu"]
    assert bench.budget("quick", 7.0).seconds == 7.0


def test_data_are_never_constant():
    for name, draw in {**DATA, **VALUES}.items():
        assert draw((20_000,), device="cpu").unique().numel() > 4, name  # counts repeat, and most are 0


def test_variants_of_a_gpu_are_registered():
    """Their registration at least can be tested anywhere."""
    names = set(variants("rsample_kl", "cuda"))
    assert {"eager", "compiled", "reduce-overhead", "max-autotune", "distributions"} <= names
    assert not variants("rsample_kl", "cuda")["reduce-overhead"].capturable
    assert not variants("rsample_kl", "cuda")["distributions"].capturable  # its checks stop for the host
    backward = Case("rsample_kl", (6, 50), "fp32", "backward")
    assert not {"reduce-overhead", "max-autotune"} & set(experiments.operator_names(backward, "full", "cuda"))
    known = {"native", "eager", "compiled", "distributions", "formula, compiled", "kernel, compiled"}
    assert set(variants("rsample_kl", "cpu")) <= known
    assert known - {"native"} <= set(experiments.operator_names(replace(backward, kind="scaling"), "full", "cpu"))
    assert not {"formula, compiled", "kernel, compiled"} & set(experiments.operator_names(backward, "full", "cpu"))


def benchmarks(*arguments):
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    # Not as a part of this run of pytest, which may be spread over processes: pytest-benchmark measures nothing there.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    return subprocess.run(command, capture_output=True, text=True, env=env | {"PYTHONUNBUFFERED": "1"})


def test_the_suite_writes_a_report(tmp_path):
    """One case, from the command to what `fastvae report` reads."""
    done = benchmarks(
        "--suite=quick", "--seconds=0", "--compiler=aot_eager", "--device=cpu", f"--out={tmp_path}",
        "-k", "copy or (rsample_kl and 128x20)",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("suite quick: 2 cases, ")  # before anything is measured
    found = document.read(tmp_path / "report.json")
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "table.md"}
    assert found.complete
    assert found.wrong == ()
    assert found.copy_bandwidth > 0
    entry = found.entries["rsample_kl 128x20 fp32 forward+backward", "eager"]
    assert entry["bytes"] == 4 * (6 * 128 * 20 + 2 * 128)
    assert entry["gb_per_s"] == pytest.approx(entry["bytes"] / entry.median / 1e9, rel=1e-3)
    assert entry["copy_percent"] == pytest.approx(100 * entry["gb_per_s"] / found.copy_bandwidth)
    assert entry["p20"] <= entry.median * 1.0001
    assert entry["saved_bytes"] > 0
    assert entry["peak_bytes"] >= entry["saved_bytes"]
    assert {"threads", "torch", "cpu", "load average before"} <= found.machine.keys()
    raw = json.loads((tmp_path / "report.json").read_text())
    assert len(raw["commit_info"]["id"]) >= 7
    assert "dirty" in raw["commit_info"]
    assert all(e["stats"]["median"] == pytest.approx(sorted(e["stats"]["data"])[len(e["stats"]["data"]) // 2], rel=0.5)
               for e in raw["benchmarks"])  # fmt: skip


def test_nothing_selected_is_one_line(tmp_path):
    done = benchmarks("--suite=quick", f"--out={tmp_path}", "-k", "nothing_of_that_name")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["benchmarks: nothing was measured"]
    assert list(tmp_path.iterdir()) == []


class Recorder:
    """A device that records calls and takes a millisecond for a replay of whatever it recorded."""

    l2_bytes = 2000

    def __init__(self, refuses=False):
        self.refuses, self.recorded = refuses, []

    def warm(self, work):
        work()

    def pool(self):
        return None

    def capture(self, work, pool):
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        self.recorded.append(work())
        return (lambda: None), self.recorded[-1]

    def event(self):
        return SimpleNamespace(record=lambda: None, elapsed_time=lambda end: 1.0)

    def synchronize(self):
        pass


@pytest.mark.parametrize("direction", all_cases.DIRECTIONS)
def test_every_input_set_is_recorded(direction):
    measured = Bench("cpu", TINY, compiler="aot_eager")
    measured.cuda = recorder = Recorder()
    case, names = Case("rsample_kl", (6, 5), "fp32", direction), ["eager", "compiled", "distributions"]
    outcomes = {name: measured.outcome(case, name, names) for name in names}
    sets = 3 * recorder.l2_bytes // (4 * (3 * 30 + 6)) + 1
    assert {outcomes[name].info["input_sets"] for name in names} == {sets}
    assert all(outcomes[name].info["cold"] for name in names)
    assert [outcomes[name].info["clock"] for name in names] == ["graph", "graph", "stream"]
    assert outcomes["eager"].seconds == pytest.approx([1e-3 / sets] * len(outcomes["eager"].seconds))
    assert outcomes["eager"].info["launch_seconds"] > 0
    assert all(len(results) == sets for results in recorded_of(recorder, direction))
    first, second = recorder.recorded[0][:2]
    assert not torch.equal(leaf(first), leaf(second))  # other data, and results in places of their own
    assert leaf(first).data_ptr() != leaf(second).data_ptr()


def recorded_of(recorder, direction):
    assert len(recorder.recorded) == (4 if direction == "backward" else 2)  # what is prepared is recorded, too
    return recorder.recorded


def leaf(results):
    while isinstance(results, tuple):
        results = results[0]
    return results


def test_what_cannot_be_recorded_is_launched():
    measured = Bench("cpu", TINY)
    measured.cuda = Recorder(refuses=True)
    info = measured.outcome(Case("rsample", (6, 5), "fp32"), "eager", ["eager"]).info
    assert info["clock"] == "stream, not recorded: RuntimeError: operation not permitted when stream is capturing"


def test_a_size_without_memory_is_no_end_of_the_others(monkeypatch):
    def full(*_):
        raise MemoryError("7 TiB")

    monkeypatch.setattr(bench, "OperatorExperiment", full)
    measured, names = Bench("cpu", TINY), ["native", "eager"]
    outcomes = [measured.outcome(Case("rsample", (6, 50), "fp32"), name, names) for name in names]
    assert all(o.wrong == "cannot be set up: MemoryError: 7 TiB" and not o.failure for o in outcomes)
    monkeypatch.undo()
    assert measured.outcome(Case("rsample", (6, 51), "fp32"), "eager", ["eager"]).wrong is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_one_line(tmp_path, capsys):
    assert main(["--device", "cuda", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines() == ["benchmarks: --device cuda: this torch sees no GPU"]


def test_unwritable_directory_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file" / "below")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
