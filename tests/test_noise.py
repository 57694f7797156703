"""The noise stream: Philox4x32-10's words, the normals made of them, and what they do not depend on."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from scipy import stats

import fastvae
from fastvae import backends
from fastvae.ops.noise import NORMALS, philox

pytestmark = pytest.mark.usefixtures("backend")

# Random123's kat_vectors for philox4x32-10: counter, key, result.
KNOWN_ANSWERS = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)
COUNT = 1_000_000


def words(text: str) -> torch.Tensor:
    return torch.tensor([int(word, 16) for word in text.split()])


def noise(shape, seed, dtype=torch.float32, **keywords):
    """The noise itself: mean 0, standard deviation 1."""
    zeros = torch.zeros(shape, dtype=dtype)
    return fastvae.rsample(zeros, zeros, seed=seed, **keywords)


def normals(backend: str, seed: int = 2024) -> torch.Tensor:
    return _normals(backend, torch.get_default_device(), seed)


@functools.cache
def _normals(backend: str, device: torch.device, seed: int) -> torch.Tensor:
    with backends.use(backend):
        return noise((COUNT,), seed).double()


def exact_normals(seed: int, count: int) -> torch.Tensor:
    """The definition in fastvae.ops.noise, in Python integers and floats."""
    key = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
    result = []
    for block in range((count + 3) // 4):
        w = philox4x32((block & 0xFFFFFFFF, block >> 32, 0, 0), key)
        for radius_word, angle_word in (w[:2], w[2:]):
            uniform = torch.tensor(float(radius_word)).mul(2.0**-32).add(2.0**-33).item()
            radius = math.sqrt(-2 * math.log(uniform))
            angle = 2 * math.pi * angle_word / 2**32
            result += [radius * math.cos(angle), radius * math.sin(angle)]
    return torch.tensor(result[:count], dtype=torch.float64)


def philox4x32(counter, key):
    """Salmon et al. 2011, section 5.2, with Python's integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


# --- words ---


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_words_equal_the_published_vectors(counter, key, result):
    assert torch.equal(philox(words(counter), words(key)), words(result))
    assert philox4x32(words(counter).tolist(), words(key).tolist()) == words(result).tolist()


def test_words_of_many_counters():
    counters = torch.randint(0, 2**32, (1000, 4))
    key = torch.randint(0, 2**32, (2,))
    expected = [philox4x32(c, key.tolist()) for c in counters.tolist()]
    assert philox(counters, key).tolist() == expected


# --- normals ---


@pytest.mark.parametrize("seed", [0, 1, -1, 2**32, 2**63 - 1, -(2**63), 0x0123456789ABCDEF])
def test_normals_are_what_the_definition_says(seed):
    z = noise((4003,), seed).double()
    # Half an ulp of float32 at 4..8 is 2.4e-7.
    assert (z - exact_normals(seed, 4003)).abs().max() <= 1e-6


@pytest.mark.parametrize("count", [0, 1, 5, 1023, 1025, pytest.param(100_001, marks=pytest.mark.not_interpreted)])
def test_the_stream_as_a_tensor_is_what_an_operator_draws(count):
    seed = torch.tensor(-(2**40))
    found = NORMALS.call(seed, count)
    assert found.dtype == torch.float32
    assert torch.equal(found, noise((count,), seed))


def test_blocks_beyond_32_bits_are_numbered_in_64(backend):
    # Element 2^34 starts block 2^32; too many to draw, so the words are checked.
    low, high = (torch.tensor([0, b, 0, 0]) for b in (0, 1))
    assert not torch.equal(philox(low, words("1 2")), philox(high, words("1 2")))


@pytest.mark.not_interpreted
def test_normals_of_a_kolmogorov_smirnov_sample(backend):
    # p < 1e-3 in one run of a thousand, were the seed not fixed.
    assert stats.kstest(normals(backend).cpu().numpy(), "norm").pvalue > 1e-3
    for lane in range(4):
        assert stats.kstest(normals(backend)[lane::4].cpu().numpy(), "norm").pvalue > 1e-3


@pytest.mark.not_interpreted
def test_moments_lie_within_five_standard_errors(backend):
    z = normals(backend)
    # Standard errors of the first four moments of a standard normal: 1, sqrt(2), sqrt(6), sqrt(24) over sqrt(n).
    mean, centred = z.mean(), z - z.mean()
    var = centred.square().mean()
    observed = (mean, var - 1, (centred**3).mean() / var**1.5, (centred**4).mean() / var**2 - 3)
    for value, variance in zip(observed, (1, 2, 6, 24), strict=True):
        assert abs(value) < 5 * math.sqrt(variance / COUNT)


@pytest.mark.not_interpreted
def test_tails_are_present_and_finite(backend):
    z = torch.cat([normals(backend, seed) for seed in range(8)])
    assert z.isfinite().all()
    beyond = z.abs() > 5
    expected = 8 * COUNT * math.erfc(5 / math.sqrt(2))
    assert expected / 3 < beyond.sum() < expected * 3
    # The radius is at most sqrt(-2 log 2^-33).
    assert z.abs().max() <= math.sqrt(66 * math.log(2)) + 1e-6


@pytest.mark.parametrize(
    "pair",
    ["neighbours", "lanes 0 1", "lanes 0 2", "lanes 0 3", "lanes 1 2", "lanes 1 3", "lanes 2 3", "samples", "seeds"],
)
def test_nothing_is_correlated(pair, backend):
    z = normals(backend)
    if pair == "neighbours":
        first, second = z[:-1], z[1:]
    elif pair == "samples":
        first, second = noise((COUNT,), 5, num_samples=2).double()
    elif pair == "seeds":
        first, second = z, normals(backend, 2025)
    else:
        first, second = (z[int(lane) :: 4] for lane in pair.split()[1:])
    for f, g in ((first, second), (first.square(), second.square()), (first, second.square())):
        correlation = torch.corrcoef(torch.stack((f, g)))[0, 1]
        assert abs(correlation) < 5 / math.sqrt(len(f))


@pytest.mark.not_interpreted
def test_seeds_differ_in_every_bit():
    streams = {tuple(noise((8,), 1 << bit if bit < 63 else -(2**63)).tolist()) for bit in range(64)}
    assert len(streams | {tuple(noise((8,), 0).tolist())}) == 65


# --- what the noise does not depend on ---


def test_backends_agree(backend):
    count = 10_000 if backend == "triton" else COUNT
    with backends.use("reference"):
        wanted = noise((count,), 2024).double()
    with backends.use(backend):
        assert (noise((count,), 2024).double() - wanted).abs().max() <= 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_agree(dtype):
    assert torch.equal(noise((123, 45), 7, dtype), noise((123, 45), 7).to(dtype))


@pytest.mark.parametrize("shape", [(1,), (3,), (4,), (5,), (2, 3), (7, 9), (2, 3, 5, 7), (1, 1000)])
def test_elements_are_numbered_in_row_major_order(shape):
    count = math.prod(shape)
    assert torch.equal(noise(shape, 3).flatten(), noise((4096,), 3)[:count])
    assert torch.equal(noise(shape, 3, num_samples=2).flatten(), noise((4096,), 3)[: 2 * count])


def test_layout_does_not_matter():
    contiguous = torch.randn(6, 8, 5, 7), torch.randn(6, 8, 5, 7)
    wanted = fastvae.rsample(*contiguous, seed=9)
    packed = torch.cat(contiguous, 1).chunk(2, 1)
    variants = {
        "packed": packed,
        "channels last": [t.contiguous(memory_format=torch.channels_last) for t in contiguous],
        "one channels last": [contiguous[0].contiguous(memory_format=torch.channels_last), contiguous[1]],
        "packed channels last": torch.cat(contiguous, 1).contiguous(memory_format=torch.channels_last).chunk(2, 1),
        "transposed": [t.transpose(0, 3).contiguous().transpose(0, 3) for t in contiguous],
        "every other": [torch.stack((t, t), -1)[..., 0] for t in contiguous],
        "reversed strides": [t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0) for t in contiguous],
    }
    for name, operands in variants.items():
        assert torch.equal(fastvae.rsample(*operands, seed=9), wanted), name
        assert torch.equal(fastvae.rsample_kl(*operands, seed=9)[0], wanted), name


@pytest.mark.not_interpreted
@pytest.mark.parametrize("shape", [(1000, 64), (2, 400_001), (3, 5)])
def test_threads_do_not_matter(shape):
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(noise(shape, 1))
    assert torch.equal(*results)


def test_broadcast_parameters_get_noise_of_their_own():
    z = fastvae.rsample(torch.zeros(50, 1), torch.zeros(20), seed=4)
    assert torch.equal(z, noise((50, 20), 4))


@pytest.mark.parametrize("shape", [(7, 9), (5, 8)])
def test_backward_redraws_the_noise_of_every_sample(shape):
    """Blocks of four elements go across the border of two samples where their size is odd."""
    mean, log_var = torch.zeros(shape), torch.randn(shape).requires_grad_()
    z = fastvae.rsample(mean, log_var, seed=6, num_samples=3)
    cotangent = torch.randn(z.shape)
    (grad,) = torch.autograd.grad(z, log_var, cotangent)
    # d z / d log_var = z / 2 where the mean is 0.
    torch.testing.assert_close(grad, (cotangent * z.detach() / 2).sum(0), rtol=1e-5, atol=1e-5)
