"""The narrower instruction sets, chosen at load and so each in a process of its own, pass the accuracy tests too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastvae.backends import native

FILES = ("test_posterior.py", "test_likelihood.py", "test_counts.py", "test_noise.py", "test_mixture_kernel.py")


@pytest.mark.parametrize("name", ["baseline", "v3"])
def test_accuracy(name):
    if native.why_not("cpu") is not None:
        pytest.skip(native.why_not("cpu"))
    if name not in native.instruction_sets():
        pytest.skip(f"this processor or this build has no instruction set {name}")
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "native and accurate and dtype0"]
    done = subprocess.run(
        [*command, *(str(folder / file) for file in FILES)],
        env={**os.environ, "FASTVAE_CPU_ISA": name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
