"""The migration page: its blocks run, and their values are as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

TEXT = (Path(__file__).parents[1] / "examples" / "migration" / "README.md").read_text(encoding="utf-8")
BLOCK = r"```python\n((?:(?!```)[\s\S])*)```\n"
SETUP = re.search(BLOCK, TEXT)[1]
# Before, after, and what is said of their values.
CLAIM = re.compile(rf"{BLOCK}\n{BLOCK}\n((?:Same|Other): .*)\n")
SECTIONS = {part.splitlines()[0]: part for part in re.split(r"^## ", TEXT, flags=re.M)[1:]}


def claims(section):
    for before, after, said in CLAIM.findall(section):
        parts = re.findall(r"(Same|Other): ([^.\n]*)", said)
        yield before, after, {word: re.findall(r"`(\w+)`", names) for word, names in parts}


@pytest.mark.parametrize("title", SECTIONS)
def test_values_are_as_the_page_says(title):
    section = SECTIONS[title]
    found = list(claims(section))
    assert 2 * len(found) == len(re.findall(BLOCK, section)) > 0
    new: dict = {}
    exec(SETUP, new)
    for before, after, said in found:
        old = new
        exec(before, old)
        new = {**old}
        for values in said.values():
            for name in values:
                del new[name]  # what is compared must be made anew
        exec(after, new)
        for name in said.get("Same", []):
            torch.testing.assert_close(new[name], old[name], rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        for name in said.get("Other", []):
            assert not torch.allclose(new[name], old[name], rtol=1e-2), name
        assert said


def test_every_block_is_a_before_an_after_or_the_setup():
    in_sections = sum(2 * len(list(claims(section))) for section in SECTIONS.values())
    assert len(re.findall(BLOCK, TEXT)) == in_sections + 1
