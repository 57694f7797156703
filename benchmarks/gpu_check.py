"""`python -m benchmarks.gpu_check DIR`: build, test and measure on a GPU in one go, offline, in eight minutes at most.

Needs a Python with torch for the GPU, Triton, and what the tests and benchmarks import; installs nothing. DIR gets
reports, logs and the summary. Exit status 0 where all steps passed, 1 where one did not, 2 where there is no GPU.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import reach
from .gpu_steps import GRACE, ROOT, Step, steps

TAIL = 12  # lines of a failed step that the summary repeats


@dataclass(frozen=True)
class Outcome:
    step: Step
    status: str
    seconds: float
    lines: list[str]
    missing: str | None = None  # what it did not reach


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
    return run(steps(out, torch.cuda.get_device_capability(), torch.version.cuda is not None), out)


def run(steps: Sequence[Step], out: Path) -> int:
    """Run each step, whatever became of those before it, which leave it their time; the summary comes last."""
    outcomes: list[Outcome] = []
    for step in steps:
        left = sum(outcome.step.seconds - outcome.seconds for outcome in outcomes)
        outcomes.append(_run(step, step.seconds + left, out))
    summary = "\n".join(line for outcome in outcomes for line in _summary(outcome)) + "\n"
    (out / "summary.txt").write_text(summary, encoding="utf-8")
    print(f"\n{summary}", end="")
    return int(any(outcome.status != "passed" for outcome in outcomes))


def _summary(outcome: Outcome) -> Iterator[str]:
    yield f"{outcome.step.name:18} {outcome.status:10} {outcome.seconds:6.1f} s  {outcome.lines[-1]}"
    if outcome.missing is not None:
        yield f"    {outcome.missing}"
    if outcome.status != "passed":
        yield from (f"    {line}" for line in outcome.lines[-TAIL:-1])


def _run(step: Step, seconds: float, out: Path) -> Outcome:
    print(f"{step.name} ...", step.impossible and f"not possible: {step.impossible}", flush=True)
    start, status, log = time.monotonic(), "passed", out / f"{step.name}.log"
    if step.impossible:
        return Outcome(step, f"not possible: {step.impossible}", 0.0, ["the steps after it go on without"])
    with log.open("w", encoding="utf-8") as file:
        for command in step.commands:
            status = _status(command, seconds - (time.monotonic() - start), file)
            if status != "passed":
                break
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["no output"]
    return Outcome(step, status, time.monotonic() - start, lines, reach.missing(out / f"{step.name}.reach"))


def _status(command: Sequence[str], seconds: float, output) -> str:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_heed_ctrl_c,
    )
    try:
        code = process.wait(max(seconds - GRACE, 1))
        return "passed" if code == 0 else f"failed {code}"
    except subprocess.TimeoutExpired:
        # As Ctrl-C, which reaches a command's own processes too: the benchmark then writes what it has measured.
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        return "timed out"
    finally:
        # Compilers that a step has started would disturb what the next one measures.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _heed_ctrl_c() -> None:
    """A shell has what it runs in the background ignore it, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
