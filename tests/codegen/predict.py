"""What share of a copy's bandwidth a kernel can reach, by its machine code and a GPU's datasheet: an estimate."""

from __future__ import annotations

from benchmarks.gpus import GPUS, Gpu

COPY_SHARE = 0.9  # of the datasheet's bandwidth that a copy reaches
ISSUE_SHARE = 0.75  # of the clocks in which a multiprocessor issues what it could
LANES, ISSUES = 32, 4  # elements that an instruction of a warp serves; warps that issue in a clock


def copy_share(gpu: Gpu, bytes_an_element: float, instructions_an_element: float) -> float:
    memory = bytes_an_element / (COPY_SHARE * gpu.gb_per_s * 1e9)
    per_second = LANES * ISSUES * gpu.multiprocessors * gpu.mhz * 1e6 * ISSUE_SHARE
    return memory / max(memory, instructions_an_element / per_second)


def shares(architecture: str, bytes_an_element: float, instructions_an_element: float) -> dict[str, float]:
    """By GPU of that architecture, in the words that the driver has for it."""
    return {
        name: copy_share(gpu, bytes_an_element, instructions_an_element)
        for name, gpu in GPUS.items()
        if gpu.architecture == architecture
    }
