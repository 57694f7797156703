"""diffusers: the posteriors of its autoencoders.

`DiagonalGaussianDistribution` becomes `fastvae.distributions.DiagonalGaussian`, and Oobleck's likewise, in every module
of diffusers. What is made meanwhile stays what it is after `unpatch`, and is an instance of diffusers' class too.
Code that has imported the class itself, `from diffusers... import DiagonalGaussianDistribution`, keeps it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from .. import distributions
from ..distributions.diagonal_gaussian import DiagonalGaussian, Noise
from ._patching import Library, Replacement

_OURS = {
    "DiagonalGaussianDistribution": distributions.DiagonalGaussian,
    "OobleckDiagonalGaussianDistribution": distributions.OobleckDiagonalGaussian,
}


def _replacements(noise: Noise) -> Iterator[Replacement]:
    from diffusers.models import autoencoders

    for name, ours in _OURS.items():
        module = autoencoders.autoencoder_oobleck if name.startswith("Oobleck") else autoencoders.vae
        theirs = getattr(module, name)
        new = _posterior(ours, theirs, noise)
        for found in [m for n, m in sys.modules.items() if n.startswith("diffusers.")]:
            if vars(found).get(name) is theirs:
                yield Replacement(found, name, new)


def _posterior(ours: type[DiagonalGaussian], theirs: type, noise: Noise) -> type:
    """The class that takes the place of `theirs`."""

    def initialise(self: Any, parameters: Tensor, deterministic: bool = False) -> None:
        ours.__init__(self, parameters, deterministic, noise)

    return type(theirs.__name__, (ours, theirs), {"__init__": initialise, "__module__": theirs.__module__})


LIBRARY = Library("diffusers", "0.30", "0.43", _replacements)
patch, unpatch = LIBRARY.patch, LIBRARY.unpatch
