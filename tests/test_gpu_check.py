"""`make gpu-check` where there is no GPU: what it says, and how its steps end."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks import gpu_check


def step(name, code, seconds=60):
    return gpu_check.Step(name, ((sys.executable, "-c", code),), seconds)


def test_the_summary_comes_last_and_has_every_step(tmp_path, capsys):
    steps = [step("one", "print('fine')"), step("two", "print('why'); raise SystemExit(3)"), step("three", "print(3)")]
    assert gpu_check.run(steps, tmp_path) == 1
    summary = capsys.readouterr().out.rsplit("\n\n", 1)[1]
    assert [line.split()[:2] for line in summary.splitlines()] == [
        ["one", "passed"],
        ["two", "failed"],
        ["three", "passed"],
    ]
    assert (tmp_path / "two.log").read_text() == "why\n"
    assert gpu_check.run(steps[:1], tmp_path) == 0


def test_a_step_that_takes_too_long_is_interrupted_as_by_ctrl_c(tmp_path, capsys):
    code = (
        "import time\ntry:\n    print('on', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('whole')"
    )
    assert gpu_check.run([step("slow", code, 2)], tmp_path) == 1
    assert "timed out" in capsys.readouterr().out
    assert (tmp_path / "slow.log").read_text() == "on\nwhole\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    assert gpu_check.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == "gpu_check: torch sees no GPU here\n"
    assert gpu_check.main([]) == 2
