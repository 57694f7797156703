"""A run that is killed ends as one that is not, bit for bit; two processes train the model of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastvae.training import checkpoint

if not hasattr(os, "fork"):
    pytest.skip("processes are forked", allow_module_level=True)

KILLS = 5


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with one run in each of its folders; and how often "killed" was killed."""
    folder = tmp_path_factory.mktemp("runs")
    program = Path(__file__).with_name("train_processes.py")
    command = [sys.executable, str(program), str(folder), str(KILLS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    logs = "".join(log.read_text() for log in folder.glob("*.log"))
    assert done.returncode == 0, (done.stdout + done.stderr + logs)[-4000:]
    return folder, int(done.stdout.split()[-1])


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def test_a_killed_run_ends_in_the_same_file(runs):
    folder, kills = runs
    assert kills > 1  # else nothing was tested
    whole, killed = folder / "whole", folder / "killed"
    assert metrics(whole) == metrics(killed)
    assert [line["epoch"] for line in metrics(whole)] == list(range(1, 17))
    for name in (checkpoint.NAME, "samples.png"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
    assert not [path for path in killed.iterdir() if path.name.startswith(".")]


def test_two_processes_train_the_model_of_one(runs):
    one, two = (runs[0] / name for name in ("one", "two"))
    assert len(metrics(one)) == 12
    for a, b in zip(metrics(one), metrics(two), strict=True):
        assert b == pytest.approx(a, rel=1e-4)
    a, b = (checkpoint.load(folder / checkpoint.NAME) for folder in (one, two))
    assert a.arguments == b.arguments
    for name, tensor in a.part("average").items():
        # Two halves of a batch are summed in another order than one batch, and Adam divides by what is near zero.
        torch.testing.assert_close(b.part("average")[name], tensor, rtol=1e-3, atol=1e-4)
