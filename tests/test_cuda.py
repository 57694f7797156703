"""The CUDA library without a GPU: its arithmetic run on the host, its build and its kernels' use of the chip read off.

What needs a GPU (shuffles, barriers, launches, streams) is tested by the other files wherever one is present.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from fastvae.backends import cuda
from fastvae.ops import CONTRACTS

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "kernels"
TORCH = Path(torch.__file__).parent
CXX = shutil.which(os.environ.get("CXX", "c++"))
NVCC = shutil.which(os.environ.get("CUDACXX", "nvcc")) or shutil.which("nvcc", path="/usr/local/cuda/bin")
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
CMAKE = shutil.which("cmake", path=TOOLS)

EMULATED = (
    "layouts",
    "noise",
    "objective",
    "one_pass",
    "shared_gradients",
    "posterior",
    "likelihood",
    "counts",
    "pixels",
    "categorical",
)  # test files

needs_nvcc = pytest.mark.skipif(NVCC is None, reason="nvcc was not found: the CUDA kernels were not compiled")
needs_cmake = pytest.mark.skipif(CMAKE is None, reason="cmake was not found")

# Of 65,536 on a multiprocessor: three blocks of 128 threads fit at least; two where a formula that is long winded sums
# three gradients down the rows beside its value.
MOST_REGISTERS = 168
TWO_BLOCKS = "walk_columns", "OnePass", "ZeroInflated"


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """The CUDA library compiled for the host, one thread after the other, under the CPU's dispatch key."""
    if CXX is None:
        pytest.skip("no C++ compiler was found")
    folder = tmp_path_factory.mktemp("emulated")
    flags = ["-std=c++17", "-O1", "-fPIC", "-fno-math-errno", "-ffp-contract=off", "-march=native", "-Wall", "-Wextra"]
    flags += ["-DFASTVAE_ISA=gpu", "-DFASTVAE_DISPATCH_KEY=CPU", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    flags += ["-Wno-maybe-uninitialized", "-Werror", "-isystem", TORCH / "include"]
    sources = [*KERNELS.glob("host/*.cpp"), *KERNELS.glob("cuda/*.cu")]
    sources += [KERNELS / "cuda" / "cut.cpp", KERNELS / "cuda" / "compute.cpp", ROOT / "tests" / "cuda" / "device.cpp"]

    def compile_one(source):
        run(CXX, *flags, "-x", "c++", "-c", source, "-o", folder / f"{source.name}.o")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, sources))
    library = folder / "emulated.so"
    run(CXX, "-shared", *folder.glob("*.o"), "-o", library, f"-L{TORCH / 'lib'}", "-ltorch_cpu")
    return library


def test_kernels_pass_the_operators_tests_on_the_host(emulated):
    from fastvae.backends import native

    if native.why_not("cpu") is not None:
        pytest.skip(native.why_not("cpu"))
    folder = Path(__file__).parent
    files = [folder / f"test_{name}.py" for name in EMULATED]
    # Of the accuracy tests float32 alone: the other types differ in what is read, which the tests of layouts cover.
    chosen = "native and not threads and (layouts or noise or objective or one_pass or shared_gradients or dtype0)"
    paths = [str(folder / "cuda"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "FASTVAE_EMULATED": str(emulated), "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "pytest", "-p", "plugin", "-p", "no:cacheprovider", "-k", chosen, *files]
    assert " passed" in run(*command, env=environment)


def configure(folder, *defines, **environment):
    command = [CMAKE, "-S", ROOT, "-B", folder, f"-DPython_EXECUTABLE={sys.executable}", "-DFASTVAE_NATIVE=ON"]
    command += [f"-D{define}" for define in defines]
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The CUDA library built for one architecture with warnings as errors; what ptxas says of each kernel."""
    folder = tmp_path_factory.mktemp("cuda")
    one_architecture = ("CMAKE_CUDA_ARCHITECTURES=90-real", "CMAKE_CUDA_FLAGS=-Xptxas=-v")
    done = configure(folder, "FASTVAE_CUDA=ON", "FASTVAE_WERROR=ON", *one_architecture, CUDACXX=NVCC)
    assert done.returncode == 0, done.stderr
    text = run(CMAKE, "--build", folder, "--target", "_cuda", "--parallel", "2")
    driver_and_runtime, architectures, operators = run(sys.executable, "-c", TELL, folder / "_cuda.so").splitlines()
    assert re.fullmatch(r"\d+ 1\d\d\d0", driver_and_runtime)
    assert architectures == "90-real"
    assert set(operators.split()) == CONTRACTS.keys()
    return list(kernels(text))


# What the registry asks a library; no GPU is needed for it.
TELL = """
import ctypes, sys, torch

library = ctypes.CDLL(sys.argv[1])
for name in ("fastvae_cuda_versions", "fastvae_cuda_architectures", "fastvae_operators"):
    tell = getattr(library, name)
    tell.restype = ctypes.c_char_p
    print(tell().decode())
"""


@needs_nvcc
@needs_cmake
@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ("all-major", r"(\d+-real )+\d+"),
        ("OFF", ""),
    ],
)
def test_the_library_is_told_what_it_is_built_for(tmp_path, chosen, told):
    done = configure(
        tmp_path,
        *("FASTVAE_CUDA=ON", "CMAKE_EXPORT_COMPILE_COMMANDS=ON", f"CMAKE_CUDA_ARCHITECTURES={chosen}"),
        CUDACXX=NVCC,
    )
    assert done.returncode == 0, done.stderr
    entries = json.loads((tmp_path / "compile_commands.json").read_text())
    commands = {Path(entry["file"]).name: entry["command"] for entry in entries}
    defined = dict(word.partition("=")[::2] for word in shlex.split(commands["device.cpp"]))
    architectures = defined["-DFASTVAE_CUDA_ARCHITECTURES"].strip('"')
    assert re.fullmatch(told, architectures)
    assert all(cuda.parsed(architecture) for architecture in architectures.split())


def kernels(text):
    """(name, registers, bytes of stack, bytes spilled) of each kernel."""
    for part in text.split("Compiling entry function '")[1:]:
        name, body = part.split("'", 1)
        stack, stores, loads = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", body).groups()
        registers = re.search(r"Used (\d+) registers", body).group(1)
        yield name, int(registers), int(stack), int(stores) + int(loads)


def short(mangled):
    return re.sub(r"\d+", " ", mangled.replace("_ZN7fastvae3gpu", ""))[:70]


@needs_nvcc
@needs_cmake
def test_kernels_keep_their_values_in_registers(report):
    walks = [kernel for kernel in report if "walk" in kernel[0]]
    assert len(walks) > 200  # formulas, ways to read the scale, units
    for name, registers, stack, spilled in sorted(report, key=lambda kernel: -kernel[1]):
        print(f"{registers:4} registers {stack:4} stack {spilled:4} spilled  {short(name)}")
    assert [short(name) for name, _, stack, spilled in report if stack or spilled] == []
    crowded = [name for name, registers, _, _ in report if registers > MOST_REGISTERS]
    assert [short(name) for name in crowded if not all(part in name for part in TWO_BLOCKS)] == []


@needs_nvcc
def test_units_are_read_and_written_by_16_bytes(tmp_path):
    ptx = tmp_path / "objective.ptx"
    flags = ["-std=c++17", "-O3", "-arch=sm_90", "--fmad=false", "-DFASTVAE_ISA=gpu"]
    run(NVCC, *flags, "-ptx", KERNELS / "cuda" / "objective.cu", "-o", ptx)
    entries = ptx.read_text().split(".entry ")[1:]
    for unit in ("5Words", "6Halves", "10UsualWords", "11UsualHalves"):  # as they stand in a mangled name
        of_unit = [entry for entry in entries if unit in entry.split("(", 1)[0]]
        assert len(of_unit) == 2
        for entry in of_unit:
            assert re.search(r"ld\.global(\.nc)?\.v4\.(u|b)?32", entry)
        assert any(re.search(r"st\.global\.v4\.(u|b)?32", entry) for entry in of_unit)


@needs_cmake
@pytest.mark.skipif(CXX is None, reason="no C++ compiler was found")
def test_build_without_nvcc(tmp_path):
    hidden = {"CUDACXX": "", "PATH": os.pathsep.join(p for p in TOOLS.split(os.pathsep) if not _has_nvcc(p))}
    done = configure(tmp_path / "on", "FASTVAE_CUDA=ON", "CMAKE_CUDA_COMPILER=NOTFOUND", **hidden)
    assert done.returncode != 0
    assert "FASTVAE_CUDA=ON, but nvcc was not found" in done.stderr
    done = configure(tmp_path / "auto", "FASTVAE_CUDA=AUTO", "CMAKE_CUDA_COMPILER=NOTFOUND", **hidden)
    assert done.returncode == 0, done.stderr
    assert "nvcc was not found; GPUs are left to Triton" in done.stdout
    done = configure(tmp_path / "off", "FASTVAE_CUDA=OFF", **hidden)
    assert done.returncode == 0, done.stderr
    assert "the CUDA library is switched off" in done.stdout


ALL = "80-real;86-real;89-real;90-real;100-real;120"


# What nvidia-smi answers, what is asked for, what is built.
MACHINES = (
    ("printf '9.0\\n'", {}, "90-real"),
    ("printf '8.0\\n12.0\\n8.0\\n'", {}, "80-real;120-real"),
    ("printf '99.0\\n'", {}, ALL),  # newer than nvcc: what has PTX
    ("printf '[N/A]\\n'", {}, ALL),
    ("exit 9", {}, ALL),
    ("printf '9.0\\n'", {"CUDAARCHS": "80-real;86"}, "80-real;86"),
)


@needs_nvcc
@needs_cmake
def test_the_library_is_built_for_what_the_machine_has(tmp_path):
    smi = tmp_path / "nvidia-smi"
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    for answer, asked, wanted in MACHINES:  # in one directory: its cache must not decide
        smi.write_text(f"#!/bin/sh\n{answer}\n")
        smi.chmod(0o755)
        done = configure(tmp_path / "build", "FASTVAE_CUDA=ON", CUDACXX=NVCC, PATH=path, **asked)
        assert done.returncode == 0, done.stderr
        assert f"fastvae: CUDA architectures {wanted}\n" in done.stdout, answer


def _has_nvcc(folder):
    return shutil.which("nvcc", path=folder) is not None
