"""The noise stream that `fastvae.ops.noise` defines: four normals from each counter."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language import target_info

from ...ops.noise import NORMALS, PHILOX
from .elementary import COMPILED, polynomial
from .polynomials import COSINE, SINE, SQUARED_RADIUS
from .registry import implements, on_device


@triton.jit
def _log2(x):
    """The hardware's logarithm, of normal x: absolute error 2^-22."""
    if COMPILED and target_info.is_cuda():
        return tl.inline_asm_elementwise("lg2.approx.ftz.f32 $0, $1;", "=r,r", [x], tl.float32, is_pure=True, pack=1)
    else:
        return tl.log2(x)


@triton.jit
def _radius(word):
    """sqrt(-2 log u) of u = word / 2^32 + 2^-33, which is never 0."""
    u = tl.fma(word.to(tl.float32), 2.3283064365386963e-10, 1.1641532182693481e-10)
    # Near 1, where the hardware's logarithm has an absolute error, by a polynomial in 1 - u, which is exact.
    v = 1.0 - u
    square = tl.where(v < 0.03125, v * polynomial(v, SQUARED_RADIUS), -1.3862943611 * _log2(u))
    return tl.sqrt(square)


@triton.jit
def _flip(x, word):
    """x with its sign changed where the word's top bit is set."""
    return (x.to(tl.uint32, bitcast=True) ^ (word & 0x80000000)).to(tl.float32, bitcast=True)


@triton.jit
def _box_muller(radius_word, angle_word):
    """Two normals from two words, by polynomials: as exact on every architecture."""
    radius = _radius(radius_word)
    # The top bits name the nearest quarter turn, the rest a signed fraction of it: exact, no reduction by pi.
    quarter = angle_word + 0x20000000
    f = (angle_word << 2).to(tl.int32, bitcast=True).to(tl.float32) * 2.3283064365386963e-10
    f2 = f * f
    s = f * polynomial(f2, SINE)
    c = polynomial(f2, COSINE)
    swap = (quarter & 0x40000000) != 0
    cosine = _flip(tl.where(swap, s, c) * radius, quarter + 0x40000000)
    return cosine, _flip(tl.where(swap, c, s) * radius, quarter)


@triton.jit
def _multiply(word, CONSTANT: tl.constexpr):
    """High and low word of the product: one instruction, where two multiplications would be two."""
    product = word.to(tl.uint64) * CONSTANT
    return (product >> 32).to(tl.uint32), product.to(tl.uint32)


@triton.jit
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10 (Salmon et al. 2011, section 5.2) of uint32 words."""
    for _ in tl.static_range(10):
        hi0, lo0 = _multiply(c0, 0xD2511F53)
        hi2, lo2 = _multiply(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = hi2 ^ c1 ^ k0, lo2, hi0 ^ c3 ^ k1, lo0
        k0 = k0 + 0x9E3779B9
        k1 = k1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def _words(seed, block):
    low = block.to(tl.uint32)
    zero = low * 0
    high = (block >> 32).to(tl.uint32) if block.dtype == tl.int64 else zero
    return philox4x32(low, high, zero, zero, seed.to(tl.uint32), (seed >> 32).to(tl.uint32))


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
    k0, k1 = tl.load(key).to(tl.uint32), tl.load(key + 1).to(tl.uint32)
    w0, w1, w2, w3 = philox4x32(c0, c1, c2, c3, k0, k1)
    tl.store(words + 4 * i, w0.to(tl.int64), inside)
    tl.store(words + 4 * i + 1, w1.to(tl.int64), inside)
    tl.store(words + 4 * i + 2, w2.to(tl.int64), inside)
    tl.store(words + 4 * i + 3, w3.to(tl.int64), inside)


@implements(PHILOX)
def philox(counter: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    counter, key = counter.contiguous(), key.contiguous()
    words, count = torch.empty_like(counter), counter.numel() // 4
    if count:
        with on_device(counter.device):
            _philox_kernel[(triton.cdiv(count, 128),)](counter, key, words, count, BLOCK=128)
    return words


@triton.jit
def _normals_kernel(seed, out, count, BLOCK: tl.constexpr):
    block = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    i = tl.program_id(0).to(tl.int64) * 4 * BLOCK + tl.arange(0, 4 * BLOCK)
    normals = normals_of_blocks(tl.load(seed), tl.reshape(block, (1, BLOCK)))
    tl.store(out + i, tl.reshape(normals, (4 * BLOCK,)), i < count)


@implements(NORMALS)
def normals(seed: torch.Tensor, count: int) -> torch.Tensor:
    out = seed.new_empty(count, dtype=torch.float32)
    if count:
        with on_device(seed.device):
            _normals_kernel[(triton.cdiv(count, 1024),)](seed, out, count, BLOCK=256)
    return out
