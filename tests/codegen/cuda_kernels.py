"""The CUDA kernels compiled to machine code for GPUs that need not be here, and which of them stand for the rest."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import sass

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "kernels"
CACHE = ROOT / "build" / "codegen"
NVCC = shutil.which(os.environ.get("CUDACXX", "nvcc")) or shutil.which("nvcc", path=sass.CUDA)
FLAGS = ("-std=c++17", "-O3", "--fmad=false", "-DFASTVAE_ISA=gpu")  # what CMakeLists.txt gives device code
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


@dataclass(frozen=True)
class Operator:
    """`pattern` stands for a formula in a kernel's name; how many tensors of full size it reads and writes."""

    label: str
    pattern: str
    reads: int
    writes: int


@dataclass(frozen=True)
class Lot:
    """`pattern` stands for the unit that a thread takes; `elements` in an iteration of the main loop."""

    label: str
    pattern: str
    itemsize: int
    elements: int


# Names are as c++filt prints them, without namespaces and without the blank in "> >".
OPERATORS = (
    Operator("rsample", r"Value<Rsample<float, LogVar>>", 2, 1),
    Operator("rsample_backward", r"Gradient<Rsample<float, LogVar>>", 2, 2),
    Operator("rsample_kl", r"Value<RsampleKl<float, LogVar>>", 2, 1),
    Operator("rsample_kl_backward", r"Gradient<RsampleKl<float, LogVar>>", 3, 2),
    Operator("kl_standard_normal", r"Value<KlStandardNormal<float, LogVar>>", 2, 0),
    Operator("kl_standard_normal_backward", r"Gradient<KlStandardNormal<float, LogVar>>", 2, 2),
    Operator("bernoulli_log_prob", r"Value<BernoulliLogProb<float>>", 2, 0),
    Operator("bernoulli_log_prob_backward", r"LikelihoodGradient<BernoulliLogProb<float>>", 2, 1),
    Operator("bernoulli_log_prob_one_pass", r"OnePass<BernoulliLogProb<float>>", 2, 1),
    Operator("gaussian_log_prob", r"Value<GaussianLogProb<float, LogVar>>", 3, 0),
    Operator("gaussian_log_prob_backward", r"LikelihoodGradient<GaussianLogProb<float, LogVar>>", 3, 2),
    Operator("gaussian_log_prob_one_pass", r"OnePass<GaussianLogProb<float, LogVar>>", 3, 2),
    Operator("laplace_log_prob", r"Value<LaplaceLogProb<float>>", 3, 0),
    Operator("laplace_log_prob_backward", r"LikelihoodGradient<LaplaceLogProb<float>>", 3, 2),
    Operator("laplace_log_prob_one_pass", r"OnePass<LaplaceLogProb<float>>", 3, 2),
    Operator("continuous_bernoulli_log_prob", r"Value<ContinuousBernoulliLogProb<float>>", 2, 0),
    Operator("continuous_bernoulli_log_prob_backward", r"LikelihoodGradient<ContinuousBernoulliLogProb<float>>", 2, 1),
    Operator("continuous_bernoulli_log_prob_one_pass", r"OnePass<ContinuousBernoulliLogProb<float>>", 2, 1),
    Operator("discretized_logistic_log_prob", r"Value<DiscretizedLogisticLogProb<float>>", 3, 0),
    Operator("discretized_logistic_log_prob_backward", r"LikelihoodGradient<DiscretizedLogisticLogProb<float>>", 3, 2),
    Operator("discretized_logistic_log_prob_one_pass", r"OnePass<DiscretizedLogisticLogProb<float>>", 3, 2),
    Operator("poisson_log_prob", r"Value<PoissonLogProb<float>>", 2, 0),
    Operator("poisson_log_prob_backward", r"LikelihoodGradient<PoissonLogProb<float>>", 2, 1),
    Operator("poisson_log_prob_one_pass", r"OnePass<PoissonLogProb<float>>", 2, 1),
    Operator("negative_binomial_log_prob", r"Value<NegativeBinomialLogProb<float>>", 3, 0),
    Operator("negative_binomial_log_prob_backward", r"LikelihoodGradient<NegativeBinomialLogProb<float>>", 3, 2),
    Operator("negative_binomial_log_prob_one_pass", r"OnePass<NegativeBinomialLogProb<float>>", 3, 2),
    Operator("zero_inflated_negative_binomial_log_prob", r"Value<ZeroInflatedNegativeBinomialLogProb<float>>", 4, 0),
    Operator(
        "zero_inflated_negative_binomial_log_prob_backward",
        r"LikelihoodGradient<ZeroInflatedNegativeBinomialLogProb<float>>",
        4,
        3,
    ),
    Operator(
        "zero_inflated_negative_binomial_log_prob_one_pass",
        r"OnePass<ZeroInflatedNegativeBinomialLogProb<float>>",
        4,
        3,
    ),
)
LOTS = (
    Lot("fp32", r"UsualWords", 4, 8),
    Lot("bf16", r"UsualHalves", 2, 8),
    Lot("fp32, any constants", r"Words", 4, 8),
    Lot("bf16, any constants", r"Halves", 2, 8),
)


def compiled(architecture: str) -> list[Path]:
    """Cubins of all kernels, compiled where the sources have changed."""
    assert NVCC is not None
    folder = CACHE / _version() / architecture
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        sources = sorted(SOURCES.glob("cuda/*.cu"), key=lambda path: path.name, reverse=True)  # the longest first
        with ThreadPoolExecutor(min(len(sources), os.cpu_count() or 1)) as pool:
            return list(pool.map(lambda source: _cubin(source, architecture, folder), sources))


def _cubin(source: Path, architecture: str, folder: Path) -> Path:
    cubin = folder / f"{source.stem}.cubin"
    if not cubin.exists():
        partial = cubin.with_suffix(".part")
        command = [NVCC, *FLAGS, f"-arch={architecture}", "-cubin", source, "-o", partial]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        partial.rename(cubin)
    return cubin


def _version() -> str:
    """Of everything that decides about the machine code."""
    compiler = subprocess.run([str(NVCC), "--version"], capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256(repr((compiler, FLAGS)).encode())
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file() and path.parent.name != "cpu"):
        digest.update(f"{path.relative_to(SOURCES)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def kernels(architecture: str) -> dict[str, sass.Kernel]:
    """All kernels, by readable name."""
    found = [kernel for cubin in compiled(architecture) for kernel in sass.kernels(cubin)]
    return dict(zip(_readable([kernel.name for kernel in found]), found, strict=True))


def _readable(names: list[str]) -> list[str]:
    command = [shutil.which("c++filt") or "cu++filt"]
    done = subprocess.run(command, input="\n".join(names), capture_output=True, text=True, check=True)
    return [re.sub(r"fastvae::(gpu::)?|(?<=>) (?=>)", "", name) for name in done.stdout.splitlines()]


def representative(found: dict[str, sass.Kernel]) -> Iterator[dict]:
    """What the table says of the kernels that stand for the rest; of a lot that is not there, nothing."""
    for operator in OPERATORS:
        for lot in LOTS:
            pattern = re.compile(rf"\bwalk<{operator.pattern}, {lot.pattern}>\(")
            for name, kernel in found.items():
                if pattern.search(name):
                    yield {"kernel": f"{operator.label} {lot.label}", **facts(kernel, operator, lot)}


def facts(kernel: sass.Kernel, operator: Operator, lot: Lot) -> dict:
    reads, writes = operator.reads * lot.itemsize, operator.writes * lot.itemsize
    return sass.facts(kernel, reads, writes, lot.elements)
