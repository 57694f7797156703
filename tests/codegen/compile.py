"""Compile the Triton kernels for GPUs that are not here: `python compile.py ARCH...` prints one JSON line a kernel.

A stand-in for Triton's driver claims the architecture and launches nothing; the package's own launches then compile what
they would run. A process of its own, since Triton must neither interpret nor have met another driver.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

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
    """(name, compiled kernel, elements of a tile) of every launch of `walk` that `calls` make."""
    from fastvae.backends.triton import rows

    found, run = [], rows.walk.run

    def capture(*args, **keywords):
        kernel = run(*args, **keywords)
        layout = args[-1]
        found.append((kernel, layout.rows * layout.cols))
        return kernel

    rows.walk.run = capture
    for name, call in calls.items():
        before = len(found)
        call()
        for kernel, elements in found[before:]:
            yield name, kernel, elements


def calls():
    """Representative signatures: operator, dtypes, rows x columns."""
    from fastvae.backends.triton import likelihood, posterior

    seed = torch.tensor(1)
    scale = ("log_var", 0.0, -float("inf"), float("inf"))
    result = {}
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        for shape in ((4096, 256), (1024, 784), (64, 65536), (3, 70001), (128, 20)):
            a, b, c = (torch.zeros(shape, dtype=dtype) for _ in range(3))
            grad = torch.zeros(()).expand(shape[0])
            rows = torch.zeros(shape[0])
            u8 = torch.zeros(shape, dtype=torch.uint8)
            size = f"{shape[0]}x{shape[1]} {name}"
            both = [True, True]
            result |= {
                f"rsample {size}": lambda a=a, b=b: posterior.rsample(a, b, seed, None, 0, *scale),
                f"rsample_backward {size}": lambda a=a, b=b: posterior.rsample_backward(a, a, b, seed, None, 0, *scale, both),
                f"rsample_kl {size}": lambda a=a, b=b: posterior.rsample_kl(a, b, seed, None, 1, 0.0, *scale),
                f"rsample_kl_backward {size}": lambda a=a, b=b, g=rows: posterior.rsample_kl_backward(a, g, a, b, seed, None, 1, 0.0, *scale, both),
                f"kl_standard_normal {size}": lambda a=a, b=b: posterior.kl_standard_normal(a, b, None, 1, 0.0, *scale),
                f"kl_standard_normal_backward {size}": lambda a=a, b=b, g=grad: posterior.kl_standard_normal_backward(g, a, b, None, 1, 0.0, *scale, both),
                f"kl_normal_backward {size}": lambda a=a, b=b, g=grad: posterior.kl_normal_backward(g, a, b, a, b, None, 1, 0.0, *scale, [True] * 4),
                f"bernoulli_log_prob {size}": lambda a=a, b=b: likelihood.bernoulli_log_prob(a, b, None, 1, 1.0),
                f"bernoulli_log_prob_backward {size}": lambda a=a, b=b, g=rows: likelihood.bernoulli_log_prob_backward(g, a, b, None, 1, 1.0, [False, True]),
                f"bernoulli_log_prob {size} of uint8": lambda u=u8, b=b: likelihood.bernoulli_log_prob(u, b, None, 1, 1 / 255),
                f"gaussian_log_prob {size}": lambda a=a, b=b, c=c: likelihood.gaussian_log_prob(a, b, c, None, 1, 1.0, True, *scale),
                f"gaussian_log_prob_backward {size}": lambda a=a, b=b, c=c, g=grad: likelihood.gaussian_log_prob_backward(g, a, b, c, None, 1, 1.0, True, *scale, [False, True, True]),
            }
    return result


def nvidia(kernel) -> dict:
    """From the machine code: registers, spills, instructions, widths of accesses to global memory."""
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = subprocess.run([tools / "cuobjdump", "--dump-resource-usage", file.name], capture_output=True, text=True, check=True).stdout
        sass = subprocess.run([tools / "cuobjdump", "-sass", file.name], capture_output=True, text=True, check=True).stdout
    number = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", usage)}
    instructions = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z0-9_.]+)", sass, re.M)
    accesses = [i for i in instructions if i.startswith(("LDG", "STG"))]
    return {
        "registers": number["REG"],
        "local": number["STACK"] + number["LOCAL"],
        "instructions": len([i for i in instructions if i != "NOP"]),
        "wide": sum(".128" in i for i in accesses),
        "accesses": len(accesses),
        "shared": sum(i.startswith(("LDS", "STS")) for i in instructions),
    }


def amd(kernel) -> dict:
    text = kernel.asm["amdgcn"]
    field = {key: int(value) for key, value in re.findall(r"\.(vgpr_count|vgpr_spill_count|sgpr_spill_count|private_segment_fixed_size):\s+(\d+)", text)}
    accesses = re.findall(r"^\s+((?:global|buffer)_(?:load|store)_\w+)", text, re.M)
    return {
        "registers": field["vgpr_count"],
        "local": field["vgpr_spill_count"] + field["sgpr_spill_count"] + field["private_segment_fixed_size"],
        "instructions": len(re.findall(r"^\s+[vs]_\w+|^\s+(?:global|buffer|ds)_\w+", text, re.M)),
        "wide": sum("dwordx4" in a or "b128" in a for a in accesses),
        "accesses": len(accesses),
        "shared": len(re.findall(r"^\s+ds_\w+", text, re.M)),
    }


def main(architectures: list[str]) -> None:
    for architecture in architectures:
        target = TARGETS[architecture]
        driver.set_active(NoGPU(target))
        look = nvidia if target.backend == "cuda" else amd
        for name, kernel, elements in compiled(calls()):
            threads = kernel.metadata.num_warps * target.warp_size
            facts = look(kernel) | {"elements": max(1, elements // threads)}
            print(json.dumps({"arch": architecture, "kernel": name, **facts}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
