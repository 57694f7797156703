"""What `benchmarks.gpu_check` runs, in order of worth: what comes late is what a short time leaves out."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "gpu"
WHOLE = 480  # seconds for all steps together
GRACE = 8  # of a step's seconds, those that it has to end after it was interrupted
START = 8  # and those that Python, torch and the GPU's context take before anything runs

# Where CMakeLists.txt looks for nvcc, too, and what this Python has beside it.
TOOLS = os.pathsep.join(
    [
        os.environ.get("PATH", ""),
        str(Path(sys.executable).parent),
        *(str(Path(os.environ[home]) / "bin") for home in ("CUDA_HOME", "CUDA_PATH") if home in os.environ),
        "/usr/local/cuda/bin",
    ]
)


@dataclass(frozen=True)
class Step:
    """Commands that run one after the other, and the seconds that they may take together."""

    name: str
    commands: tuple[Sequence[str], ...]
    seconds: int
    impossible: str = ""  # why it cannot run here


@dataclass(frozen=True)
class Benchmarks:
    """A selection from the suite that fits into `seconds` by the suite's own estimate."""

    seconds: int
    suite: str
    each: float  # seconds for a case
    selection: str


# Eager before compiled: a case ends when all of its variants are compiled.
MEASURED = {
    "training": Benchmarks(36, "full", 0.4, "training and eager and not (9000-96-20 or 1024)"),
    "training-compiled": Benchmarks(
        116, "full", 0.4, "training and compiled and (784-400-20 or conv) and not (IWAE or 1024)"
    ),
    "operators": Benchmarks(
        66, "full", 0.2, "copy or (512x12288 and not forward+backward and (native or triton or eager))"
    ),
    "operators-compiled": Benchmarks(
        55,
        "quick",
        0.4,
        "forward+backward and not scaling and (1024x784 or 256x3x32x32 or (rsample_kl and 128x20))"
        " and (native or triton or eager or compiled)",
    ),
    "scaling": Benchmarks(30, "full", 0.2, "scaling and bernoulli and (native or triton) and not compiled"),
}
BUILD_SECONDS, SMOKE_SECONDS, TEST_SECONDS = 100, 40, 37  # with what earlier steps leave of theirs

# What only a GPU can run, but for what torch.compile takes long for; of every operator value and gradients in float32.
SMOKE = ("tests/test_gpu.py", "tests/test_posterior.py", "tests/test_likelihood.py")
SMOKE_SELECTION = "(test_gpu and not compiled) or (cuda and accurate and dtype0)"
REST_SELECTION = "(cuda or gpu) and not (test_gpu and not compiled)"
LEFT_OUT = ("tests/test_gpu_check.py", "tests/test_cuda.py", "tests/codegen")  # need no GPU


def steps(out: Path, capability: tuple[int, int], nvidia: bool) -> list[Step]:
    ignored = (f"--ignore={path}" for path in LEFT_OUT)
    return [
        *([_build(capability)] if nvidia else []),
        _tests("smoke", out, SMOKE_SECONDS, *SMOKE, "-k", SMOKE_SELECTION),
        *(_benchmarks(name, out) for name in MEASURED if name != "scaling"),
        _tests("tests", out, TEST_SECONDS, "tests", "-k", REST_SELECTION, *ignored),
        _benchmarks("scaling", out),
    ]


def _build(capability: tuple[int, int]) -> Step:
    """For the GPU at hand alone."""
    cmake = shutil.which("cmake", path=TOOLS)
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc", path=TOOLS)
    missing = [name for name, found in (("nvcc", nvcc), ("cmake", cmake)) if not found]
    if missing:
        return Step("build", (), BUILD_SECONDS, f"{' and '.join(missing)} was not found")
    architecture = "".join(map(str, capability))
    configure = (
        *(str(cmake), "-S", str(ROOT), "-B", str(BUILD), f"-DPython_EXECUTABLE={sys.executable}"),
        *("-DFASTVAE_NATIVE=ON", "-DFASTVAE_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}"),
        *(f"-DCMAKE_CUDA_ARCHITECTURES={architecture}-real", "-DCMAKE_CUDA_FLAGS=--split-compile=0"),
    )
    build = (str(cmake), "--build", str(BUILD), "--parallel", str(os.cpu_count() or 1))
    install = (str(cmake), "--install", str(BUILD), "--prefix", str(ROOT))
    return Step("build", (configure, build, install), BUILD_SECONDS)


def _tests(name: str, out: Path, seconds: int, *chosen: str) -> Step:
    # Each test compiles kernels of its own: as many at once as there are processors, where pytest can.
    parallel = ("-n", str(min(12, os.cpu_count() or 1))) if find_spec("xdist") else ()
    pytest = (sys.executable, "-m", "pytest", *chosen, "-p", "no:cacheprovider", *parallel, *_reach(name, out))
    return Step(name, (pytest,), seconds)


def _benchmarks(name: str, out: Path) -> Step:
    chosen = MEASURED[name]
    options = (f"--suite={chosen.suite}", "--device=cuda", f"--seconds={chosen.each}", f"--out={out / name}")
    command = (sys.executable, "-m", "benchmarks", *options, "-k", chosen.selection, *_reach(name, out))
    return Step(name, (command,), chosen.seconds)


def _reach(name: str, out: Path) -> tuple[str, ...]:
    return "-p", "benchmarks.reach", f"--reach={out / name}.reach"
