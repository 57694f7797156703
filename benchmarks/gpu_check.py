"""`python -m benchmarks.gpu_check DIR`: build, test and measure on a GPU in one go, offline; DIR gets the reports.

Needs a Python with torch for the GPU, Triton, and what the tests and benchmarks import; installs nothing. Exit status 0
where all steps passed, 1 where one failed, 2 where there is no GPU.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "gpu"
TAIL = 12  # lines of a failed step that the summary repeats
GRACE = 15  # seconds that a step has to end when its time is over


@dataclass(frozen=True)
class Step:
    """Commands that run one after the other, and the seconds that they may take together."""

    name: str
    commands: tuple[Sequence[str], ...]
    seconds: int


@dataclass(frozen=True)
class Outcome:
    step: Step
    status: str
    seconds: float
    lines: list[str]


def main(arguments: list[str]) -> int:
    import torch

    if len(arguments) != 1:
        print("gpu_check: one argument is wanted, the directory for the reports", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("gpu_check: torch sees no GPU here", file=sys.stderr)
        return 2
    out = Path(arguments[0]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    return run(_steps(out, torch), out)


def run(steps: Sequence[Step], out: Path) -> int:
    """Run each step, whatever became of those before it; the summary comes last."""
    outcomes = [_run(step, out) for step in steps]
    print()
    for outcome in outcomes:
        print(f"{outcome.step.name:10} {outcome.status:10} {outcome.seconds:6.1f} s  {outcome.lines[-1]}")
        for line in outcome.lines[-TAIL:-1] if outcome.status != "passed" else ():
            print(f"    {line}")
    return int(any(outcome.status != "passed" for outcome in outcomes))


def _steps(out: Path, torch) -> list[Step]:
    major, minor = torch.cuda.get_device_capability()
    python = (sys.executable, "-m")
    # Each test compiles kernels of its own: as many at once as there are processors, where pytest can.
    parallel = ("-n", str(min(12, os.cpu_count() or 1))) if find_spec("xdist") else ()
    chosen = ("tests", "-k", "cuda or gpu", "--ignore=tests/test_cuda.py", "--ignore=tests/codegen")
    tests = (*python, "pytest", *chosen, "-p", "no:cacheprovider", "-rs", *parallel)
    build = Step(
        "build",
        (
            (
                "cmake",
                *("-S", str(ROOT), "-B", str(BUILD), "-DFASTVAE_NATIVE=ON", f"-DPython_EXECUTABLE={sys.executable}"),
                *("-DFASTVAE_CUDA=ON", f"-DCMAKE_CUDA_ARCHITECTURES={major}{minor}"),
            ),
            ("cmake", "--build", str(BUILD), "--parallel"),
            ("cmake", "--install", str(BUILD), "--prefix", str(ROOT)),
        ),
        60,
    )
    return [
        *([build] if torch.version.cuda and shutil.which("nvcc") and shutil.which("cmake") else []),
        Step("tests", (tests,), 200),
        Step(
            "benchmark",
            ((*python, "benchmarks", "--suite", "quick", "--device", "cuda", "--out", str(out)),),
            200,
        ),
    ]


def _run(step: Step, out: Path) -> Outcome:
    print(f"{step.name} ...", flush=True)
    start, status, log = time.monotonic(), "passed", out / f"{step.name}.log"
    with log.open("w", encoding="utf-8") as file:
        for command in step.commands:
            status = _status(command, step.seconds - (time.monotonic() - start), file)
            if status != "passed":
                break
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["no output"]
    return Outcome(step, status, time.monotonic() - start, lines)


def _status(command: Sequence[str], seconds: float, output) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, preexec_fn=_heed_ctrl_c
    )
    try:
        code = process.wait(max(seconds, 1))
        return "passed" if code == 0 else f"failed {code}"
    except subprocess.TimeoutExpired:
        # As Ctrl-C: the benchmark then writes what it has measured.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return "timed out"


def _heed_ctrl_c() -> None:
    """A shell has what it runs in the background ignore it, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
