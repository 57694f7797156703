"""Export a VAE's encoder, sampling and KL included, to a package that runs without Python.

    mkdir -p out
    python export.py out
    cmake -S . -B out/build -DCMAKE_PREFIX_PATH="$(python -c 'import torch; print(torch.utils.cmake_prefix_path)')"
    cmake --build out/build
    out/build/main out "$(python -c 'from fastvae.backends import native; print(native.library("cpu"))')"

This leaves `encoder.pt2` in the folder; `schemas.txt`, which tells C++ the operators' signatures; `x.bin` and
`expected.bin`, an input and what Python computes from it, for the program to compare with.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

import fastvae

BATCH, PIXELS, HIDDEN, LATENT = 16, 64, 32, 8


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT))

    def forward(self, x: torch.Tensor, seed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_var = self.layers(x).chunk(2, dim=-1)
        # A finite clamp: torch's package format (2.13) has no infinite arguments.
        return fastvae.rsample_kl(mean, log_var, seed=seed, clamp=(-30.0, 20.0))


def main(folder: Path) -> None:
    torch.manual_seed(0)
    encoder, x, seed = Encoder().eval(), torch.rand(BATCH, PIXELS), torch.tensor(2**40 + 1)
    with torch.no_grad():
        z, kl = encoder(x, seed)
        program = torch.export.export(encoder, (x, seed))
    torch._inductor.aoti_compile_and_package(program, package_path=str(folder / "encoder.pt2"))
    # What is left of fastvae in the graph that is compiled: formulas have become torch's operators.
    targets = [node.target for node in program.run_decompositions().graph.nodes if node.op == "call_function"]
    schemas = {str(target._schema) for target in targets if getattr(target, "namespace", None) == "fastvae"}
    (folder / "schemas.txt").write_text("\n".join(sorted(schemas)) + "\n")
    x.numpy().tofile(folder / "x.bin")
    torch.cat([z.flatten(), kl]).numpy().tofile(folder / "expected.bin")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
