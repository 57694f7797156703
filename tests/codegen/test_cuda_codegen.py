"""What nvcc makes of the CUDA kernels for sm_90, read from machine code. `make codegen` prints it, for all GPUs.

The static count of a main loop with branches is a bound from above. Spills: `tests/test_cuda.py`.
"""

from __future__ import annotations

import functools

import cuda_kernels
import pytest
import sass

ARCHITECTURE = "sm_90"

# Instructions an element of the main loop, and 5 % for another nvcc. An H200 copies 4.3e12 bytes a second and
# issues 25e12 instructions for an element each, so 8 bytes leave room for 46, 12 for 70.
MOST_INSTRUCTIONS = {
    "rsample fp32": 58,
    "rsample bf16": 61,
    "rsample fp32, any constants": 63,
    "rsample bf16, any constants": 65,
    "rsample_backward fp32": 63,
    "rsample_backward bf16": 64,
    "rsample_backward fp32, any constants": 70,
    "rsample_backward bf16, any constants": 72,
    "rsample_kl fp32": 72,
    "rsample_kl bf16": 75,
    "rsample_kl fp32, any constants": 77,
    "rsample_kl bf16, any constants": 80,
    "rsample_kl_backward fp32": 82,
    "rsample_kl_backward bf16": 87,
    "rsample_kl_backward fp32, any constants": 104,
    "rsample_kl_backward bf16, any constants": 106,
    "kl_standard_normal fp32": 31,
    "kl_standard_normal bf16": 33,
    "kl_standard_normal fp32, any constants": 36,
    "kl_standard_normal bf16, any constants": 38,
    "kl_standard_normal_backward fp32": 37,
    "kl_standard_normal_backward bf16": 41,
    "kl_standard_normal_backward fp32, any constants": 61,
    "kl_standard_normal_backward bf16, any constants": 65,
    "bernoulli_log_prob fp32": 38,
    "bernoulli_log_prob bf16": 40,
    "bernoulli_log_prob fp32, any constants": 39,
    "bernoulli_log_prob bf16, any constants": 41,
    "bernoulli_log_prob_backward fp32": 36,
    "bernoulli_log_prob_backward bf16": 40,
    "bernoulli_log_prob_backward fp32, any constants": 37,
    "bernoulli_log_prob_backward bf16, any constants": 41,
    "bernoulli_log_prob_one_pass fp32": 56,
    "bernoulli_log_prob_one_pass bf16": 59,
    "bernoulli_log_prob_one_pass fp32, any constants": 57,
    "bernoulli_log_prob_one_pass bf16, any constants": 61,
    "gaussian_log_prob fp32": 36,
    "gaussian_log_prob bf16": 40,
    "gaussian_log_prob fp32, any constants": 40,
    "gaussian_log_prob bf16, any constants": 44,
    "gaussian_log_prob_backward fp32": 42,
    "gaussian_log_prob_backward bf16": 48,
    "gaussian_log_prob_backward fp32, any constants": 50,
    "gaussian_log_prob_backward bf16, any constants": 55,
    "gaussian_log_prob_one_pass fp32": 56,
    "gaussian_log_prob_one_pass bf16": 61,
    "gaussian_log_prob_one_pass fp32, any constants": 63,
    "gaussian_log_prob_one_pass bf16, any constants": 67,
    "laplace_log_prob fp32": 50,
    "laplace_log_prob bf16": 54,
    "laplace_log_prob fp32, any constants": 68,
    "laplace_log_prob bf16, any constants": 71,
    "laplace_log_prob_backward fp32": 32,
    "laplace_log_prob_backward bf16": 38,
    "laplace_log_prob_backward fp32, any constants": 52,
    "laplace_log_prob_backward bf16, any constants": 57,
    "laplace_log_prob_one_pass fp32": 76,
    "laplace_log_prob_one_pass bf16": 81,
    "laplace_log_prob_one_pass fp32, any constants": 96,
    "laplace_log_prob_one_pass bf16, any constants": 99,
    "continuous_bernoulli_log_prob fp32": 63,
    "continuous_bernoulli_log_prob bf16": 65,
    "continuous_bernoulli_log_prob fp32, any constants": 64,
    "continuous_bernoulli_log_prob bf16, any constants": 66,
    "continuous_bernoulli_log_prob_backward fp32": 42,
    "continuous_bernoulli_log_prob_backward bf16": 46,
    "continuous_bernoulli_log_prob_backward fp32, any constants": 43,
    "continuous_bernoulli_log_prob_backward bf16, any constants": 47,
    "continuous_bernoulli_log_prob_one_pass fp32": 82,
    "continuous_bernoulli_log_prob_one_pass bf16": 85,
    "continuous_bernoulli_log_prob_one_pass fp32, any constants": 84,
    "continuous_bernoulli_log_prob_one_pass bf16, any constants": 88,
    "discretized_logistic_log_prob fp32": 152,
    "discretized_logistic_log_prob bf16": 156,
    "discretized_logistic_log_prob fp32, any constants": 153,
    "discretized_logistic_log_prob bf16, any constants": 158,
    "discretized_logistic_log_prob_backward fp32": 167,
    "discretized_logistic_log_prob_backward bf16": 173,
    "discretized_logistic_log_prob_backward fp32, any constants": 169,
    "discretized_logistic_log_prob_backward bf16, any constants": 175,
    "discretized_logistic_log_prob_one_pass fp32": 271,
    "discretized_logistic_log_prob_one_pass bf16": 276,
    "discretized_logistic_log_prob_one_pass fp32, any constants": 259,
    "discretized_logistic_log_prob_one_pass bf16, any constants": 263,
    "poisson_log_prob fp32": 116,
    "poisson_log_prob bf16": 117,
    "poisson_log_prob fp32, any constants": 117,
    "poisson_log_prob bf16, any constants": 120,
    "poisson_log_prob_backward fp32": 79,
    "poisson_log_prob_backward bf16": 83,
    "poisson_log_prob_backward fp32, any constants": 119,
    "poisson_log_prob_backward bf16, any constants": 123,
    "poisson_log_prob_one_pass fp32": 141,
    "poisson_log_prob_one_pass bf16": 142,
    "poisson_log_prob_one_pass fp32, any constants": 172,
    "poisson_log_prob_one_pass bf16, any constants": 176,
    "negative_binomial_log_prob fp32": 197,
    "negative_binomial_log_prob bf16": 201,
    "negative_binomial_log_prob fp32, any constants": 238,
    "negative_binomial_log_prob bf16, any constants": 242,
    "negative_binomial_log_prob_backward fp32": 199,
    "negative_binomial_log_prob_backward bf16": 204,
    "negative_binomial_log_prob_backward fp32, any constants": 241,
    "negative_binomial_log_prob_backward bf16, any constants": 246,
    "negative_binomial_log_prob_one_pass fp32": 320,
    "negative_binomial_log_prob_one_pass bf16": 326,
    "negative_binomial_log_prob_one_pass fp32, any constants": 363,
    "negative_binomial_log_prob_one_pass bf16, any constants": 368,
    "zero_inflated_negative_binomial_log_prob fp32": 296,
    "zero_inflated_negative_binomial_log_prob bf16": 301,
    "zero_inflated_negative_binomial_log_prob fp32, any constants": 334,
    "zero_inflated_negative_binomial_log_prob bf16, any constants": 339,
    "zero_inflated_negative_binomial_log_prob_backward fp32": 195,
    "zero_inflated_negative_binomial_log_prob_backward bf16": 201,
    "zero_inflated_negative_binomial_log_prob_backward fp32, any constants": 235,
    "zero_inflated_negative_binomial_log_prob_backward bf16, any constants": 240,
    "zero_inflated_negative_binomial_log_prob_one_pass fp32": 413,
    "zero_inflated_negative_binomial_log_prob_one_pass bf16": 418,
    "zero_inflated_negative_binomial_log_prob_one_pass fp32, any constants": 536,
    "zero_inflated_negative_binomial_log_prob_one_pass bf16, any constants": 541,
}

needs_nvcc = pytest.mark.skipif(cuda_kernels.NVCC is None, reason="nvcc was not found: CUDA kernels were not compiled")


@functools.cache
def kernels():
    return cuda_kernels.kernels(ARCHITECTURE)


@functools.cache
def representative():
    return {kernel["kernel"]: kernel for kernel in cuda_kernels.representative(kernels())}


@needs_nvcc
def test_every_representative_kernel_has_a_bound():
    assert representative().keys() == MOST_INSTRUCTIONS.keys()


@needs_nvcc
@pytest.mark.parametrize("name", MOST_INSTRUCTIONS)
def test_instructions_are_few(name):
    kernel = representative()[name]
    assert kernel["loop"]
    assert kernel["wide"] > 0
    assert kernel["instructions"] <= MOST_INSTRUCTIONS[name] * kernel["elements"]


@needs_nvcc
def test_main_loops_have_no_slow_path():
    assert {name: kernel["calls"] for name, kernel in representative().items() if kernel["calls"]} == {}


CODE = """
        Function : twice
        /*0000*/                   LDC R1, c[0x0][0x28] ;               /* 0x00 */
                                                                        /* 0x00 */
        /*0010*/                   LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/              @!P1 BRA 0x40 ;
        /*0030*/                   LDG.E.U16 R5, desc[UR4][R2.64] ;
        /*0040*/                   FADD R4, R4, R5 ;
        /*0050*/               @P0 BRA 0x40 ;
        /*0060*/                   NOP ;
        /*0070*/                   LDG.E R8, desc[UR4][R2.64+0x10] ;
        /*0080*/                   CALL.REL.NOINC 0xa0 ;
        /*0090*/               @P2 BRA 0x10 ;
        /*00a0*/                   EXIT ;
        /*00b0*/                   BRA 0xb0;
"""


def test_the_main_loop_is_found():
    kernel = sass.Kernel("twice", 9, 0, lambda: CODE)
    assert [i.address for i in kernel.instructions] == [0, 0x10, 0x20, 0x30, 0x40, 0x50, 0x70, 0x80, 0x90, 0xA0]
    loop = sass.main_loop(kernel.instructions)
    assert (loop[0].address, loop[-1].address) == (0x10, 0x90)  # the inner one reads nothing
    found = sass.facts(kernel, reads=2, writes=0, elements=None)
    assert (found["instructions"], found["loaded"], found["elements"]) == (8, 22, 11)
    assert sass.facts(kernel, reads=2, writes=4, elements=None)["instructions"] == 10  # no loop writes: the whole
    assert (found["branches"], found["calls"], found["wide"], found["accesses"]) == (2, 1, 1, 3)


def test_of_two_loops_the_innermost_that_reads_enough():
    inner = [sass.Instruction(0x20, "", "LDG.E", "R1"), sass.Instruction(0x30, "@P0", "BRA", "0x20")]
    outer = [sass.Instruction(0x10, "", "LDG.E.64", "R2"), *inner, sass.Instruction(0x40, "@P1", "BRA", "0x10")]
    assert sass.main_loop(outer) == inner
    assert sass.main_loop(outer, reads=8) == outer
    assert sass.main_loop(outer, reads=16) is None
    assert sass.main_loop(outer, writes=4) is None
    assert sass.main_loop(inner[:1]) is None


def test_a_share_is_bound_by_memory_or_by_issues():
    import predict

    from benchmarks.gpus import GPUS

    h200 = GPUS["NVIDIA H200"]
    assert predict.copy_share(h200, 12, 30) == 1
    assert predict.copy_share(h200, 12, 2 * 69.7) == pytest.approx(0.5, rel=0.01)
    assert set(predict.shares("sm_90", 12, 30)) == {"NVIDIA H100 80GB HBM3", "NVIDIA H200"}
