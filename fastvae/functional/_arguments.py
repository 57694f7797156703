"""Argument checks of the public functions: nothing here computes, and the usual call pays for a few comparisons."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.compiler import is_compiling
from typing_extensions import TypeIs  # torch brings it

from ..formulas.scale import SCALE_AS, ScaleName, clamp_bounds

Reduction = Literal["mean", "sum", "none"]
FreeBitsOver = Literal["batch", "element", "latent", "sample"]
Clamp = tuple[float, float]

FLOATING = frozenset({torch.float32, torch.bfloat16, torch.float16, torch.float64})
VALUES = FLOATING | {torch.bool, torch.uint8}
COUNTS = VALUES | {torch.int8, torch.int16, torch.int32, torch.int64}
INDICES = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
MAX_NDIM = 8  # of the elements, samples among them: kMaxDims of the compiled libraries

_STRIDED = torch.strided
_REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
_FREE_BITS_LEVELS: tuple[FreeBitsOver, ...] = get_args(FreeBitsOver)
_NO_CLAMP = (-math.inf, math.inf)
_LOG_VAR: tuple[ScaleName, float, float, float] = ("log_var", 0.0, *_NO_CLAMP)


def operands_shape(names: tuple[str, ...], *operands: Tensor, values: frozenset[torch.dtype] = VALUES) -> torch.Size:
    """Broadcast shape of operands on one device; one named x may be of the types `values`, the others are floating."""
    first = operands[0]
    if isinstance(first, Tensor) and first.dtype in FLOATING and first.layout is _STRIDED:
        shape, dtype, device = first.shape, first.dtype, first.device
        for other in operands:
            if other is not first and (
                not isinstance(other, Tensor)
                or other.dtype != dtype
                or other.shape != shape
                or other.device != device
                or other.layout is not _STRIDED
            ):
                break
        else:
            return shape if len(shape) <= MAX_NDIM else checked_ndim(shape)
    return checked_ndim(_unequal_operands_shape(names, operands, values))


def checked_ndim(shape: torch.Size, num_samples: int = 0) -> torch.Size:
    """`num_samples` > 0 is one more dimension."""
    if len(shape) + (num_samples > 0) > MAX_NDIM:
        axis = ", the axis of the samples among them" if num_samples else ""
        raise ValueError(f"at most {MAX_NDIM} dimensions are served{axis}, got shape {list(shape)}")
    return shape


def _unequal_operands_shape(
    names: tuple[str, ...], operands: tuple[Tensor, ...], values: frozenset[torch.dtype]
) -> torch.Size:
    for name, operand in zip(names, operands, strict=True):
        check_tensor(name, operand, values if name == "x" else FLOATING)
        check_same_device(name, operand, names[0], operands[0].device)
    shape: Sequence[int] = operands[0].shape
    for name, operand in zip(names, operands, strict=True):
        wider = _broadcast(shape, operand.shape)
        if wider is None:
            shapes = ", ".join(f"{n} {list(o.shape)}" for n, o in zip(names, operands, strict=True))
            raise ValueError(f"{name} does not broadcast with the other operands: {shapes}")
        shape = wider
    return torch.Size(shape)


def is_tensor(value: object) -> TypeIs[Tensor]:
    """In one module: the same class named by two is a guard of compiled graphs, in Python."""
    return isinstance(value, Tensor)


def check_tensor(name: str, value: object, dtypes: frozenset[torch.dtype]) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.layout is not _STRIDED:
        raise TypeError(f"{name} must be a dense tensor, got the layout {value.layout}")
    if value.dtype not in dtypes:
        raise TypeError(f"{name} must be {_dtype_names(dtypes)}, got {value.dtype}")


def check_same_device(name: str, tensor: Tensor, reference_name: str, device: torch.device) -> None:
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}, {reference_name} on {device}: one device is wanted")


def event_dims(event_ndim: int | None, shape: Sequence[int], *operands: Tensor) -> int:
    """How many trailing dimensions are summed.

    None is all but the first of the operand with the fewest dimensions, two at least: what one of them has more are
    samples. `operands` are those that tell, without scales, which may be shared by any dimension.
    """
    ndim = len(shape)
    if event_ndim is None:
        for operand in operands:
            if 2 <= operand.dim() < ndim:
                ndim = operand.dim()
        return ndim - 1 if ndim > 0 else 0
    event_ndim = integer("event_ndim", event_ndim)
    if not 0 <= event_ndim <= ndim:
        raise ValueError(f"event_ndim must be in [0, {ndim}] for shape {list(shape)}, got {event_ndim}")
    return event_ndim


def scale_arguments(
    scale_as: ScaleName, scale_eps: float, clamp: Clamp | None
) -> tuple[ScaleName, float, float, float]:
    """(scale_as, scale_eps, clamp_lo, clamp_hi) as every operator with a scale takes them: bounds of what it clamps."""
    if scale_as == "log_var" and scale_eps == 0.0 and clamp is None:
        return _LOG_VAR
    check_name("scale_as", scale_as, SCALE_AS)
    scale_eps = number("scale_eps", scale_eps)
    if scale_eps < 0:
        raise ValueError(f"scale_eps must be at least 0, got {scale_eps}")
    if scale_eps and scale_as != "softplus":
        raise ValueError(f"scale_eps is read by scale_as='softplus' only, got {scale_eps} with {scale_as!r}")
    lo, hi = _NO_CLAMP if clamp is None else clamp_bounds(scale_as, _checked_clamp(clamp))
    return scale_as, scale_eps, lo, hi


def _checked_clamp(clamp: Clamp) -> Clamp:
    if not isinstance(clamp, (tuple, list)) or len(clamp) != 2:
        raise TypeError(f"clamp must be a pair (lo, hi) or None, got {clamp!r}")
    lo, hi = number("clamp's lo", clamp[0]), number("clamp's hi", clamp[1])
    if not lo <= hi:
        raise ValueError(f"clamp must be (lo, hi) with lo <= hi, got ({clamp[0]}, {clamp[1]})")
    return lo, hi


def check_free_bits(free_bits: float | Tensor, over: FreeBitsOver, device: torch.device) -> float | Tensor:
    check_name("free_bits_over", over, _FREE_BITS_LEVELS)
    if is_tensor(free_bits):
        check_tensor("free_bits", free_bits, FLOATING)
        if free_bits.dim() != 0:
            raise ValueError(f"free_bits must be a number or a 0-d tensor, got shape {list(free_bits.shape)}")
        check_same_device("free_bits", free_bits, "the operands", device)
        return free_bits.detach()
    nats = number("free_bits", free_bits)
    if not nats >= 0:
        raise ValueError(f"free_bits must be at least 0 nats, got {free_bits}")
    return nats


def element_weight(
    mask: Tensor | None, weight: Tensor | None, shape: Sequence[int], device: torch.device
) -> Tensor | None:
    """mask and weight as the one weight that operators take: zero, or False, is left out of value and gradients."""
    if mask is not None:
        check_tensor("mask", mask, frozenset({torch.bool}))
        _check_weight("mask", mask, shape, device)
    if weight is None:
        return mask
    check_tensor("weight", weight, FLOATING)
    _check_weight("weight", weight, shape, device)
    return weight if mask is None else torch.where(mask, weight, 0)


def _check_weight(name: str, weight: Tensor, shape: Sequence[int], device: torch.device) -> None:
    check_same_device(name, weight, "the operands", device)
    if weight.shape != shape and _broadcast(shape, weight.shape) != list(shape):
        raise ValueError(f"{name} {list(weight.shape)} does not broadcast to the elements' shape {list(shape)}")


def check_num_samples(num_samples: int | None, shape: torch.Size) -> int:
    """K, or 0 for no sample axis."""
    if num_samples is None:
        return 0
    num_samples = integer("num_samples", num_samples)
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    checked_ndim(shape, num_samples)
    return num_samples


def integer(name: str, value: object) -> int:
    """Also NumPy's; no bool."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int or None, got {type(value).__name__}")
    return int(value)


def check_noise(
    seed: int | Tensor | None,
    generator: torch.Generator | None,
    eps: Tensor | None,
    shape: Sequence[int],
    num_samples: int,
    device: torch.device,
) -> None:
    if seed is None and generator is None and eps is None:
        return
    given = [n for n, v in (("seed", seed), ("generator", generator), ("eps", eps)) if v is not None]
    if len(given) > 1:
        raise ValueError(f"noise comes from one of seed, generator and eps, got {' and '.join(given)}")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if generator is not None:
        check_no_capture("generator", generator.device, device)
    if seed is not None:
        _check_seed(seed)
        if is_tensor(seed):
            check_no_capture("seed", seed.device, device)
    if eps is not None:
        check_tensor("eps", eps, FLOATING)
        check_same_device("eps", eps, "mean", device)
        z_shape = [num_samples, *shape] if num_samples else list(shape)
        if list(eps.shape) != z_shape:
            raise ValueError(f"eps must be shaped like z, {z_shape}, got {list(eps.shape)}")


def check_no_capture(name: str, source: torch.device, device: torch.device) -> None:
    """A CUDA graph copies nothing from the host that is made while the graph is captured."""
    if source.type != "cpu" or device.type != "cuda" or is_compiling():
        return
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"{name} is on cpu, mean on {device}: while a CUDA graph is captured, {name} must be on {device}"
            + (" and registered with the graph by register_generator_state" if name == "generator" else "")
        )


def _check_seed(seed: object) -> None:
    if is_tensor(seed):
        if seed.dtype != torch.int64:
            raise TypeError(f"seed must be an int or an int64 tensor, got a tensor of {seed.dtype}")
        if seed.numel() != 1:
            raise ValueError(f"seed must hold one element, got shape {list(seed.shape)}")
    elif not isinstance(seed, int):
        raise TypeError(f"seed must be an int or an int64 tensor, got {type(seed).__name__}")


def is_number(value: object) -> TypeIs[float]:
    """Also NumPy's. A tensor is asked for first: abstract classes are slow to say no."""
    return not is_tensor(value) and isinstance(value, (int, float, numbers.Real))


def number(name: str, value: object) -> float:
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    return value if isinstance(value, float) else float(value)


def broadcasts(a: Sequence[int], b: Sequence[int]) -> bool:
    return a == b or _broadcast(a, b) is not None


def as_operand(value: float, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A number as a 0-d tensor. A compiler's tracer asks for the value of one that varies, unless it is multiplied."""
    if is_compiling():
        return like.new_ones((), dtype=dtype) * value
    return like.new_full((), float(value), dtype=dtype)


def _broadcast(a: Sequence[int], b: Sequence[int]) -> list[int] | None:
    """The shape that a and b broadcast to, None if they do not."""
    if len(a) < len(b):
        a, b = b, a
    shape, lead = list(a), len(a) - len(b)
    for i, size in enumerate(b, lead):
        if shape[i] == 1:
            shape[i] = size
        elif size != 1 and size != shape[i]:
            return None
    return shape


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _dtype_names(dtypes: frozenset[torch.dtype]) -> str:
    return " or ".join(sorted(str(dtype) for dtype in dtypes))


def check_name(keyword: str, name: object, names: Collection[str]) -> None:
    if name not in names:
        raise ValueError(f"{keyword} must be one of {_quoted(names)}, got {name!r}")


def check_reduction(reduction: Reduction) -> None:
    check_name("reduction", reduction, _REDUCTIONS)
