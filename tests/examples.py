"""One example for each operator: how users call it, and where its operands lie. Every suite runs over these.

What an argument is called says what it may be: of a likelihood's value the declaration tells, of all other operands any
real number will do unless the example says otherwise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor
from torch.distributions import constraints

import fastvae
from fastvae.ops import OPERATORS, ROW_LIKELIHOODS, Contract, Likelihood, Operator
from fastvae.ops.mixture import DISCRETIZED_LOGISTIC_MIXTURE_LOG_PROB

Sampler = Callable[[tuple[int, ...]], Tensor]

LOG_VAR = {"scale_as": "log_var", "scale_eps": 0.0, "clamp_lo": -math.inf, "clamp_hi": math.inf}
SOFTPLUS = {"scale_as": "softplus", "scale_eps": 1e-4, "clamp_lo": 0.1, "clamp_hi": 4.0}

# By the names that schemas have for them.
CONSTANTS: dict[str, Any] = {
    "event_ndim": 1,
    "num_samples": 0,
    "free_bits": 0.0,
    "x_scale": 1.0,
    "normalized": True,
    "log_scale": True,
    "half_bin": 0.5 / 255,
    "log_rate": True,
    "log_mean": True,
    "odds": False,
    "log_dispersion": True,
    "beta_value": 1.0,
    "averaged": True,
    "factor": 0.5,
    **LOG_VAR,
}

# So that any real number is a parameter.
IN_LOGARITHMS: dict[str, Any] = {"mean_as": "log_mean", "dispersion_as": "log_inverse_dispersion"}


def away_from_0(shape: tuple[int, ...]) -> Tensor:
    """Logarithms. Rounding one near 0 explains nothing of what rounding its exponential costs."""
    return (0.5 + torch.rand(shape)) * torch.where(torch.rand(shape) > 0.5, 1.0, -1.0)


SUPPORTS: dict[constraints.Constraint, Sampler] = {
    constraints.unit_interval: torch.rand,
    constraints.real: torch.randn,
    constraints.nonnegative_integer: lambda shape: torch.randint(0, 9, shape).float(),
}


@dataclass(frozen=True)
class Example:
    """`call` is the public function of the operands in their order."""

    call: Callable[..., Any]
    operands: Mapping[str, Sampler] = field(default_factory=dict)  # where not any real number will do
    keywords: Mapping[str, Any] = field(default_factory=lambda: {"event_ndim": 1})  # of one event, [D]
    truth: Callable[..., Any] | None = None  # of a likelihood: its elements in mpmath
    public: str | None = None  # the function's name, where it is not the operator's


EXAMPLES = {
    "rsample": Example(lambda mean, scale, **k: fastvae.rsample(mean, scale, seed=3, **k), keywords={}),
    "kl_standard_normal": Example(fastvae.kl_standard_normal),
    "kl_normal": Example(fastvae.kl_normal),
    "rsample_kl": Example(lambda mean, scale, **k: fastvae.rsample_kl(mean, scale, seed=3, **k)),
    "bernoulli_log_prob": Example(fastvae.bernoulli_log_prob, truth=oracles.bernoulli_log_prob),
    "gaussian_log_prob": Example(fastvae.gaussian_log_prob, truth=oracles.gaussian_log_prob),
    "laplace_log_prob": Example(
        partial(fastvae.laplace_log_prob, scale_as="log_scale"),
        truth=partial(oracles.laplace_log_prob, log_scale=True),
    ),
    "continuous_bernoulli_log_prob": Example(
        fastvae.continuous_bernoulli_log_prob, truth=oracles.continuous_bernoulli_log_prob
    ),
    "discretized_logistic_log_prob": Example(
        fastvae.discretized_logistic_log_prob, truth=oracles.discretized_logistic_log_prob
    ),
    "poisson_log_prob": Example(
        fastvae.poisson_log_prob, operands={"rate": away_from_0}, truth=oracles.poisson_log_prob
    ),
    "unnormalized_poisson_log_prob": Example(
        partial(fastvae.poisson_log_prob, normalized=False),
        operands={"rate": away_from_0},
        truth=oracles.unnormalized_poisson_log_prob,
        public="poisson_log_prob",
    ),
    "negative_binomial_log_prob": Example(
        partial(fastvae.negative_binomial_log_prob, **IN_LOGARITHMS),
        operands={"mean": away_from_0, "inverse_dispersion": away_from_0},
        truth=partial(oracles.negative_binomial_log_prob, log_mean=True, log_dispersion=True),
    ),
    "zero_inflated_negative_binomial_log_prob": Example(
        partial(fastvae.negative_binomial_log_prob, **IN_LOGARITHMS),
        operands={"mean": away_from_0, "inverse_dispersion": away_from_0},
        truth=partial(oracles.zero_inflated_negative_binomial_log_prob, log_mean=True, log_dispersion=True),
        public="negative_binomial_log_prob",
    ),
    "elbo": Example(
        lambda log_px, kl, beta, **k: tuple(fastvae.elbo(log_px, kl, beta, **k)),
        operands={"beta": lambda shape: torch.rand(())},
        keywords={},
    ),
}

# Operators that plain torch computes until they have kernels, by backend.
WITHOUT_KERNELS: dict[str, frozenset[str]] = {"native": frozenset(), "triton": frozenset()}

# From any real numbers, smoothly: what is differentiated in x must not leave the support.
INTO_SUPPORT: dict[constraints.Constraint, Callable[[Tensor], Tensor]] = {
    constraints.unit_interval: torch.sigmoid,
    constraints.real: lambda x: x,
    constraints.nonnegative_integer: torch.exp,
}

DECLARED = OPERATORS | ROW_LIKELIHOODS
LIKELIHOODS = {name: operator for name, operator in OPERATORS.items() if isinstance(operator, Likelihood)}


def one_of_a_kind(operators: Mapping[str, Operator]) -> list[str]:
    """Drivers know no formula: to them operators are alike that have as many operands and gradients. A short one."""
    kinds: dict[object, str] = {}
    for name, o in sorted(operators.items(), key=lambda item: item[1].long_winded):
        kinds.setdefault((type(o), o.samples, len(o.operands), len(o.differentiable), len(o.outputs)), name)
    return list(kinds.values())


def public(name: str) -> Callable[..., Any]:
    """The function that users know the operator by."""
    return getattr(fastvae, EXAMPLES[name].public or name)


def operand(operator: Operator, name: str, shape: tuple[int, ...]) -> Tensor:
    sampler = EXAMPLES[operator.name].operands.get(name)
    if sampler is None:
        is_value = isinstance(operator, Likelihood) and name == operator.operands[0]
        sampler = SUPPORTS[operator.support] if is_value else torch.randn
    return sampler(shape)


def operands(operator: Operator, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [operand(operator, name, shape).to(dtype) for name in operator.operands]


def several(results: Any) -> tuple[Any, ...]:
    """What an operator gives, which is no tuple where it is one."""
    return results if isinstance(results, tuple) else (results,)


def of_events(name: str, *reals: Tensor, **keywords: Any) -> Tensor:
    """The first result of an operator's example as a function of real tensors [*batch, D], each an operand or more.

    An operand that gets no gradient is the last of them.
    """
    operator, example = OPERATORS[name], EXAMPLES[name]
    fixed = len(operator.operands) - len(operator.differentiable)
    given = [reals[-1]] * fixed + list(itertools.islice(itertools.cycle(reals), len(operator.differentiable)))
    if isinstance(operator, Likelihood):
        given[0] = INTO_SUPPORT[operator.support](given[0])
    if "beta" in operator.operands:
        given[-1] = given[-1].sum().sigmoid()
    return several(example.call(*given, **example.keywords, **keywords))[0]


def served(backend: str, kind: type[Operator] = Operator) -> list[Any]:
    """The operators that the backend has kernels for."""
    missing = WITHOUT_KERNELS.get(backend, ())
    return [o for o in OPERATORS.values() if isinstance(o, kind) and o.name not in missing]


def skip_without_kernel(name: str, backend: str) -> None:
    if name in WITHOUT_KERNELS.get(backend, ()):
        pytest.skip(f"backend {backend} has no kernel for {name} yet")


def arguments(operator: Operator, given: Mapping[str, Any]) -> tuple[Any, ...]:
    """Of the operator, in its schema's order; tensors that are not given are absent."""
    tensors = [given.get(name) for name in operator.tensors]
    return (*tensors, *({**CONSTANTS, **given}[name] for name in operator.constants))


def variants(operator: Operator) -> Iterator[dict[str, Any]]:
    """Arguments by name: layouts, broadcasting, dtypes and options that each take another path."""

    def noise(eps: Tensor | None = None) -> dict[str, Any]:
        if not operator.samples:
            return {}
        return {"seed": torch.tensor(5) if eps is None else None, "eps": eps}

    names = operator.operands

    def of_shapes(*shapes: tuple[int, ...], **further: Any) -> dict[str, Any]:
        tensors = {
            name: operand(operator, name, shape) for name, shape in zip(names, _cycle(shapes, len(names)), strict=True)
        }
        return {**tensors, **noise(), **further}

    # halves of one packed tensor
    packed = of_shapes((4, 12))
    yield {
        **packed,
        **{
            name: t.chunk(2, -1)[i % 2] if t.dim() else t for i, (name, t) in enumerate(packed.items()) if name in names
        },
    }
    # rows, half precision, a mask, samples, a floor, softplus
    mixed = of_shapes(
        (4, 6), (6,), weight=torch.rand(4, 1) > 0.5, num_samples=3, free_bits=0.1, averaged=False, **SOFTPLUS
    )
    yield {**mixed, names[0]: mixed[names[0]].bfloat16()}
    # channels last, one number shared by all
    last = of_shapes((2, 3, 4, 5), event_ndim=3, normalized=False)
    last = {
        n: t.contiguous(memory_format=torch.channels_last) if n in names and t.dim() == 4 else t
        for n, t in last.items()
    }
    yield {**last, names[-1]: operand(operator, names[-1], ())}
    # float64 beside float32, weights, nothing summed, noise that is given
    double = of_shapes((4, 6), weight=torch.rand(6), event_ndim=0, beta_value=0.5)
    yield {**double, names[0]: double[names[0]].double(), **noise(torch.randn(4, 6, dtype=torch.float64))}
    # nothing
    yield of_shapes((0, 3))
    yield of_shapes((3, 0))
    if isinstance(operator, Likelihood):
        yield {**of_shapes((4, 6)), "x": torch.randint(0, 2, (4, 6), dtype=torch.uint8), "x_scale": 1 / 255}
        yield {**of_shapes((4, 6)), "x": torch.rand(4, 6) > 0.5}


def row_arguments() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(contract, arguments) of the likelihoods of classes: types, layouts and weights that each take another path."""
    for name, operator in ROW_LIKELIHOODS.items():
        constants = [True] * (len(operator.constants) - 1)
        for shape, dtype, weighted in (((4, 6), torch.float32, True), ((2, 3, 7), torch.bfloat16, False)):
            logits, weight = torch.randn(shape).to(dtype), torch.rand(*shape[:-1], 1) > 0.4
            x = torch.randint(0, 5, (*shape[:-1], 1 if name == "categorical_log_prob" else shape[-1]))
            for strided in (logits, torch.stack([logits.double()] * 2, -1)[..., 0]):
                operands = (x, strided, weight if weighted else None)
                yield operator.forward.name, (*operands, 1, *constants)
                yield operator.backward.name, (torch.randn(shape[:-1]), *operands, 1, *constants, [True])
                yield operator.one_pass.name, (*operands, len(shape), *constants, 0.5, [True])


def mixture_arguments() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(contract, arguments) of the mixture: types, layouts and weights that each take another path."""
    operator = DISCRETIZED_LOGISTIC_MIXTURE_LOG_PROB
    for samples, dtype, weighted in (
        ((), torch.float32, False),
        ((2,), torch.bfloat16, True),
        ((), torch.float64, True),
    ):
        x, logits = torch.rand(3, 2, 5).to(dtype), torch.randn(*samples, 3, 4, 5).to(dtype)
        mean, log_scale = torch.stack([torch.rand(*samples, 3, 4, 2, 5).to(dtype)] * 2, -1).unbind(-1)
        weight = torch.rand(*samples, 3, 5) if weighted else None
        arguments = x, logits, mean, log_scale, weight, 1.0, 0.5 / 255
        yield operator.forward.name, arguments
        yield operator.backward.name, (torch.randn(*samples, 3), *arguments, [True] * 4)
        yield operator.one_pass.name, (*arguments, 0.5, [False, True, True, False])


def _cycle(shapes: tuple[tuple[int, ...], ...], count: int) -> list[tuple[int, ...]]:
    return [shapes[i % len(shapes)] for i in range(count)]


def backward_arguments(operator: Operator, forward: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Of the backward: dense, expanded and absent gradients, all and the first gradient wanted."""
    outputs = several(operator.forward.call(*forward))
    dense = [torch.randn_like(o) for o in outputs]
    expanded = [o.new_tensor(1.5).expand(o.shape) if i == 0 else None for i, o in enumerate(outputs)]
    possible = needs(operator, forward)
    first = [need and i == possible.index(True) for i, need in enumerate(possible)]
    yield (*dense, *forward, possible)
    yield (*expanded, *forward, possible)
    yield (*dense, *forward, first)


def needs(operator: Operator, forward: tuple[Any, ...]) -> list[bool]:
    """Which gradients there can be."""
    given = operator.forward.named(forward)
    operands = [given[name] for name in operator.differentiable]
    return [t is not None and t.is_floating_point() for t in operands]


def contract_arguments(operator: Operator, contract: Contract, given: Mapping[str, Any]) -> tuple[Any, ...]:
    """Of the forward, the backward with all gradients, or the loss in one pass."""
    forward = arguments(operator, given)
    if contract is operator.forward:
        return forward
    if contract is operator.backward:
        return next(backward_arguments(operator, forward))
    event_ndim = contract.names.index("event_ndim")
    ndim = len(
        torch.broadcast_shapes(*(t.shape for t in operator.shaped(operator.forward.named(forward)) if t is not None))
    )
    whole = (*forward[:event_ndim], ndim, *forward[event_ndim + 1 :])
    return (*whole, CONSTANTS["factor"], needs(operator, forward))
