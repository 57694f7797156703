"""The polynomials' files are what their table gives, and each error is as stated."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def script():
    """tools/ is no package."""
    spec = importlib.util.spec_from_file_location("polynomials", ROOT / "tools" / "polynomials.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the class's module
    spec.loader.exec_module(module)
    return module


polynomials = script()
LABELS = [polynomial.label for polynomial in polynomials.TABLE]


def with_scaled(polynomial, index: int, factor: float):
    """The polynomial with one coefficient multiplied."""
    coefficients = list(polynomial.coefficients)
    coefficients[index] *= factor
    return replace(polynomial, coefficients=tuple(coefficients))


def replaced(polynomial):
    """The table with it in place of the one with its label."""
    return [polynomial if p.label == polynomial.label else p for p in polynomials.TABLE]


def committed(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def write(table, root: Path) -> None:
    for path, text in polynomials.files(table).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def test_files_and_errors_are_those_of_the_table():
    assert list(polynomials.problems(polynomials.TABLE)) == []


@pytest.mark.parametrize("polynomial", polynomials.TABLE, ids=LABELS)
def test_a_coefficient_changed_in_the_table_alone_is_noticed(polynomial):
    for index in range(len(polynomial.coefficients)):
        changed = with_scaled(polynomial, index, 1 + 1e-6)
        named = [path for path, text in polynomials.files(replaced(changed)).items() if committed(path) != text]
        assert named == list(polynomial.used)


@pytest.mark.parametrize("polynomial", polynomials.TABLE, ids=LABELS)
def test_a_coefficient_changed_in_table_and_files_is_noticed_by_its_error(polynomial, tmp_path):
    table = replaced(with_scaled(polynomial, 0, 1 + 1e-5))
    write(table, tmp_path)
    problems = list(polynomials.problems(table, tmp_path))
    assert any(problem.startswith(f"{polynomial.label}: error") for problem in problems)


def test_a_coefficient_changed_in_a_file_is_noticed(tmp_path):
    write(polynomials.TABLE, tmp_path)
    path = tmp_path / polynomials.CPP
    path.write_text(path.read_text(encoding="utf-8").replace("0.166665196f", "0.166665197f"), encoding="utf-8")
    (problem,) = polynomials.problems(polynomials.TABLE, tmp_path)
    assert problem.startswith(polynomials.CPP)


def test_a_coefficient_that_is_not_the_fits_must_be_adopted(tmp_path):
    """One float32 further: no error tells."""
    table = replaced(with_scaled(polynomials.SINE, -1, 1 + 1e-7))
    write(table, tmp_path)
    (problem,) = polynomials.problems(table, tmp_path)
    assert problem.endswith("not adopted")


def test_fitting_again_makes_up_for_rounding():
    """Where the lowest coefficient is exact, what rounds the others is made up for almost wholly."""
    cosine = polynomials.COSINE
    rounded_once = polynomials.largest_error(cosine, cosine.coefficients)
    assert polynomials.largest_error(cosine, polynomials.refit(cosine)) < rounded_once / 10
