"""Modules that only an extra of the package installs."""

from __future__ import annotations

from importlib.util import find_spec


class MissingExtraError(ImportError):
    """A module is wanted that `pip install 'fastvae[extra]'` brings."""


def require(*modules: str, extra: str) -> None:
    """Raise MissingExtraError, naming the extra, unless every one of `modules` can be found. Imports none of them."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        names = ", ".join(missing)
        raise MissingExtraError(f"{names} not installed, wanted by the [{extra}] extra: pip install 'fastvae[{extra}]'")
