"""`make gpu-check` where there is no GPU: its budget, how its steps end, and the whole of it against a stand-in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import environment, gpu_check, gpu_steps, gpus, reach
from fastvae.backends import native
from fastvae.measure.reports import document

ROOT = Path(__file__).parents[1]
STEPS = ["build", "smoke", "training", "training-compiled", "operators", "operators-compiled", "tests", "scaling"]


def step(name, code, seconds=60):
    return gpu_steps.Step(name, ((sys.executable, "-c", code),), seconds)


def summary(text):
    """By step: the first word of its status."""
    lines = [line.split() for line in text.rsplit("\n\n", 1)[1].splitlines() if not line.startswith(" ")]
    return {line[0]: line[1] for line in lines}


def test_the_summary_comes_last_and_has_every_step(tmp_path, capsys):
    steps = [step("one", "print('fine')"), step("two", "print('why'); raise SystemExit(3)"), step("three", "print(3)")]
    assert gpu_check.run(steps, tmp_path) == 1
    printed = capsys.readouterr().out
    assert list(summary(printed).items()) == [("one", "passed"), ("two", "failed"), ("three", "passed")]
    assert printed.endswith((tmp_path / "summary.txt").read_text())
    assert (tmp_path / "two.log").read_text() == "why\n"
    assert gpu_check.run(steps[:1], tmp_path) == 0


def test_a_step_that_takes_too_long_is_interrupted_as_by_ctrl_c(tmp_path, capsys):
    code = (
        "import time\ntry:\n    print('on', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('whole')"
    )
    assert gpu_check.run([step("slow", code, gpu_steps.GRACE + 2)], tmp_path) == 1
    assert "timed out" in capsys.readouterr().out
    assert (tmp_path / "slow.log").read_text() == "on\nwhole\n"


def test_what_a_step_leaves_of_its_time_is_the_later_ones(tmp_path):
    steps = [step("quick", "", 60), step("slow", "import time; time.sleep(3)", gpu_steps.GRACE + 1)]
    assert gpu_check.run(steps, tmp_path) == 0


def test_a_step_says_what_it_did_not_reach(tmp_path, capsys):
    (tmp_path / "test_it.py").write_text(
        "import time\ndef test_a(): pass\ndef test_b(): time.sleep(60)\ndef test_c(): 0"
    )
    command = (sys.executable, "-m", "pytest", str(tmp_path / "test_it.py"), "-p", "benchmarks.reach")
    command = (*command, f"--reach={tmp_path / 'it.reach'}", f"--rootdir={tmp_path}")
    assert gpu_check.run([gpu_steps.Step("it", (command,), gpu_steps.GRACE + 6)], tmp_path) == 1
    assert "    not reached, 2 of 3: test_it.py (2)\n" in capsys.readouterr().out


def test_reach_is_read_from_what_a_killed_process_leaves(tmp_path):
    notes = [["planned", "a", "one"], ["planned", "b", "two"], ["planned", "c", "two"], ["over", "a"]]
    path = tmp_path / "notes"
    path.write_text("\n".join(map(json.dumps, notes)) + '\n["over", "b')
    assert reach.missing(path) == "not reached, 2 of 3: two (2)"
    path.write_text("\n".join(json.dumps(["planned", str(i), str(i)]) for i in range(9)))
    assert reach.missing(path, most=2) == "not reached, 9 of 9: 0 (1), 1 (1), and 7 more"
    assert reach.missing(tmp_path / "nothing") is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    assert gpu_check.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == "gpu_check: torch sees no GPU here\n"
    assert gpu_check.main([]) == 2


def test_the_whole_takes_eight_minutes_at_most(tmp_path):
    steps = gpu_steps.steps(tmp_path, (9, 0), nvidia=True)
    assert [step.name for step in steps] == STEPS
    assert sum(step.seconds for step in steps) <= gpu_steps.WHOLE <= 480
    assert [step.name for step in gpu_steps.steps(tmp_path, (9, 4), nvidia=False)] == STEPS[1:]


def test_the_library_is_built_for_the_gpu_at_hand_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_steps, "TOOLS", tools(tmp_path, "cmake", "nvcc"))
    build = gpu_steps.steps(tmp_path, (12, 0), nvidia=True)[0]
    assert "-DCMAKE_CUDA_ARCHITECTURES=120-real" in build.commands[0]
    assert [command[1] for command in build.commands] == ["-S", "--build", "--install"]


@pytest.mark.parametrize("missing", [("nvcc",), ("cmake",), ("nvcc", "cmake")])
def test_a_build_that_is_not_possible_is_said(missing, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CUDACXX", raising=False)
    monkeypatch.setattr(gpu_steps, "TOOLS", tools(tmp_path, *{"nvcc", "cmake"} - {*missing}))
    build = gpu_steps.steps(tmp_path, (9, 0), nvidia=True)[0]
    assert gpu_check.run([build, step("after", "print('on')")], tmp_path) == 1
    printed = capsys.readouterr().out
    assert f"build              not possible: {' and '.join(missing)} was not found" in printed
    assert summary(printed) == {"build": "not", "after": "passed"}


def tools(folder, *names):
    """A directory with commands that print how they were called."""
    (folder / "bin").mkdir(exist_ok=True)
    for name in names:
        path = folder / "bin" / name
        path.write_text('#!/bin/sh\necho "$@"\n')
        path.chmod(0o755)
    return str(folder / "bin")


def test_rehearsal(tmp_path):
    """All steps against a stand-in for the GPU, with commands that print how they were called in the build's place."""
    if native.why_not("cpu") is not None:
        pytest.skip("the CPU's library stands for the GPU's: it was not built")
    out = tmp_path / "out"
    done = rehearse(out, tools(tmp_path, "cmake", "nvcc"))
    logs = {name: (out / f"{name}.log").read_text() for name in STEPS}
    assert done.returncode == 0, done.stdout
    assert summary(done.stdout) == dict.fromkeys(STEPS, "passed")
    assert done.stdout.startswith("NVIDIA H200, torch ")
    assert "-DCMAKE_CUDA_ARCHITECTURES=90-real" in logs["build"]
    check_selection(out, "smoke", least=40)
    check_selection(out, "tests", least=1000)
    for name, chosen in gpu_steps.MEASURED.items():
        expected = int(re.search(r"about (\d+) s$", logs[name], re.M).group(1))  # by the suite's own estimate
        assert 0 < expected <= chosen.seconds - gpu_steps.START - gpu_steps.GRACE, name
        check_report(out / name)
    check_copy(out / "operators")


def rehearse(out, tools):
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_XDIST", "CUDA", "TRITON"))
    }
    stand_in = {"PYTHONPATH": str(ROOT / "tests" / "stand_in"), "PYTEST_ADDOPTS": "-p stand_in"}
    path = os.pathsep.join([tools, os.environ["PATH"]])
    command = [sys.executable, "-m", "benchmarks.gpu_check", str(out)]
    environment = inherited | stand_in | {"PATH": path}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def check_selection(out, name, least):
    planned = [json.loads(line)[1] for line in (out / f"{name}.reach").read_text().splitlines()]
    assert len(planned) > least
    assert all(re.search("cuda|gpu", test) for test in planned)


def check_report(folder):
    found = document.read(folder / "report.json")
    assert found.complete
    assert found.wrong == ()
    assert {"native", "triton"} <= {e.variant for e in found.entries.values()} or found.of("training")
    timed = [e for e in found.entries.values() if e.role != document.FLOOR and not e.variant.startswith("network")]
    assert all(e["first_call_seconds"] > 0 for e in timed)
    commit = json.loads((folder / "report.json").read_text())["commit_info"]
    assert commit["kernels"] == environment.kernel_hash(ROOT)


def check_copy(folder):
    copy = document.read(folder / "report.json").entries["floor copy", "copy"]
    assert copy["peak_gb_per_s"] == gpus.GPUS["NVIDIA H200"].gb_per_s == 4800
    assert copy["peak_percent"] == pytest.approx(100 * copy["gb_per_s"] / 4800)
    assert " % of the datasheet's 4,800 GB/s" in (folder / "table.md").read_text()
    assert gpus.peak_gb_per_s("NVIDIA H100 PCIe") is None  # what has no entry has no peak


def test_the_hash_is_of_every_kernel(tmp_path):
    paths = ("kernels/cuda/launch.h", "kernels/math/scale.h", "fastvae/backends/triton/rows.py")
    hashes = {environment.kernel_hash(tmp_path)}
    for path in paths:
        assert (ROOT / path).is_file()
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("new")
        hashes.add(environment.kernel_hash(tmp_path))
    assert len(hashes) == 1 + len(paths)
