"""What Triton makes of the kernels, read from machine code for GPUs that need not be here. `-s` prints the table."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

NVIDIA, AMD = ("sm_80", "sm_90", "sm_100"), ("gfx90a", "gfx942")

# An NVIDIA multiprocessor has 65536: at 80 it keeps 800 threads, at 104 600. AMD has 512 a lane: at 144 three waves.
MOST_REGISTERS = {"sm_80": 80, "sm_90": 80, "sm_100": 104, **dict.fromkeys(AMD, 144)}

# Noise is bound by instructions before it is by memory. An H200 issues 33.4e12 a second and copies 4.3e12 bytes: 12
# bytes of float32 leave room for 93 an element.
MOST_INSTRUCTIONS = {"rsample 4096x256 float32": 56, "rsample_kl 4096x256 float32": 68}

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed: pip install triton")


def run(*arguments: str) -> str:
    script = Path(__file__).parent / "compile.py"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@functools.cache
def kernels(architecture: str) -> dict[str, dict]:
    found = [json.loads(line) for line in run(architecture).splitlines()]
    print(f"\n{architecture:58} registers local instructions/element 16-byte/all accesses")
    for k in found:
        ratio = k["instructions"] / k["elements"]
        print(f"{k['kernel']:58} {k['registers']:9} {k['local']:5} {ratio:20.1f} {k['wide']:10}/{k['accesses']}")
    return {k["kernel"]: k for k in found}


@pytest.mark.parametrize("architecture", [*NVIDIA, *AMD])
def test_registers_suffice(architecture):
    for name, kernel in kernels(architecture).items():
        assert kernel["local"] == 0, name
        assert kernel["registers"] <= MOST_REGISTERS[architecture], name


@pytest.mark.parametrize("architecture", [*NVIDIA, *AMD])
def test_memory_is_accessed_sixteen_bytes_at_a_time(architecture):
    for name, kernel in kernels(architecture).items():
        # Each operand has one at least: rows of 70001 elements too, whose ends alone are taken one by one.
        assert kernel["wide"] >= kernel["operands"], name


@pytest.mark.parametrize("name", MOST_INSTRUCTIONS)
def test_noise_takes_few_instructions(name):
    kernel = kernels("sm_90")[name]
    assert kernel["instructions"] <= MOST_INSTRUCTIONS[name] * kernel["elements"]


# Of each maker one: what the others refuse, these do too.
@pytest.mark.parametrize("architecture", ["sm_90", "gfx942"])
def test_all_that_operators_launch_compiles(architecture):
    launches = [json.loads(line) for line in run("--operators", architecture).splitlines()]
    kernels = {kernel for launch in launches for kernel in launch["kernels"]}
    failures = [f"{launch['contract']}: {launch['error']}" for launch in launches if launch["error"]]
    print(f"\n{architecture}: {len(kernels)} kernels of {len(launches)} launches, {len(failures)} failures")
    assert not failures, "\n".join(failures)
    names = {launch["contract"] for launch in launches}
    assert names == {launch["contract"] for launch in launches if launch["kernels"]}


FORMULA = """
import triton

@triton.jit
def value(c, x, mean, scale):
    return x * c.x_scale * {}

@triton.jit
def gradient(c, grad, x, mean, scale):
    return grad, grad * {}, grad
"""


def folder_with(folder: Path, *factors: str) -> str:
    folder.mkdir()
    (folder / "formula.py").write_text(FORMULA.format(*factors))
    return str(folder)


# Triton keeps what it has compiled on disk: an update must not find the kernels of before.


def test_a_formula_of_another_source_is_another_kernel(tmp_path):
    factors = (("2.0", "2.0"), ("3.0", "2.0"), ("2.0", "3.0"))
    hashes = {run("--hash-with", folder_with(tmp_path / str(i), *each)) for i, each in enumerate(factors)}
    assert len(hashes) == 3


def test_constants_in_another_order_are_another_kernel(tmp_path):
    folder = folder_with(tmp_path / "formula", "2.0", "2.0")
    between = ("normalized", "scale_as", "clamp_lo", "clamp_hi")
    orders = (("x_scale", *between, "scale_eps"), ("scale_eps", *between, "x_scale"))
    assert len({run("--hash-with", folder, *order) for order in orders}) == 2
