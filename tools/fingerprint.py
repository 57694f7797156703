"""One hash over the operators' results, values and gradients: run it before and after a change that must change none.

    python tools/fingerprint.py native          # or reference, or triton (in its interpreter, on few of the shapes)
    python tools/fingerprint.py native --each   # a hash for each function, to see which one changed

What a clamp changes has a hash of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Callable, Iterator
from itertools import product

import torch

SHAPES = (
    (1, 1),
    (3, 7),
    (128, 20),
    (16, 784),
    (5, 33),
    (2, 4097),
    (1, 70001),
    (3, 4, 5, 7),
    (7,),
    (2, 0),
    (4, 3, 32, 32),
)
FEW_SHAPES = ((1, 1), (3, 7), (8, 20), (3, 4, 5, 7), (2, 300))
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
SCALE_AS = ("log_var", "log_std", "var", "std", "softplus")


def layouts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The same values in other memory."""
    yield tensor
    yield torch.cat((tensor, tensor), -1)[..., : tensor.shape[-1]]
    yield tensor.repeat_interleave(2, -1)[..., ::2]
    if tensor.dim() == 4:
        yield tensor.contiguous(memory_format=torch.channels_last)
    yield torch.cat((tensor.flatten()[:1], tensor.flatten()))[1:].view(tensor.shape)


def calls(fastvae) -> dict[str, Callable]:
    """By name: functions of (x, a, b, c), whose results and gradients count."""

    def scale(s, how):
        return s if how in ("log_var", "log_std", "softplus") else s.abs() + 0.1

    found: dict[str, Callable] = {}
    for how, clamp in product(SCALE_AS, (None, (-1.0, 0.5))):
        k = {"scale_as": how, "clamp": clamp, "scale_eps": 1e-4 if how == "softplus" else 0.0}
        tag = f" {how}" + (" clamped" if clamp else "")
        found |= {
            f"rsample{tag}": lambda x, a, b, c, k=k, how=how: fastvae.rsample(a, scale(b, how), seed=5, **k),
            f"rsample K{tag}": lambda x, a, b, c, k=k, how=how: fastvae.rsample(
                a, scale(b, how), seed=6, num_samples=3, **k
            ),
            f"rsample eps{tag}": lambda x, a, b, c, k=k, how=how: fastvae.rsample(
                a, scale(b, how), eps=x.to(a.dtype), **k
            ),
            f"kl_standard_normal{tag}": lambda x, a, b, c, k=k, how=how: fastvae.kl_standard_normal(
                a, scale(b, how), **k
            ),
            f"kl_standard_normal free{tag}": lambda x, a, b, c, k=k, how=how: fastvae.kl_standard_normal(
                a, scale(b, how), event_ndim=0, free_bits=0.3, **k
            ),
            f"kl_standard_normal weighted{tag}": lambda x, a, b, c, k=k, how=how: fastvae.kl_standard_normal(
                a, scale(b, how), mask=x > 0.3, weight=x.float(), **k
            ),
            f"kl_normal{tag}": lambda x, a, b, c, k=k, how=how: fastvae.kl_normal(
                a, scale(b, how), c, scale(a, how), **k
            ),
            f"rsample_kl{tag}": lambda x, a, b, c, k=k, how=how: fastvae.rsample_kl(a, scale(b, how), seed=7, **k),
            f"gaussian{tag}": lambda x, a, b, c, k=k, how=how: fastvae.gaussian_log_prob(x, a, scale(b, how), **k),
            f"gaussian shared{tag}": lambda x, a, b, c, k=k, how=how: fastvae.gaussian_log_prob(
                c, a, scale(b.flatten()[:1].sum(), how), normalized=False, **k
            ),
            f"gaussian mean{tag}": lambda x, a, b, c, k=k, how=how: fastvae.gaussian_log_prob(
                x, a, scale(b, how), reduction="mean", **k
            ),
        }
    for over in ("latent", "sample", "batch"):
        found[f"free bits {over}"] = lambda x, a, b, c, over=over: fastvae.kl_standard_normal(
            a, b, free_bits=0.2, free_bits_over=over
        )
    found |= {
        "bernoulli": lambda x, a, b, c: fastvae.bernoulli_log_prob(x, a),
        "bernoulli bytes": lambda x, a, b, c: fastvae.bernoulli_log_prob((x * 255).to(torch.uint8), a),
        "bernoulli bits": lambda x, a, b, c: fastvae.bernoulli_log_prob(x > 0.5, a, event_ndim=0),
        "bernoulli soft": lambda x, a, b, c: fastvae.bernoulli_log_prob(b, a, x_scale=0.5),
        "bernoulli weighted": lambda x, a, b, c: fastvae.bernoulli_log_prob(x, a, weight=x.float()),
        "bernoulli sum": lambda x, a, b, c: fastvae.bernoulli_log_prob(x, a, reduction="sum"),
        "bernoulli mean": lambda x, a, b, c: fastvae.bernoulli_log_prob(b, a, reduction="mean", mask=x > 0.2),
        "gaussian optimal": lambda x, a, b, c: fastvae.gaussian_log_prob(x, a, "optimal"),
        "elbo": lambda x, a, b, c: tuple(fastvae.elbo(a, b, 0.7)),
        "elbo beta": lambda x, a, b, c: tuple(fastvae.elbo(a, b, c.flatten()[:1].sum(), reduction="sum")),
        "elbo none": lambda x, a, b, c: tuple(fastvae.elbo(a, b, 2.0, reduction="none")),
    }
    return found


def results(call: Callable, operands: list[torch.Tensor]) -> list[torch.Tensor]:
    """Outputs, and gradients for a cotangent that is different everywhere."""
    leaves = [o.detach().requires_grad_(i > 0) for i, o in enumerate(operands)]
    outputs = call(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    cotangents = [
        torch.linspace(0.5, 1.5, max(o.numel(), 1), dtype=torch.float64)[: o.numel()].reshape(o.shape).to(o.dtype)
        for o in outputs
    ]
    grads = torch.autograd.grad(outputs, leaves[1:], cotangents, allow_unused=True)
    return [*outputs, *(g for g in grads if g is not None)]


def bytes_of(result: torch.Tensor) -> bytes:
    flat = torch.empty(result.numel(), dtype=result.dtype).copy_(result.detach().flatten())
    return flat.view(torch.uint8).numpy().tobytes()


def data(shape: tuple[int, ...], dtype: torch.dtype) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(len(shape) + shape[-1])
    x = torch.rand(shape, generator=random)
    return [x, *(torch.randn(shape, generator=random).to(dtype) for _ in range(3))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend")
    parser.add_argument("--each", action="store_true")
    options = parser.parse_args()
    if options.backend == "triton":
        os.environ["TRITON_INTERPRET"] = "1"
    import fastvae
    from fastvae import backends

    few = options.backend == "triton"
    hashes: dict[str, hashlib._Hash] = {}
    count = 0
    with backends.use(options.backend):
        for name, call in calls(fastvae).items():
            digest = hashes.setdefault(name, hashlib.sha256())
            for shape, dtype in product(FEW_SHAPES if few else SHAPES, DTYPES):
                kinds = zip(*(layouts(t) for t in data(shape, dtype)), strict=True)
                for layout, operands in enumerate(kinds):
                    if few and (layout > 1 or (dtype != torch.float32 and shape != FEW_SHAPES[1])):
                        continue
                    for threads in (1,) if few or options.backend == "reference" else (1, 2):
                        torch.set_num_threads(threads)
                        for result in results(call, list(operands)):
                            count += result.numel()
                            digest.update(str((result.shape, result.stride(), result.dtype)).encode())
                            digest.update(bytes_of(result))
    if options.each:
        for name, digest in hashes.items():
            print(digest.hexdigest()[:16], name)
    for title, clamped in (("without clamps", False), ("clamped", True)):
        total = hashlib.sha256(
            "".join(d.hexdigest() for n, d in hashes.items() if ("clamped" in n) is clamped).encode()
        )
        print(f"{options.backend}, {title}: {total.hexdigest()}")
    print(f"{count} numbers in {len(hashes)} functions")


if __name__ == "__main__":
    main()
