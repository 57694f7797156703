"""What is measured: operators x sizes x dtypes x directions, as data, each size with its reason."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fastvae.ops import OPERATORS, Likelihood

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DIRECTIONS = ("forward", "backward", "forward+backward")

CPU, GPU = ("cpu",), ("cuda",)
BOTH = CPU + GPU
FULL = ("fp32", "bf16")
HALF = ("bf16", "fp16")

# What most VAEs use; the others differ in an operand or two.
MAIN = ("bernoulli_log_prob", "gaussian_log_prob", "rsample_kl", "kl_standard_normal")
LATENT = ("rsample_kl", "kl_standard_normal", "rsample", "kl_normal", "moments", "encoding")
PACKED = ("moments", "encoding")  # of one operand, that holds mean and log-variance
WITHOUT_GRADIENTS = ("encoding",)
LIKELIHOODS = tuple(name for name, operator in OPERATORS.items() if isinstance(operator, Likelihood))
COUNTS = (
    "negative_binomial_log_prob",
    "zero_inflated_negative_binomial_log_prob",
    "poisson_log_prob",
    "unnormalized_poisson_log_prob",
)
PIXELS = ("laplace_log_prob", "continuous_bernoulli_log_prob", "discretized_logistic_log_prob")
LOSSES = ("bernoulli_loss", "gaussian_loss")
CLASSES = ("multinomial_loss", "multinomial_log_prob", "categorical_log_prob")
FURTHER = tuple(name for name in LIKELIHOODS if name not in (*MAIN, *COUNTS))
ALONE = ("forward",)
WHOLE = ("forward+backward",)  # in one pass the forward does the work of both


@dataclass(frozen=True)
class Size:
    """Operators at one shape, and why that shape."""

    shape: tuple[int, ...]
    reason: str
    operators: tuple[str, ...] = MAIN
    dtypes: tuple[str, ...] = FULL
    devices: tuple[str, ...] = BOTH
    layout: str = "contiguous"  # "packed": one tensor [N, 2C, ...] holds both parameters; "channels_last"
    samples: int | None = None  # K
    target: str = "float"  # "uint8": x holds 0..255; "int32": counts; "frequent": counts that are seldom 0
    directions: tuple[str, ...] = DIRECTIONS
    quick: tuple[str, ...] = ()  # the operators that the quick suite measures, in the first dtype
    kind: str = "operator"


SIZES = (
    Size((128, 20), "latents of an MLP on digits: the call costs more than the arithmetic", quick=MAIN),
    Size((1024, 64), "latents of a large batch: two threads begin to pay"),
    Size((128, 784), "MNIST at the usual batch"),
    Size((1024, 784), "MNIST, operands of a few MiB: cache", quick=("bernoulli_log_prob", "rsample_kl")),
    Size((4096, 784), "MNIST, operands beyond a second-level cache"),
    Size((512, 12288), "64x64x3 pixels in rows: memory"),
    Size((128, 20), "the other latent operators, launch-bound", ("rsample", "kl_normal"), ("fp32",)),
    Size((1024, 784), "the other latent operators, in cache", ("rsample", "kl_normal"), ("fp32",)),
    Size((4096, 12288), "the other latent operators, memory", ("rsample", "kl_normal"), FULL, GPU),
    Size((256, 3, 32, 32), "CIFAR-10 at the usual batch", ("gaussian_log_prob",), quick=("gaussian_log_prob",)),
    Size((8, 3, 256, 256), "256x256 images: few long rows", ("gaussian_log_prob",), FULL, CPU),
    Size((4, 3, 512, 512), "512x512 images: longer rows than threads", ("gaussian_log_prob",), FULL, CPU),
    Size((64, 3, 256, 256), "256x256 images", ("gaussian_log_prob", "bernoulli_log_prob"), (*FULL, "fp16"), GPU),
    Size((16, 3, 512, 512), "512x512 images: few long rows", ("gaussian_log_prob",), (*FULL, "fp16"), GPU),
    Size((64, 3, 64, 64), "images as convolutions leave them", ("gaussian_log_prob",), FULL, layout="channels_last"),
    Size((8, 8, 64, 64), "latent diffusion's moments of 512x512 images", ("moments",), ("fp32", *HALF), CPU, "packed"),
    Size((8, 8, 64, 64), "images encoded once", ("encoding",), FULL, layout="packed", directions=ALONE),
    Size((64, 8, 64, 64), "latent diffusion's moments, a training batch", ("moments",), HALF, GPU, "packed"),
    Size((128, 64), "one sample, with the axis for it", ("rsample",), ("fp32",), samples=1),
    Size((128, 64), "IWAE with few samples", ("rsample",), ("fp32",), samples=8, quick=("rsample",)),
    Size((128, 64), "IWAE with many samples: the output is what moves", ("rsample",), ("fp32",), samples=64),
    Size((1024, 784), "MNIST as it is stored", ("bernoulli_log_prob",), FULL, target="uint8"),
    Size((64, 3, 64, 64), "RGB as it is stored", ("gaussian_log_prob",), FULL, target="uint8"),
    Size((128, 2000), "cells by their most variable genes", COUNTS, devices=CPU, directions=WHOLE, quick=COUNTS[:2]),
    Size((128, 10000), "cells by half of all genes", COUNTS, ("fp32",), CPU, directions=WHOLE),
    Size((128, 20000), "cells by all genes", COUNTS[:2], ("fp32",), CPU, directions=WHOLE),
    Size((1024, 2000), "cells in a large batch", COUNTS, directions=WHOLE),
    Size((128, 2000), "counts as they are stored", COUNTS, ("fp32",), CPU, target="int32", directions=WHOLE),
    Size((128, 2000), "counts that are seldom 0", COUNTS[:2], ("fp32",), CPU, target="frequent", directions=WHOLE),
    Size((512, 20000), "items of a recommender, at Mult-VAE's batch", CLASSES, directions=WHOLE),
    Size((128, 50000), "items of a larger recommender", CLASSES, ("fp32",), directions=WHOLE),
    Size((4, 50000), "few long rows", CLASSES[:1], ("fp32",), directions=WHOLE),
    Size((4096, 10), "labels: rows of few classes", CLASSES[2:], ("fp32",), CPU, directions=WHOLE),
    Size((4096, 256), "a pixel's levels as classes", CLASSES[2:], ("fp32",), CPU, directions=WHOLE),
    Size((1024, 784), "the other likelihoods of pixels, in cache", PIXELS),
    Size((128, 784), "the other likelihoods, at the usual batch", FURTHER),
    Size((4096, 784), "the other likelihoods, operands beyond a second-level cache", FURTHER),
    Size((128, 784), "the whole loss in a training step on MNIST", LOSSES[:1], directions=WHOLE),
    Size((4096, 784), "the whole loss, operands beyond a second-level cache", LOSSES[:1], directions=WHOLE),
    Size((8, 3, 256, 256), "the whole loss on images", LOSSES[1:], devices=CPU, directions=WHOLE),
    Size((64, 3, 256, 256), "the whole loss on images", LOSSES[1:], devices=GPU, directions=WHOLE),
)

# One case for each power of ten; rows of a thousand.
SCALING = tuple(
    Size(
        (n // 1000, 1000),
        "cost against element count",
        MAIN,
        ("fp32",),
        BOTH if n <= 10**7 else GPU,
        directions=WHOLE,
        quick=("bernoulli_log_prob",) if n <= 10**5 else (),
        kind="scaling",
    )
    for n in (10**3, 10**4, 10**5, 10**6, 10**7, 10**8)
)


@dataclass(frozen=True)
class Case:
    operator: str
    shape: tuple[int, ...]
    dtype: str
    direction: str = "forward+backward"
    layout: str = "contiguous"
    samples: int | None = None
    target: str = "float"
    reason: str = ""
    kind: str = "operator"

    @property
    def size(self) -> str:
        further = [self.layout] if self.layout != "contiguous" else []
        further += [] if self.target == "float" else [self.target]
        further += [] if self.samples is None else [f"K{self.samples}"]
        return " ".join(["x".join(map(str, self.shape)), *further])

    @property
    def group(self) -> tuple:
        """What the directions of a case share: operands, compiled functions."""
        return self.kind, self.operator, self.size, self.dtype

    @property
    def elements(self) -> int:
        """Of each parameter."""
        return math.prod(self.shape) // (2 if self.layout == "packed" else 1)

    @property
    def keywords(self) -> dict[str, Any]:
        return {} if self.samples is None else {"num_samples": self.samples}

    def info(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "operator": self.operator,
            "shape": list(self.shape),
            "size": self.size,
            "dtype": self.dtype,
            "layout": self.layout,
            "samples": self.samples,
            "target": self.target,
            "direction": self.direction,
            "reason": self.reason,
            "elements": self.elements,
        }

    def __str__(self) -> str:
        scaling = "scaling " if self.kind == "scaling" else ""
        return f"{scaling}{self.operator} {self.size} {self.dtype} {self.direction}"


def operators(names: Sequence[str], suite: str, device: str) -> list[Case]:
    """The cases of one family, an operator after the other."""
    cases = [case for size in SIZES for case in _cases(size, suite, device)]
    return [case for name in names for case in cases if case.operator == name]


def scaling(suite: str, device: str) -> list[Case]:
    return [case for size in SCALING for case in _cases(size, suite, device)]


def _cases(size: Size, suite: str, device: str) -> Iterator[Case]:
    """Directions of one group stand together, so that its operands are made and compiled once."""
    if device not in size.devices:
        return
    quick = suite == "quick"
    dtypes = size.dtypes[:1] if quick else size.dtypes
    for operator in size.quick if quick else size.operators:
        for dtype in dtypes:
            for direction in size.directions[-1:] if quick and device == "cpu" else size.directions:
                yield Case(
                    operator,
                    size.shape,
                    dtype,
                    direction,
                    size.layout,
                    size.samples,
                    size.target,
                    size.reason,
                    size.kind,
                )
