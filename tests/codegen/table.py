"""`make codegen`: what representative kernels take of a GPU that need not be here, CUDA's and Triton's in one table.

An instruction count is static: of the main loop's body over the elements that an iteration takes, or of the whole
kernel where it has no loop. `<` stands before the count of a path with branches, which not every iteration takes, and
`>` before the share of a copy's bandwidth that follows from it. A loop that reads the next elements ahead, or
takes the last ones singly, is counted as it stands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import cuda_kernels
import predict
import sass

COUNTED = ("sm_80", "sm_90", "sm_100")  # of the GPUs that shares are predicted for
GPUS = {name.split("-")[0].removeprefix("NVIDIA ").split(" ")[0]: name for name in predict.GPUS}


def rows(backend: str, by_architecture: dict[str, list[dict]]) -> Iterator[list[str]]:
    kernels: dict[str, dict[str, dict]] = {}
    for architecture, found in by_architecture.items():
        for kernel in found:
            kernels.setdefault(kernel["kernel"], {})[architecture] = kernel
    for name, of in kernels.items():
        some = of.get("sm_90") or next(iter(of.values()))
        shares = {gpu: share for architecture, k in of.items() for gpu, share in _shares(architecture, k).items()}
        yield [
            f"{backend} {name}",
            str(max(k["registers"] for k in of.values())),
            str(max(k["local"] for k in of.values())),
            f"{some['wide']}/{some['accesses']}",
            str(some["elements"]),
            f"{some['branches']}/{some['calls']}",
            *(_count(of.get(architecture)) for architecture in COUNTED),
            *(shares.get(name, "") for name in GPUS.values()),
        ]


def _shares(architecture: str, kernel: dict) -> dict[str, str]:
    each = kernel["bytes"], kernel["instructions"] / kernel["elements"]
    sign = ">" if kernel["branches"] else ""
    return {gpu: f"{sign}{100 * share:.0f} %" for gpu, share in predict.shares(architecture, *each).items()}


def _count(kernel: dict | None) -> str:
    if kernel is None:
        return ""
    return f"{'<' if kernel['branches'] else ''}{kernel['instructions'] / kernel['elements']:.1f}"


HEADER = (
    *("kernel", "registers", "spilled", "16-byte/all", "elements", "branches/calls"),
    *(f"instr/el {architecture}" for architecture in COUNTED),
    *GPUS,
)


def triton(architecture: str) -> list[dict]:
    script = Path(__file__).parent / "compile.py"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(script), architecture]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def compiled(architecture: str) -> dict[str, sass.Kernel]:
    print(f"CUDA {architecture} ...", file=sys.stderr, flush=True)  # the first time it takes minutes
    return cuda_kernels.kernels(architecture)


def spills(architectures: Iterable[str]) -> Iterator[str]:
    """A line for each architecture, of all kernels there are."""
    for architecture in architectures:
        found = compiled(architecture)
        spilled = [name for name, kernel in found.items() if kernel.local]
        most = max(kernel.registers for kernel in found.values())
        yield f"CUDA {architecture}: {len(found)} kernels, at most {most} registers, {len(spilled)} spill"
        yield from (f"    {name}" for name in spilled)


def main() -> int:
    lines = [list(HEADER)]
    if find_spec("triton") is not None:
        lines += rows("Triton", {architecture: triton(architecture) for architecture in COUNTED})
    if cuda_kernels.NVCC is not None:
        lines += rows("CUDA", {a: list(cuda_kernels.representative(compiled(a))) for a in COUNTED})
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *rest in lines:
        print(first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)))
    print(flush=True)
    if cuda_kernels.NVCC is None:
        print("nvcc was not found: the CUDA kernels were not compiled")
        return 0
    found = []
    for line in spills(cuda_kernels.ARCHITECTURES):
        print(line, flush=True)
        found.append(line)
    return int(any(line.startswith(" ") for line in found))


if __name__ == "__main__":
    sys.exit(main())
