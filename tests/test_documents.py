"""What `help` says of each public function."""

from __future__ import annotations

import inspect
import re
from typing import get_args

import pytest

import fastvae
from fastvae.formulas.scale import SCALE_AS, ScaleName
from fastvae.functional._documents import SHARED

FUNCTIONS = [name for name in fastvae.__all__ if inspect.isfunction(getattr(fastvae, name))]
SECTIONS = ("Args", "Shape", "Returns", "Raises", "Reference")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_argument_and_section_is_there_once(name):
    function = getattr(fastvae, name)
    text = function.__doc__
    assert re.findall(rf"^({'|'.join(SECTIONS)}):$", text, re.M) == list(SECTIONS)
    arguments = text[text.index("Args:") : text.index("Shape:")]
    assert sorted(re.findall(r"^    (\w+):", arguments, re.M)) == sorted(inspect.signature(function).parameters)
    assert max(map(len, text.splitlines())) <= 120


def test_shared_texts_are_all_used():
    used = {parameter for name in FUNCTIONS for parameter in inspect.signature(getattr(fastvae, name)).parameters}
    assert used >= SHARED.keys()


def test_names_of_types_are_those_of_the_table():
    assert get_args(ScaleName) == tuple(SCALE_AS)
