"""The noise stream that `fastvae.ops.noise` defines: four normals from each counter."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .elementary import log_normal, polynomial


@triton.jit
def _box_muller(radius_word, angle_word):
    """Two normals from two words, by polynomials alone: no architecture's own sine is needed, and none is exact."""
    u = tl.fma(radius_word.to(tl.float32), 2.3283064365386963e-10, 1.1641532182693481e-10)  # 2^-32, 2^-33: never 0
    radius = tl.sqrt(-2.0 * log_normal(u))
    # The top bits name the nearest quarter turn, the rest a signed fraction of it: exact, no reduction by pi.
    quarter = (angle_word + 0x20000000) >> 30
    f = (angle_word << 2).to(tl.int32, bitcast=True).to(tl.float32) * 2.3283064365386963e-10
    f2 = f * f
    s = f * polynomial(f2, (1.57079637, -0.64596349, 0.0796802267, -0.00460217707))
    c = polynomial(f2, (1.0, -1.23370051, 0.253669202, -0.0208600722, 0.000903631677))
    swap = (quarter & 1) != 0
    cosine = tl.where(swap, s, c) * tl.where(((quarter + 1) & 2) != 0, -radius, radius)
    sine = tl.where(swap, c, s) * tl.where((quarter & 2) != 0, -radius, radius)
    return cosine, sine


@triton.jit
def _words(seed, block):
    low = block.to(tl.uint32)
    zero = low * 0
    high = (block >> 32).to(tl.uint32) if block.dtype == tl.int64 else zero
    return tl.philox(seed, low, high, zero, zero)


@triton.jit
def normals_of_blocks(seed, block):
    """[rows, n] numbers of blocks to [rows, 4 n] normals."""
    w0, w1, w2, w3 = _words(seed, block)
    n0, n1 = _box_muller(w0, w1)
    n2, n3 = _box_muller(w2, w3)
    return tl.interleave(tl.interleave(n0, n2), tl.interleave(n1, n3))


@triton.jit
def normals_of_elements(seed, index):
    """Normals of elements in any order: each makes its block anew and takes one of its four."""
    w0, w1, w2, w3 = _words(seed, index >> 2)
    second = (index & 2) != 0
    cosine, sine = _box_muller(tl.where(second, w2, w0), tl.where(second, w3, w1))
    return tl.where((index & 1) != 0, sine, cosine)


@triton.jit
def _philox_kernel(counter, key, words, count, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    c0 = tl.load(counter + 4 * i, inside).to(tl.uint32)
    c1 = tl.load(counter + 4 * i + 1, inside).to(tl.uint32)
    c2 = tl.load(counter + 4 * i + 2, inside).to(tl.uint32)
    c3 = tl.load(counter + 4 * i + 3, inside).to(tl.uint32)
    seed = (tl.load(key + 1).to(tl.uint64) << 32) | (tl.load(key).to(tl.uint64) & 0xFFFFFFFF)
    w0, w1, w2, w3 = tl.philox(seed, c0, c1, c2, c3)
    tl.store(words + 4 * i, w0.to(tl.int64), inside)
    tl.store(words + 4 * i + 1, w1.to(tl.int64), inside)
    tl.store(words + 4 * i + 2, w2.to(tl.int64), inside)
    tl.store(words + 4 * i + 3, w3.to(tl.int64), inside)


def philox(counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    counter, key = counter.contiguous(), key.contiguous()
    words, count = torch.empty_like(counter), counter.numel() // 4
    if count:
        _philox_kernel[(triton.cdiv(count, 128),)](counter, key, words, count, BLOCK=128)
    return words
