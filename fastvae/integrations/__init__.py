"""Other libraries with this package's operators inside, one module for each: `fastvae.integrations.pythae.patch()`.

Nothing is replaced, and no library imported, before `patch` is called.
"""

from . import diffusers, pyro, pythae, scvi

__all__ = ["diffusers", "pyro", "pythae", "scvi"]
