"""NVIDIA's machine code as cuobjdump prints it: what a kernel takes of the chip, and what its main loop executes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path

LOADS, STORES = ("LDG",), ("STG",)
WIDTHS = {"256": 32, "128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}  # bytes of an access; of others 4


@dataclass(frozen=True)
class Instruction:
    address: int
    predicate: str  # "@P0", or nothing
    name: str  # with its modifiers: LDG.E.128
    operands: str

    @property
    def operation(self) -> str:
        return self.name.split(".")[0]

    @property
    def target(self) -> int | None:
        """Where a branch goes."""
        found = re.search(r"0x[0-9a-f]+$", self.operands) if self.operation == "BRA" else None
        return int(found.group(), 16) if found else None

    @property
    def bytes(self) -> int:
        """That an access to global memory moves."""
        return next((WIDTHS[part] for part in self.name.split(".") if part in WIDTHS), 4)


@dataclass(frozen=True)
class Kernel:
    name: str  # mangled
    registers: int
    local: int  # bytes of stack and of local memory: what is spilled
    disassembled: Callable[[], str]  # takes most of a second

    @cached_property
    def instructions(self) -> tuple[Instruction, ...]:
        """Without NOPs and the endless loop behind the end."""
        return tuple(_instructions(self.disassembled()))

    def accesses(self, *operations: str) -> list[Instruction]:
        return [i for i in self.instructions if i.operation in operations]


def kernels(cubin: Path) -> list[Kernel]:
    return [
        Kernel(
            name, number["REG"], number["STACK"] + number["LOCAL"], partial(_cuobjdump, cubin, "-sass", "-fun", name)
        )
        for name, number in _usage(_cuobjdump(cubin, "--dump-resource-usage"))
    ]


def main_loop(instructions: Sequence[Instruction], reads: int = 1, writes: int = 0) -> list[Instruction] | None:
    """The innermost loop that reads and writes so many bytes at least, of several the longest; None where no loop does.

    A loop lies between a branch back and its target. One that does less is a part of the main loop, as the loop over
    the samples of a gradient is, which writes nothing.
    """
    loops = [
        (branch.target, branch.address)
        for branch in instructions
        if branch.target is not None and branch.target < branch.address
    ]
    bodies = {loop: _within(instructions, loop) for loop in loops}
    working = [loop for loop, of in bodies.items() if _moved(of, LOADS) >= reads and _moved(of, STORES) >= writes]
    innermost = [loop for loop in working if not any(_inside(other, loop) for other in working)]
    return max((bodies[loop] for loop in innermost), key=len, default=None)


def _moved(instructions: Sequence[Instruction], operations: tuple[str, ...]) -> int:
    return sum(i.bytes for i in instructions if i.operation in operations)


def _inside(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return inner != outer and outer[0] <= inner[0] and inner[1] <= outer[1]


def _within(instructions: Sequence[Instruction], loop: tuple[int, int]) -> list[Instruction]:
    return [i for i in instructions if loop[0] <= i.address <= loop[1]]


def branches(instructions: Sequence[Instruction]) -> int:
    """Ways that not every iteration takes: whatever they skip is counted all the same."""
    return sum(i.operation in ("BRA", "BRX") for i in instructions[:-1])


def calls(instructions: Sequence[Instruction]) -> int:
    return sum(i.operation == "CALL" for i in instructions)


def _usage(text: str) -> Iterator[tuple[str, dict[str, int]]]:
    for name, line in re.findall(r"Function (\S+):\s*\n\s*(.*)", text):
        yield name, {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", line)}


def _instructions(text: str) -> Iterator[Instruction]:
    pattern = r"^\s+/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+)?\s*([A-Z0-9_.]+)\s*([^;]*);"
    for address, predicate, name, operands in re.findall(pattern, text, re.M):
        instruction = Instruction(int(address, 16), predicate, name, operands.strip())
        if name != "NOP" and instruction.target != instruction.address:
            yield instruction


def _cuobjdump(cubin: Path, *options: str) -> str:
    return subprocess.run([tool(), *options, str(cubin)], capture_output=True, text=True, check=True).stdout


def tool() -> str:
    """cuobjdump, Triton's or the toolkit's."""
    package = find_spec("triton")
    beside = [str(Path(package.origin).parent / "backends" / "nvidia" / "bin")] if package and package.origin else []
    found = next((t for t in (shutil.which("cuobjdump", path=p) for p in (*beside, None, CUDA)) if t), None)
    if found is None:
        raise FileNotFoundError("cuobjdump was found neither in Triton's package nor in the CUDA toolkit")
    return found


CUDA = "/usr/local/cuda/bin"


def facts(kernel: Kernel, reads: int, writes: int, elements: int | None) -> dict:
    """One line of the table. `reads` and `writes`: bytes an element; `elements` that a thread takes in an iteration.

    A kernel without a loop is executed once from end to end. Where the loop has branches its count is an upper bound.
    """
    loop = main_loop(kernel.instructions, reads * (elements or 1), writes * (elements or 1))
    path = kernel.instructions if loop is None else loop
    loaded = _moved(path, LOADS)
    elements = elements or loaded // reads
    accesses = kernel.accesses(*LOADS, *STORES)
    return {
        "registers": kernel.registers,
        "local": kernel.local,
        "wide": sum(i.bytes >= 16 for i in accesses),
        "accesses": len(accesses),
        "elements": elements,
        "loaded": loaded,
        "instructions": len(path),
        "loop": loop is not None,
        "branches": branches(path),
        "calls": calls(path),
        "bytes": reads + writes,
        "reads": reads,
    }
