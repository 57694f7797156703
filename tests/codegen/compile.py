"""Compile the Triton kernels for GPUs that are not here: one JSON line for each.

    python compile.py ARCH              # representative signatures, and what they take of the chip
    python compile.py --operators ARCH  # all that every operator's example launches, and what fails

A stand-in for Triton's driver claims the architecture and launches nothing; the package's own launches then compile
what they would run. A process for each architecture, since Triton must neither interpret nor have met another driver.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sass
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

TESTS = Path(__file__).parents[1]

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx90a": GPUTarget("hip", "gfx90a", 64),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}


class NoGPU:
    """What Triton asks of a driver, answered for a GPU that is not there."""

    def __init__(self, target: GPUTarget):
        self.target, self.utils = target, self

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=None):
        return 0

    def get_active_torch_device(self):
        return torch.device("cpu")

    def get_device_properties(self, device):
        return {"max_shared_mem": 65536, "multiprocessor_count": 132}

    def load_binary(self, name, binary, shared, device):
        return 0, 0, 0, 0, 1024

    def launcher_cls(self, source, metadata):
        return lambda *args: None


def compiled(calls):
    """Of each launch of `walk`: name, kernel, elements of a tile, operands of its shape, bytes read, bytes written."""
    from fastvae.backends.triton import rows

    found, run = [], rows.walk.run

    def capture(*args, **keywords):
        kernel = run(*args, **keywords)
        memory, layout = args[0], args[-1]
        tensors = (*memory.inputs, *memory.outputs, memory.weight, memory.eps, memory.grad_z)
        whole = [o is not None and o.kind in ("dense", "pitched") for o in layout.operands]
        sizes = [t.element_size() if w and t is not None else 0 for w, t in zip(whole, tensors, strict=True)]
        writes = sum(sizes[layout.num_inputs : -3])
        found.append((kernel, layout.rows * layout.cols, sum(whole), sum(sizes) - writes, writes))
        return kernel

    rows.walk.run = capture
    for name, call in calls.items():
        before = len(found)
        call()
        for launch in found[before:]:
            yield name, *launch


SCALE = ("log_var", 0.0, -math.inf, math.inf)
SHORT, LONG, DIGITS, ODD, IMAGES = (4096, 256), (64, 65536), (1024, 784), (3, 70001), (16, 64, 64, 64)
FP64, FP32, BF16, UINT8 = torch.float64, torch.float32, torch.bfloat16, torch.uint8


def calls():
    """Representative signatures by name: operator, shape, dtype. Short rows, long rows, rows of no full tile."""
    from fastvae.backends import triton
    from fastvae.ops import CONTRACTS

    kernels = triton.functions(CONTRACTS)
    seed, both = torch.tensor(1), [True, True]

    def operands(shape, *dtypes):
        return [torch.zeros(shape, dtype=dtype) for dtype in dtypes]

    def per_row(shape):
        return torch.zeros(shape[0])

    def rsample(shape, dtype):
        return kernels["rsample"](*operands(shape, dtype, dtype), seed, None, 0, *SCALE)

    def rsample_kl(shape, dtype):
        return kernels["rsample_kl"](*operands(shape, dtype, dtype), seed, None, 1, 0.0, *SCALE)

    def rsample_kl_backward(shape, dtype):
        grad_z, *tensors = operands(shape, dtype, dtype, dtype)
        return kernels["rsample_kl_backward"](grad_z, per_row(shape), *tensors, seed, None, 1, 0.0, *SCALE, both)

    def kl_standard_normal(shape, dtype):
        return kernels["kl_standard_normal"](*operands(shape, dtype, dtype), None, 1, 0.0, *SCALE)

    def kl_standard_normal_backward(shape, dtype):
        tensors = operands(shape, dtype, dtype)
        return kernels["kl_standard_normal_backward"](per_row(shape), *tensors, None, 1, 0.0, *SCALE, both)

    def kl_normal_backward(shape, dtype):
        tensors = operands(shape, *[dtype] * 4)
        return kernels["kl_normal_backward"](per_row(shape), *tensors, None, 1, 0.0, *SCALE, both + both)

    def bernoulli_log_prob(shape, dtype, x=None):
        return kernels["bernoulli_log_prob"](*operands(shape, x or dtype, dtype), None, 1, 1.0)

    def bernoulli_log_prob_backward(shape, dtype):
        tensors = operands(shape, dtype, dtype)
        return kernels["bernoulli_log_prob_backward"](per_row(shape), *tensors, None, 1, 1.0, [False, True])

    def gaussian_log_prob(shape, dtype):
        return kernels["gaussian_log_prob"](*operands(shape, *[dtype] * 3), None, 1, 1.0, True, *SCALE)

    def gaussian_log_prob_backward(shape, dtype):
        tensors = operands(shape, *[dtype] * 3)
        return kernels["gaussian_log_prob_backward"](
            per_row(shape), *tensors, None, 1, 1.0, True, *SCALE, [False, True, True]
        )

    def of_shared_scale(contract, shape, of_scale):
        tensors = [*operands(shape, FP32, FP32), torch.zeros(of_scale), None]
        rows, behind = ([], [0.5]) if contract.endswith("one_pass") else ([per_row(shape)], [])
        event_ndim = len(shape) if behind else len(shape) - 1
        return kernels[contract](*rows, *tensors, event_ndim, 1.0, True, *SCALE, *behind, [False, True, True])

    def gaussian_log_prob_backward_by_columns(shape, dtype):
        return of_shared_scale("gaussian_log_prob_backward", shape, shape[-1:])

    def gaussian_log_prob_one_pass_by_columns(shape, dtype):
        return of_shared_scale("gaussian_log_prob_one_pass", shape, shape[-1:])

    def gaussian_log_prob_backward_by_channels(shape, dtype):
        return of_shared_scale("gaussian_log_prob_backward", shape, (shape[1], 1, 1))

    def rsample_backward_by_columns(shape, dtype):
        grad_z, mean = operands(shape, dtype, dtype)
        return kernels["rsample_backward"](grad_z, mean, torch.zeros(shape[-1:]), seed, None, 0, *SCALE, both)

    signatures = (
        *((f, SHORT, dtype) for f in (rsample, rsample_kl, rsample_kl_backward) for dtype in (FP32, BF16)),
        (rsample_kl, LONG, FP32),
        (kl_standard_normal, LONG, FP32),
        (kl_standard_normal_backward, SHORT, BF16),
        (kl_normal_backward, SHORT, FP32),
        (bernoulli_log_prob, LONG, FP32),
        (bernoulli_log_prob, DIGITS, BF16),
        (bernoulli_log_prob, SHORT, BF16, UINT8),
        (bernoulli_log_prob_backward, SHORT, FP32),
        (bernoulli_log_prob, ODD, FP32),
        (gaussian_log_prob, SHORT, BF16),
        (gaussian_log_prob_backward, SHORT, FP32),
        (gaussian_log_prob_backward, ODD, FP32),
        (gaussian_log_prob_backward_by_columns, SHORT, FP32),
        (gaussian_log_prob_backward_by_columns, DIGITS, FP32),
        (gaussian_log_prob_one_pass_by_columns, DIGITS, FP32),
        (gaussian_log_prob_backward_by_channels, IMAGES, FP32),
        (rsample_backward_by_columns, SHORT, FP32),
    )
    return {_name(*signature): functools.partial(*signature) for signature in signatures}


def _name(function, shape, *dtypes):
    return " ".join((function.__name__, "x".join(map(str, shape)), *(str(d).removeprefix("torch.") for d in dtypes)))


def nvidia(kernel, elements: int, reads: int, writes: int) -> dict:
    """From the machine code: registers, spills, widths of accesses to global memory, instructions of the main loop."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        (code,) = sass.kernels(Path(file.name))
        return {"shared": len(code.accesses("LDS", "STS")), **sass.facts(code, reads, writes, elements)}


def amd(kernel) -> dict:
    text = kernel.asm["amdgcn"]
    field = {
        key: int(value)
        for key, value in re.findall(
            r"\.(vgpr_count|vgpr_spill_count|sgpr_spill_count|private_segment_fixed_size):\s+(\d+)", text
        )
    }
    accesses = re.findall(r"^\s+((?:global|buffer)_(?:load|store)_\w+)", text, re.M)
    return {
        "registers": field["vgpr_count"],
        "local": field["vgpr_spill_count"] + field["sgpr_spill_count"] + field["private_segment_fixed_size"],
        "instructions": len(re.findall(r"^\s+[vs]_\w+|^\s+(?:global|buffer|ds)_\w+", text, re.M)),
        "wide": sum("dwordx4" in a or "b128" in a for a in accesses),
        "accesses": len(accesses),
        "shared": len(re.findall(r"^\s+ds_\w+", text, re.M)),
    }


def launches() -> Iterator[tuple[str, Callable[[], Any]]]:
    """(contract, call) of all that the examples of operators launch, and of the kernels that no operator has."""
    sys.path.insert(0, str(TESTS))
    import examples
    from fastvae.backends import triton
    from fastvae.ops import COMPOSED, CONTRACTS, OPERATORS

    functions = triton.functions(CONTRACTS | COMPOSED)
    for operator in OPERATORS.values():
        for contract in operator.contracts:
            if contract.name in functions:  # else plain torch computes
                for given in (*examples.variants(operator), *further_variants(operator, examples.operands)):
                    arguments = examples.contract_arguments(operator, contract, given)
                    yield contract.name, functools.partial(functions[contract.name], *arguments)
    for name, arguments in (*examples.row_arguments(), *examples.mixture_arguments()):
        yield name, functools.partial(functions[name], *arguments)
    words, upstream = torch.zeros(8, 4, dtype=torch.int64), torch.ones(())
    yield "philox", functools.partial(functions["philox"], words, words[0, :2])
    yield "normals", functools.partial(functions["normals"], words[0, 0], 8)
    for dtype in (FP32, BF16, FP64):
        yield "rescale_", functools.partial(functions["rescale_"], torch.zeros(8, dtype=dtype), upstream.to(dtype))


def further_variants(operator, operands) -> Iterator[dict[str, Any]]:
    """Layouts, and ways to read the scale, that matter to the compiler alone."""
    from fastvae.formulas.scale import SCALE_AS

    def of(shape, dtype=FP32, **further):
        named = zip(operator.operands, operands(operator, shape, dtype), strict=True)
        return {**dict(named), "seed": torch.tensor(5), **further}

    # Triton takes a stride of 1 for a constant: of one element, and where rows are walked across.
    yield of((1, 1))
    yield {name: t.mT if name in operator.operands else t for name, t in of((4099, 3)).items()}
    yield of(ODD)  # rows in steps and in parts
    if "scale_as" in operator.constants:
        for name in SCALE_AS:
            yield of((4, 6), scale_as=name)
            yield of((4, 6), FP64, scale_as=name, clamp_lo=0.1)


@contextlib.contextmanager
def noting_kernels() -> Iterator[list[str]]:
    """The hash of whatever is launched."""
    launched: list[str] = []
    run = JITFunction.run

    def noting(self, *args, **keywords):
        kernel = run(self, *args, **keywords)
        launched.append(kernel.hash)
        return kernel

    JITFunction.run = noting
    yield launched
    JITFunction.run = run


def every_operator(architecture: str) -> None:
    driver.set_active(NoGPU(TARGETS[architecture]))
    for name, call in launches():
        error = None
        with noting_kernels() as launched:
            try:
                call()
            except Exception as raised:  # the others are still of interest
                error = "".join(traceback.format_exception(raised))
        print(json.dumps({"contract": name, "kernels": launched, "error": error}), flush=True)


def hash_with(folder: str, *order: str) -> str:
    """Of the kernel that computes, in one pass, the value and the gradient of the formula.py in a folder.

    `order`: in which its constants lie, where it is not the schema's.
    """
    sys.path.insert(0, folder)
    from formula import gradient, value

    from fastvae.backends.triton.launch import launcher
    from fastvae.ops.likelihood import GAUSSIAN_LOG_PROB

    operator = GAUSSIAN_LOG_PROB
    operator.formula.constants = order or operator.formula.constants
    driver.set_active(NoGPU(TARGETS["sm_90"]))
    tensors = *(torch.zeros(SHORT) for _ in range(3)), None
    one_pass = launcher(operator, operator.one_pass, value, gradient)
    call = functools.partial(one_pass, *tensors, 2, 0.3, True, *SCALE, 0.5, [True, True, True])
    return next(compiled({"": call}))[1].hash


def main(architecture: str) -> None:
    target = TARGETS[architecture]
    driver.set_active(NoGPU(target))
    for name, kernel, elements, operands, *moved in compiled(calls()):
        each = max(1, elements // (kernel.metadata.num_warps * target.warp_size))
        facts = nvidia(kernel, each, *moved) if target.backend == "cuda" else {"elements": each, **amd(kernel)}
        print(json.dumps({"kernel": name, "operands": operands, **facts}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--hash-with":
        print(hash_with(*sys.argv[2:]))
    elif sys.argv[1] == "--operators":
        every_operator(sys.argv[2])
    else:
        main(sys.argv[1])
