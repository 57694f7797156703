"""CONTRIBUTING.md is right: its tree is the tree, and its recipe, followed in a copy, adds a likelihood."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(r"\*\*(\d+)\. `([^`]+)`\*\*.*?(?=\n\*\*\d+\. |\n## )", re.DOTALL)
BLOCK = re.compile(r"```\w+\n(.*?)```", re.DOTALL)
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
CHOSEN = "logistic and not discretized"  # of the tests, by pytest's -k
FOLDERS = ("benchmarks", "examples", "fastvae", "kernels", "tests", "tools")


def steps():
    """(number, file, code) of each step of the recipe; the one that only names has no code."""
    recipe = TEXT[TEXT.index("## Add a likelihood") : TEXT.index("## Losses in one pass")] + "\n## "
    for step in STEP.finditer(recipe):
        block = BLOCK.search(step[0])
        yield int(step[1]), step[2], block[1] if block else ""


def test_the_tree_is_the_tree():
    drawn = set(re.findall(r"^(?: +\d)? +(fastvae/\S+)|^((?:\w+/)+)  ", TEXT, re.M))
    drawn = {left or right for left, right in drawn}
    assert [path for path in drawn if not (ROOT / path).exists()] == []
    tracked = subprocess.run(["git", "ls-files", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    floors = {re.match(r"(?:fastvae|kernels)/[^/]+|\w+", path)[0] for path in tracked.split() if "/" in path}
    missing = {f"{f}/" if (ROOT / f).is_dir() else f for f in floors} - drawn
    assert missing == {"fastvae/__main__.py", "fastvae/py.typed"}  # no floor: how Python finds them


def follow(root, first, last):
    """The recipe's edits, step by step. Code goes to the end of its file, or where its kind stands."""
    for number, path, code in steps():
        if first <= number <= last:
            text = (root / path).read_text(encoding="utf-8")
            (root / path).write_text(EDITS.get(path, at_the_end)(text, code), encoding="utf-8")


def at_the_end(text, code):
    return f"{text}\n\n{code}"


def names(text, code):
    text = text.replace("    gaussian_log_prob,\n", "    gaussian_log_prob,\n    logistic_log_prob,\n")
    return text.replace('    "gaussian_log_prob",\n', '    "gaussian_log_prob",\n    "logistic_log_prob",\n')


def public(text, code):
    text = text.replace('"gaussian_log_prob"]', '"gaussian_log_prob", "logistic_log_prob"]')
    text = text.replace("GAUSSIAN_LOG_PROB\n", "GAUSSIAN_LOG_PROB, LOGISTIC_LOG_PROB\n", 1)
    return at_the_end(text, code)


def before(marker):
    def insert(text, code):
        at = text.rindex(marker)
        return f"{text[:at]}{code}\n{text[at:]}"

    return insert


EDITS = {
    "fastvae/__init__.py": names,
    "fastvae/functional/likelihood.py": public,
    "tests/examples.py": before('    "elbo": Example('),
    "kernels/math/likelihood.h": before("}  // namespace"),
}

# An editable install of the checkout must not stand before the copy.
PYTEST = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
sys.path.insert(0, ".")
import fastvae, pathlib, pytest
assert pathlib.Path(fastvae.__file__).parents[1] == pathlib.Path.cwd()
sys.exit(pytest.main(sys.argv[1:]))
"""


def run(*command, cwd):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def passed(copy, files, chosen):
    """How many tests of the copy pass; none may fail."""
    paths = [f"tests/test_{name}.py" for name in files]
    output = run(sys.executable, "-c", PYTEST, "-p", "no:cacheprovider", "-vv", *paths, "-k", chosen, cwd=copy)
    return output.count(" PASSED")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout: what belongs to it is not known")
    folder = tmp_path_factory.mktemp("copy")
    for path in run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).split():
        if (ROOT / path).is_file():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / path)
    return folder


def test_the_recipe_adds_a_likelihood(copy):
    follow(copy, 1, 7)  # a formula, a declaration, its public function, and what the tests are told
    assert passed(copy, ["every_likelihood"], f"{CHOSEN} and reference")
    follow(copy, 8, 10)  # its kernels
    cmake = shutil.which("cmake", path=TOOLS)
    if cmake is None or shutil.which(os.environ.get("CXX", "c++")) is None:
        pytest.skip("cmake or a C++ compiler was not found: the recipe's kernels were not compiled")
    define = [
        "-DFASTVAE_CUDA=OFF",
        "-DFASTVAE_NATIVE=ON",
        "-DFASTVAE_WERROR=ON",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]
    run(cmake, "-S", ".", "-B", "build", *define, cwd=copy)
    run(cmake, "--build", "build", "--target", "_cpu", "--parallel", "2", cwd=copy)
    shutil.copy(copy / "build" / "_cpu.so", copy / "fastvae")
    files = ["every_likelihood", "operators", "derivatives", "func", "one_pass", "layouts"]
    for backend in ("reference", "native", *(["triton"] if find_spec("triton") else [])):
        assert passed(copy, files, f"{CHOSEN} and {backend}"), backend
