"""CONTRIBUTING.md is right: its tree is the tree, and its recipe, followed in a copy, adds a likelihood."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(r"\*\*(\d+)\. `([^`]+)`\*\*.*?(?=\n\*\*\d+\. |\n## )", re.DOTALL)
BLOCK = re.compile(r"```\w+\n(.*?)```", re.DOTALL)
FOLDERS = ("benchmarks", "examples", "fastvae", "kernels", "tests", "tools")


def steps():
    """(file, code) of each step of the recipe; the one that only names has no code."""
    recipe = TEXT[TEXT.index("## Add a likelihood") : TEXT.index("## Losses in one pass")] + "\n## "
    for step in STEP.finditer(recipe):
        block = BLOCK.search(step[0])
        yield step[2], block[1] if block else ""


def test_the_tree_is_the_tree():
    drawn = set(re.findall(r"^(?: +\d)? +(fastvae/\S+)|^((?:\w+/)+)  ", TEXT, re.M))
    drawn = {left or right for left, right in drawn}
    assert [path for path in drawn if not (ROOT / path).exists()] == []
    tracked = subprocess.run(["git", "ls-files", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    floors = {re.match(r"(?:fastvae|kernels)/[^/]+|\w+", path)[0] for path in tracked.split() if "/" in path}
    missing = {f"{f}/" if (ROOT / f).is_dir() else f for f in floors} - drawn
    assert missing == {"fastvae/__main__.py", "fastvae/py.typed"}  # no floor: how Python finds them


def inserted(text, code, before):
    at = text.rindex(before)
    return text[:at] + code + text[at:]


def follow(root):
    """The recipe's edits. Code goes to the end of its file, or where its kind stands."""
    for path, code in steps():
        file = root / path
        text = file.read_text(encoding="utf-8")
        if path == "fastvae/__init__.py":
            text = text.replace("    gaussian_log_prob,\n", "    gaussian_log_prob,\n    laplace_log_prob,\n")
            text = text.replace('    "gaussian_log_prob",\n', '    "gaussian_log_prob",\n    "laplace_log_prob",\n')
        elif path == "fastvae/functional/likelihood.py":
            text = text.replace('"gaussian_log_prob"]', '"gaussian_log_prob", "laplace_log_prob"]')
            text = text.replace("GAUSSIAN_LOG_PROB\n", "GAUSSIAN_LOG_PROB, LAPLACE_LOG_PROB\n", 1)
            text = f"{text}\n\n{code}"
        elif path == "tests/examples.py":
            text = inserted(text, code, '    "elbo": Example(')
        elif path == "kernels/math/likelihood.h":
            text = inserted(text, f"{code}\n", "}  // namespace")
        elif path == "kernels/tables/likelihood.h":
            text = inserted(text, code, "")
        else:
            text = f"{text}\n\n{code}"
        file.write_text(text, encoding="utf-8")


def run(*command, cwd, **environment):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout
