"""Replacing what a library has, and putting it back."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable
from importlib import metadata
from types import TracebackType
from typing import Any, NamedTuple, get_args

from torch.torch_version import TorchVersion

from ..distributions.diagonal_gaussian import Noise
from ..functional._arguments import check_name

_ABSENT = object()  # of an attribute that is inherited


class UnknownLibraryError(ImportError):
    """A library that is not installed, or not as it is known here."""


class Replacement(NamedTuple):
    """`attribute` of a module or class becomes `new`, which takes arguments of the same names."""

    owner: Any
    attribute: str
    new: Any

    def __str__(self) -> str:
        prefix = f"{self.owner.__module__}." if inspect.isclass(self.owner) else ""
        return f"{prefix}{self.owner.__name__}.{self.attribute}"

    def misfit(self) -> str | None:
        """What the library has instead of what is expected."""
        old = getattr(self.owner, self.attribute, None)
        if old is None:
            return f"{self} is gone"
        found, expected = _parameters(old), _parameters(self.new)
        return None if found == expected else f"{self} takes ({', '.join(found)}) and not ({', '.join(expected)})"


def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


class Patch:
    """What `patch` did. Leaving a `with` block puts back what was there before it, another patch included.

    Attributes:
        replaced: dotted names.
    """

    def __init__(self, library: Library, replaced: tuple[str, ...], before: Noise | None) -> None:
        self.library, self.replaced, self._before = library, replaced, before

    def __enter__(self) -> Patch:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._before is None:
            self.library.unpatch()
        else:
            self.library.patch(self._before)

    def __repr__(self) -> str:
        last = Counter(name.rpartition(".")[2] for name in self.replaced)
        few = [name for name in self.replaced if last[name.rpartition(".")[2]] <= 2]
        many = [f"{name} in {count} modules" for name, count in last.items() if count > 2]
        return f"{self.library.name}: replaced {', '.join(many + few)}"


class Library:
    """One library: the versions that are known, at least `oldest` and below `newer`, and what is replaced in them.

    `replacements` imports the library and gives a Replacement for each thing, by the options of `patch`.
    """

    def __init__(
        self, name: str, oldest: str, newer: str, replacements: Callable[[Noise], Iterable[Replacement]]
    ) -> None:
        self.name, self.oldest, self.newer, self.replacements = name, oldest, newer, replacements
        self._undo: list[tuple[Replacement, Any]] = []  # with what was there
        self._noise: Noise | None = None

    def patch(self, noise: Noise = "torch") -> Patch:
        """Replace what can be replaced; a second call with the same noise changes nothing.

        Args:
            noise: "torch", the noise that the library draws; or "fastvae", a stream of its own, which is faster.

        Returns:
            A Patch, which tells what was replaced, and is a context manager that puts it back.

        Raises:
            UnknownLibraryError: the library is not installed, of another version, or has changed its shape. Nothing
                has been replaced then.
            ValueError: the noise is unknown.
        """
        check_name("noise", noise, get_args(Noise))
        before = self._noise
        if before == noise:
            return Patch(self, self._names(), before)
        version = self._version()
        self.unpatch()
        wanted = list(self.replacements(noise))
        misfits = [misfit for replacement in wanted if (misfit := replacement.misfit())]
        if misfits:
            raise UnknownLibraryError(f"{self.name} {version} is not known here: {'; '.join(misfits)}")
        for replacement in wanted:
            self._undo.append((replacement, vars(replacement.owner).get(replacement.attribute, _ABSENT)))
            setattr(*replacement)
        self._noise = noise
        return Patch(self, self._names(), before)

    def unpatch(self) -> tuple[str, ...]:
        """Put everything back; the names of what that was."""
        names = self._names()
        while self._undo:
            (owner, attribute, _), old = self._undo.pop()
            if old is _ABSENT:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, old)
        self._noise = None
        return names

    def _names(self) -> tuple[str, ...]:
        return tuple(str(replacement) for replacement, _ in self._undo)

    def _version(self) -> str:
        try:
            version = metadata.version(self.name)
        except metadata.PackageNotFoundError:
            raise UnknownLibraryError(f"{self.name} is not installed") from None
        if not self.oldest <= TorchVersion(version) < self.newer:
            raise UnknownLibraryError(
                f"{self.name} {version} is not known here: at least {self.oldest} and below {self.newer} is wanted"
            )
        return version
