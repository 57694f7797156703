"""What datasheets say of GPUs, by the name that the driver gives them; other GPUs have no entry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """An origin stands for all figures of its GPU but those that it explains."""

    architecture: str  # as nvcc names it
    multiprocessors: int
    mhz: int  # boost clock
    gb_per_s: int  # of memory, at peak
    origin: str


GPUS = {
    "NVIDIA A100-SXM4-80GB": Gpu(
        "sm_80", 108, 1410, 2039, "NVIDIA A100 Tensor Core GPU datasheet, 2021; whitepaper, 2020, table 4"
    ),
    "NVIDIA H100 80GB HBM3": Gpu(
        "sm_90", 132, 1980, 3350, "NVIDIA H100 datasheet, 2023, SXM5; clock: 67 TFLOP/s over 132 x 128 x 2"
    ),
    "NVIDIA H200": Gpu("sm_90", 132, 1980, 4800, "NVIDIA H200 datasheet, 2023, SXM; clock as the H100's"),
    "NVIDIA B200": Gpu(
        "sm_100", 148, 1980, 8000, "NVIDIA HGX B200 datasheet, 2024; clock: 75 TFLOP/s over 148 x 128 x 2"
    ),
}


def peak_gb_per_s(name: str) -> int | None:
    return GPUS[name].gb_per_s if name in GPUS else None
