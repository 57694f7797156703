"""What is measured: operators x shapes x dtypes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

OPERATORS = ("bernoulli_log_prob", "gaussian_log_prob", "rsample_kl", "kl_standard_normal")

SHAPES = {
    (128, 20): "latents of an MLP on digits: the call costs more than the arithmetic",
    (1024, 64): "latents of a large batch: two threads begin to pay",
    (128, 784): "28x28 pixels at the usual batch",
    (1024, 784): "28x28 pixels, operands of a few MiB: cache",
    (4096, 784): "28x28 pixels, operands beyond the second-level cache",
    (512, 12288): "64x64x3 pixels: memory",
}

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

QUICK_SHAPES = ((128, 20), (1024, 784))


@dataclass(frozen=True)
class Case:
    operator: str
    shape: tuple[int, int]
    dtype: str

    @property
    def size(self) -> str:
        return "x".join(map(str, self.shape))

    @property
    def quick(self) -> bool:
        """Whether `--quick` measures it."""
        return self.shape in QUICK_SHAPES

    def __str__(self) -> str:
        return f"{self.operator} {self.size} {self.dtype}"


CASES = tuple(Case(operator, shape, dtype) for operator in OPERATORS for dtype in DTYPES for shape in SHAPES)


def cases_of(operator: str) -> list[Case]:
    return [case for case in CASES if case.operator == operator]
