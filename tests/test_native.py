"""The compiled libraries against the contract: the names in their tables, and what they leave uncomputed."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch

import examples
from fastvae import backends
from fastvae.backends import native
from fastvae.ops import CONTRACTS, OPERATORS, Likelihood
from fastvae.ops._contract import parse
from fastvae.ops._operator import SCALE_AS
from fastvae.ops.mixture import DISCRETIZED_LOGISTIC_MIXTURE_LOG_PROB
from fastvae.ops.noise import NORMALS

TABLES = Path(__file__).parents[1] / "kernels" / "tables"

needs_native = pytest.mark.skipif(native.why_not("cpu") is not None, reason=str(native.why_not("cpu")))


def lines():
    """(kind, name, arguments behind the operands) of each operator, as the files have them."""
    for file in sorted(TABLES.glob("*.h")):
        for kind, name, rest in re.findall(
            r"^(OPERATOR|LIKELIHOOD|ROWS)\((\w+), \w+(.*)\)", file.read_text(), re.MULTILINE
        ):
            yield kind, name, tuple(re.findall(r"\w+", rest))


@pytest.mark.parametrize(("kind", "name", "arguments"), list(lines()))
def test_tables_have_the_names_of_the_schemas(kind, name, arguments):
    operator = examples.DECLARED[name]
    assert (kind != "OPERATOR") == isinstance(operator, Likelihood)
    if kind != "OPERATOR":
        arguments = ("weight", "event_ndim", *arguments)
    if "scale_as" in operator.constants:
        arguments += tuple(argument.name for argument in parse(SCALE_AS))
    operands = [argument.name for argument in operator.arguments if argument.type == "Tensor"]
    assert operator.forward.names == (*operands, *arguments)


@needs_native
@pytest.mark.parametrize(
    "kernel", [contract.name for *_, name, _ in lines() for contract in examples.DECLARED[name].contracts]
)
def test_every_line_is_bound(kernel):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"fastvae::{kernel}", "CPU")
    assert kernel in native.operators("cpu")


@needs_native
def test_a_library_names_what_it_has_bound():
    without = {c.name for name in examples.WITHOUT_KERNELS["native"] for c in examples.DECLARED[name].contracts}
    assert native.operators("cpu") == CONTRACTS.keys() - without | {
        c.name for c in DISCRETIZED_LOGISTIC_MIXTURE_LOG_PROB.contracts
    }


SOFTPLUS = {"scale_as": "softplus", "scale_eps": 1e-4}
USUAL = {"x_scale": 1.0, "clamp_lo": -torch.inf, "clamp_hi": torch.inf}
UNUSUAL = {"x_scale": 0.5, "clamp_lo": 0.1, "clamp_hi": 2.0}


@needs_native
@pytest.mark.parametrize("name", [name for kind, name, _ in lines() if kind == "LIKELIHOOD"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("constants", [USUAL, UNUSUAL], ids=["usual", "unusual"])
def test_a_gradient_has_the_same_bits_whichever_others_are_wanted(name, dtype, weighted, constants):
    """Loops leave out what nobody wants."""
    operator, shape = OPERATORS[name], (5, 1037)
    given = examples.CONSTANTS | {operand: torch.rand(shape).to(dtype) for operand in operator.operands}
    given |= {"weight": (torch.rand(shape) > 0.3).to(dtype) if weighted else None, "event_ndim": 1, "factor": 0.25}
    given |= {"grad_log_prob": torch.rand(5, dtype=torch.float64 if dtype == torch.float64 else torch.float32)}
    given |= SOFTPLUS | constants
    count = len(operator.differentiable)
    for contract in (operator.backward, operator.one_pass):
        arguments = [given[argument] for argument in contract.names if argument != "needs"]
        with backends.use("native"):
            everything = examples.several(contract.call(*arguments, [True] * count))
            for needs in itertools.product([False, True], repeat=count):
                results = examples.several(contract.call(*arguments, list(needs)))
                wanted = [True] * (len(results) - count) + list(needs)
                for need, result, full in zip(wanted, results, everything, strict=True):
                    assert torch.equal(result, full) if need else result.numel() == 0


@needs_native
def test_the_stream_is_checked_before_it_is_made():
    seed = torch.zeros((), dtype=torch.int64)
    with backends.use("native"):
        with pytest.raises(RuntimeError, match="seed is one int64 element"):
            NORMALS.call(seed.expand(2), 4)
        with pytest.raises(RuntimeError, match="count must not be negative, got -1"):
            NORMALS.call(seed, -1)
