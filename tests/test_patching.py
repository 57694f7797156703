"""What all integrations share: replacing, telling, undoing, refusing. The libraries themselves: tests/integrations."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from fastvae.integrations import _patching
from fastvae.integrations._patching import Library, Replacement, UnknownLibraryError


class Base:
    def inherited(self, x):
        return "theirs"


@pytest.fixture
def target(monkeypatch):
    """A library with a module, of version 1.4."""
    module = ModuleType("target")
    module.function = lambda x, y=0: "theirs"
    module.Model = type("Model", (Base,), {"loss": lambda self, x: "theirs", "__module__": "target"})
    monkeypatch.setattr(_patching.metadata, "version", lambda name: "1.4.2")
    return module


def library(target, oldest="1.4", newer="1.5", **further):
    def replacements(noise):
        yield Replacement(target, "function", lambda x, y=0: noise)
        yield Replacement(target.Model, "loss", lambda self, x: noise)
        yield Replacement(target.Model, "inherited", lambda self, x: noise)
        yield from further.values()

    return Library("target", oldest, newer, replacements)


def answers(target):
    model = target.Model()
    return target.function(1), model.loss(1), model.inherited(1)


NAMES = ("target.function", "target.Model.loss", "target.Model.inherited")


def test_what_is_replaced_is_told_and_put_back(target):
    before, found = {**vars(target)}, library(target)
    patch = found.patch()
    assert answers(target) == ("torch",) * 3
    assert patch.replaced == NAMES
    assert repr(patch) == f"target: replaced {', '.join(NAMES)}"
    assert found.unpatch() == NAMES
    assert answers(target) == ("theirs",) * 3
    assert vars(target) == before
    assert "inherited" not in vars(target.Model)
    assert found.unpatch() == ()


def test_a_second_call_changes_nothing_and_another_noise_takes_the_place(target):
    found = library(target)
    found.patch()
    function = target.function
    assert found.patch().replaced == NAMES
    assert target.function is function
    found.patch("fastvae")
    assert answers(target) == ("fastvae",) * 3
    found.unpatch()
    assert answers(target) == ("theirs",) * 3


def test_leaving_a_block_puts_back_what_was_there(target):
    found = library(target)
    with found.patch() as patch:
        assert patch.replaced == NAMES
        for noise in ("torch", "fastvae"):
            with found.patch(noise):
                assert answers(target) == (noise,) * 3
            assert answers(target) == ("torch",) * 3
    assert answers(target) == ("theirs",) * 3


@pytest.mark.parametrize(
    ("bounds", "message"),
    [(("1.5", "1.6"), "target 1.4.2 is not known here: at least 1.5 and below 1.6"), (("1.0", "1.4"), "below 1.4")],
)
def test_another_version_is_refused(target, bounds, message):
    with pytest.raises(UnknownLibraryError, match=message):
        library(target, *bounds).patch()
    assert answers(target) == ("theirs",) * 3


@pytest.mark.parametrize(
    ("attribute", "message"),
    [("gone", "target.gone is gone"), ("function", r"target.function takes \(x, y\) and not \(z\)")],
)
def test_another_shape_is_refused_before_anything_is_replaced(target, attribute, message):
    found = library(target, further=Replacement(target, attribute, lambda z: None))
    with pytest.raises(UnknownLibraryError, match=f"target 1.4.2 is not known here: {message}"):
        found.patch()
    assert answers(target) == ("theirs",) * 3


def test_what_is_not_there_is_said():
    with pytest.raises(UnknownLibraryError, match="no-such-library is not installed"):
        Library("no-such-library", "1", "2", lambda noise: []).patch()
    with pytest.raises(ValueError, match="noise must be one of 'fastvae', 'torch', got 'jax'"):
        Library("torch", "1", "9", lambda noise: []).patch("jax")


def test_importing_imports_and_replaces_nothing():
    """Each module finds its own library later, though it has its name."""
    code = (
        "import sys, fastvae.integrations\n"
        "assert not {'diffusers', 'pythae', 'pyro', 'scvi'} & set(sys.modules), 'imported'\n"
        "for name in fastvae.integrations.__all__: assert not getattr(fastvae.integrations, name).LIBRARY._undo"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
