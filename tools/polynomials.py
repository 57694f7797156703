"""The polynomials of kernels and formulas: a table, the fits behind its coefficients, and the files made from it.

    python tools/polynomials.py           # writes polynomials.h, and polynomials.py of Triton's kernels and of formulas
    python tools/polynomials.py --check   # fails where a file is not what the table gives, or an error is not as stated
    python tools/polynomials.py --refit   # prints coefficients and errors for the table

Needs mpmath only. A new polynomial is an entry with as many zeros as it shall have coefficients: --refit prints those.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mpmath

ROOT = Path(__file__).resolve().parent.parent
CPP, TRITON = "kernels/math/polynomials.h", "fastvae/backends/triton/polynomials.py"
TORCH = "fastvae/formulas/polynomials.py"

mp = mpmath.MPContext()  # of its own: tests set the precision of mpmath's
mp.dps = 50
NEAR_ZERO, CONVERGED = mp.mpf("1e-9"), mp.mpf("1e-6")
Real = Any  # a number of mpmath
Function = Callable[[Real], Real]


def zero(x: Real) -> Real:
    return mp.zero


def one(x: Real) -> Real:
    return mp.one


def same(x: Real) -> Real:
    return x


def square(x: Real) -> Real:
    return x * x


def digamma_rest(v: Real) -> Real:
    return -mp.log(v) - v / 2 - mp.digamma(1 / v)


@dataclass(frozen=True)
class Polynomial:
    """final(x) = base(x) + factor(x) p(argument(x)) for x on the interval."""

    name: str
    used: tuple[str, ...]  # the files that have it
    variable: str  # the name of p's argument
    formula: str  # all of this, to be read
    scale_name: str  # of `scale`
    interval: tuple[Real, Real]
    final: Function
    factor: Function
    scale: Function  # errors are those of `final`, divided by this
    coefficients: tuple[float, ...]  # from the constant term up; the nearest number of `bits` is meant
    error: float  # the largest, of these coefficients where they are evaluated exactly
    fit_error: float  # the largest of the fit, whose coefficients are real numbers: none of this degree has less
    adopted: bool  # not the fit's coefficients, each rounded, but others; they stay, so that no result changes
    base: Function = zero
    argument: Function = same
    bits: int = 24  # of a float32, or 53 of a float64

    @property
    def label(self) -> str:
        type_name = "" if self.bits == 24 else " in float64"
        return f"{self.name}{type_name} of {' and '.join(Path(path).name for path in self.used)}"

    def target(self, x: Real) -> Real:
        """What p approximates."""
        return (self.final(x) - self.base(x)) / self.factor(x)

    def weight(self, x: Real) -> Real:
        """The error for an error of 1 in p."""
        return self.factor(x) / self.scale(x)


EXP = Polynomial(
    name="exp",
    used=(CPP, TRITON),
    variable="r",
    formula="e^r - 1 = r + r^2 p(r) for |r| <= ln 2 / 2",
    scale_name="e^r",
    interval=(-mp.ln2 / 2, mp.ln2 / 2),
    final=mp.expm1,
    base=same,
    factor=square,
    scale=mp.exp,
    coefficients=(0.49999994, 0.166665196, 0.0416683927, 0.0083687799, 0.00138144696),
    error=4.3e-9,
    fit_error=3.1e-9,
    adopted=True,
)
LOG = Polynomial(
    name="log",
    used=(CPP, TRITON),
    variable="f",
    formula="log(1 + f) = f - f^2 / 2 + f^3 p(f) for sqrt(1/2) <= 1 + f <= sqrt(2)",
    scale_name="f",
    interval=(mp.sqrt(0.5) - 1, mp.sqrt(2) - 1),
    final=mp.log1p,
    base=lambda f: f - f * f / 2,
    factor=lambda f: f**3,
    scale=same,
    coefficients=(
        0.333333164,
        -0.250008076,
        0.200022861,
        -0.166245967,
        0.141812131,
        -0.131284028,
        0.128814057,
        -0.0786021054,
    ),
    error=6.5e-9,
    fit_error=5.9e-9,
    adopted=True,
)
LOG1P_CPP = Polynomial(
    name="log1p",
    used=(CPP,),
    variable="y",
    formula="log(1 + y) = y p(y) for 0 <= y <= 1",
    scale_name="log(1 + y)",
    interval=(mp.zero, mp.one),
    final=mp.log1p,
    factor=same,
    scale=mp.log1p,
    coefficients=(
        1.0,
        -0.499999017,
        0.333299637,
        -0.249541342,
        0.196759388,
        -0.153055921,
        0.106036544,
        -0.0569595285,
        0.0198514592,
        -0.0032440247,
    ),
    error=3.0e-8,
    fit_error=4.8e-9,
    adopted=True,
)
LOG1P_TRITON = replace(
    LOG1P_CPP,
    used=(TRITON,),
    coefficients=(
        0.99999994,
        -0.49999493,
        0.33319098,
        -0.24842982,
        0.19106007,
        -0.13663246,
        0.07822596,
        -0.02950524,
        0.00523269,
    ),
    error=6.5e-8,
    fit_error=3.1e-8,
)
SINE = Polynomial(
    name="sine",
    used=(CPP, TRITON),
    variable="f2",
    formula="sin(pi / 2 f) = f p(f^2) for |f| <= 1/2",
    scale_name="f",
    interval=(mp.zero, mp.mpf(0.5)),
    final=lambda f: mp.sin(mp.pi / 2 * f),
    factor=same,
    argument=square,
    scale=same,
    coefficients=(1.57079637, -0.64596349, 0.0796802267, -0.00460217707),
    error=5.3e-8,
    fit_error=4.9e-9,
    adopted=False,
)
COSINE = replace(
    SINE,
    name="cosine",
    formula="cos(pi / 2 f) = p(f^2) for |f| <= 1/2",
    scale_name="1",
    final=lambda f: mp.cos(mp.pi / 2 * f),
    factor=one,
    scale=one,
    coefficients=(1.0, -1.23370051, 0.253669202, -0.0208600722, 0.000903631677),
    error=6.7e-9,
    fit_error=4.8e-11,
)
SQUARED_RADIUS = Polynomial(
    name="squared_radius",
    used=(CPP, TRITON),
    variable="v",
    formula="-2 log(1 - v) = v p(v) for 0 <= v <= 1/32",
    scale_name="v",
    interval=(mp.zero, mp.mpf(1) / 32),
    final=lambda v: -2 * mp.log1p(-v),
    factor=same,
    scale=same,
    coefficients=(2.0000005, 0.9997135, 0.69083345),
    error=5.3e-7,
    fit_error=5.1e-7,
    adopted=False,
)
STIRLING = Polynomial(
    name="stirling",
    used=(CPP, TRITON),
    variable="v2",
    formula="lgamma(1/v) - ((1/v - 1/2) log(1/v) - 1/v + log(2 pi) / 2) = v p(v^2) for 0 <= v <= 1",
    scale_name="1",
    interval=(mp.zero, mp.one),
    final=lambda v: mp.loggamma(1 / v) + (1 / v - mp.mpf(0.5)) * mp.log(v) + 1 / v - mp.log(2 * mp.pi) / 2,
    factor=same,
    argument=square,
    scale=one,
    coefficients=(
        0.0833332166,
        -0.00277373684,
        0.00075244531,
        -0.000390734116,
        0.000183827593,
        -4.35577167e-05,
    ),
    error=1.1e-8,
    fit_error=8.4e-9,
    adopted=False,
)
DIGAMMA = replace(
    STIRLING,
    name="digamma",
    formula="log(1/v) - v / 2 - digamma(1/v) = v^2 p(v^2) for 0 <= v <= 1",
    scale_name="this",
    final=digamma_rest,
    factor=square,
    scale=digamma_rest,
    coefficients=(
        0.0833332837,
        -0.0083276704,
        0.00385197578,
        -0.0031793986,
        0.00262947124,
        -0.00145089661,
        0.00035893984,
    ),
    error=6.0e-7,
    fit_error=5.6e-7,
)
STIRLING_IN_DOUBLE = replace(
    STIRLING,
    used=(CPP, TRITON, TORCH),
    formula=STIRLING.formula.replace("v <= 1", "v <= 1/4"),
    interval=(mp.zero, mp.mpf(0.25)),
    coefficients=(
        0.08333333333333316,
        -0.00277777777760417,
        0.0007936507426034539,
        -0.0005952312223023921,
        0.0008412428673488764,
        -0.0018949406197207295,
        0.0057754505863073236,
        -0.017917574375011586,
        0.034574669023715164,
    ),
    error=2.9e-18,
    fit_error=2.3e-18,
    bits=53,
)
DIGAMMA_IN_DOUBLE = replace(
    DIGAMMA,
    used=(CPP, TRITON, TORCH),
    formula=DIGAMMA.formula.replace("v <= 1", "v <= 1/4"),
    interval=(mp.zero, mp.mpf(0.25)),
    coefficients=(
        0.08333333333333333,
        -0.008333333333321124,
        0.003968253960047134,
        -0.0041666645044635235,
        0.007575462730572984,
        -0.021068975318436513,
        0.08210202761801881,
        -0.4004975871243245,
        2.0167467191778936,
        -7.996699509152712,
        16.661614517487397,
    ),
    error=5.6e-17,
    fit_error=3.7e-17,
    bits=53,
)
LOG_SINHC = Polynomial(
    name="log_sinhc",
    used=(CPP, TRITON),
    variable="y2",
    formula="log(sinh(y / 2) / (y / 2)) = y^2 p(y^2) for 0 <= y <= 1",
    scale_name="y^2",
    interval=(mp.zero, mp.one),
    final=lambda y: mp.log(mp.sinh(y / 2) / (y / 2)),
    factor=square,
    argument=square,
    scale=square,
    coefficients=(0.0416666642, -0.000347166002, 5.36015023e-06),
    error=3.8e-9,
    fit_error=3.2e-9,
    adopted=False,
)
LANGEVIN = replace(
    LOG_SINHC,
    name="langevin",
    formula="coth(y / 2) / 2 - 1 / y = y p(y^2) for 0 <= y <= 1",
    scale_name="y",
    final=lambda y: mp.coth(y / 2) / 2 - 1 / y,
    factor=same,
    scale=same,
    coefficients=(0.083333306, -0.00138844282, 3.18654966e-05),
    error=2.8e-8,
    fit_error=2.5e-8,
)
LOG_SINHC_IN_DOUBLE = replace(
    LOG_SINHC,
    used=(CPP, TRITON, TORCH),
    coefficients=(
        0.041666666666666664,
        -0.0003472222222219897,
        5.511463841063643e-06,
        -1.0333992459750413e-07,
        2.0876110802786638e-09,
        -4.3939326321541865e-11,
        8.85216614010115e-13,
    ),
    error=2.5e-18,
    fit_error=2.4e-18,
    bits=53,
)
LANGEVIN_IN_DOUBLE = replace(
    LANGEVIN,
    used=(CPP, TRITON, TORCH),
    coefficients=(
        0.0833333333333333,
        -0.0013888888888852076,
        3.306878300965724e-05,
        -8.267192203380869e-07,
        2.0875732432144585e-08,
        -5.269017288516357e-10,
        1.2258351079039934e-11,
    ),
    error=4.3e-17,
    fit_error=3.8e-17,
    bits=53,
)
TABLE = (
    EXP,
    LOG,
    LOG1P_CPP,
    LOG1P_TRITON,
    SINE,
    COSINE,
    SQUARED_RADIUS,
    STIRLING,
    STIRLING_IN_DOUBLE,
    DIGAMMA,
    DIGAMMA_IN_DOUBLE,
    LOG_SINHC,
    LOG_SINHC_IN_DOUBLE,
    LANGEVIN,
    LANGEVIN_IN_DOUBLE,
)


def rounded(coefficients: Iterable[Real], bits: int) -> list[Real]:
    with mp.workprec(bits):
        return [+mp.mpf(c) for c in coefficients]


def nodes(polynomial: Polynomial, count: int) -> list[Real]:
    """Chebyshev's, with the ends; in place of 0, where `target` is 0 / 0, a point beside it."""
    low, high = polynomial.interval
    points = [(low + high - (high - low) * mp.cos(mp.pi * i / (count - 1))) / 2 for i in range(count)]
    return [x if abs(x) > NEAR_ZERO else NEAR_ZERO for x in points]


def error_at(polynomial: Polynomial, coefficients: Sequence[Real], x: Real) -> Real:
    p = mp.polyval(coefficients[::-1], polynomial.argument(x))
    return polynomial.weight(x) * (polynomial.target(x) - p)


def peaks_of(polynomial: Polynomial, coefficients: Sequence[Real], points: Sequence[Real]) -> list[tuple[Real, Real]]:
    """(x, error) where the error is largest between two changes of its sign: on the points, then beside them."""

    def error(x: Real) -> Real:
        return error_at(polynomial, coefficients, x)

    values = [error(x) for x in points]
    peaks: list[int] = []
    for i, value in enumerate(values):
        if not peaks or (value > 0) != (values[peaks[-1]] > 0):
            peaks.append(i)
        elif abs(value) > abs(values[peaks[-1]]):
            peaks[-1] = i
    ends = 0, len(points) - 1
    return [(points[i], values[i]) if i in ends else climb(error, points[i - 1 : i + 2], values[i]) for i in peaks]


def climb(error: Function, around: Sequence[Real], value: Real) -> tuple[Real, Real]:
    """The peak near the middle one of three points, by parabolas."""
    x, step = around[1], min(around[1] - around[0], around[2] - around[1]) / 2
    for _ in range(5):
        left, right = error(x - step), error(x + step)
        if bend := left - 2 * value + right:
            candidate = x + step * max(-1, min(1, (left - right) / (2 * bend)))
            x, value = max((x, value), (candidate, error(candidate)), key=lambda peak: abs(peak[1]))
        step /= 8
    return x, value


def largest_error(polynomial: Polynomial, coefficients: Sequence[Real]) -> Real:
    """Of the coefficients as rounded; what rounding adds where they are evaluated is not in it."""
    points = nodes(polynomial, 16 * len(coefficients))
    return max(abs(e) for _, e in peaks_of(polynomial, rounded(coefficients, polynomial.bits), points))


def basis(polynomial: Polynomial, x: Real, powers: Iterable[int]) -> list[Real]:
    """By how much each coefficient moves the error at x."""
    return [polynomial.weight(x) * polynomial.argument(x) ** k for k in powers]


def fit(polynomial: Polynomial) -> tuple[list[Real], Real]:
    """The coefficients whose largest error is least, and that error: Remez's exchange."""
    count = len(polynomial.coefficients)
    points, extremes = nodes(polynomial, 16 * count), nodes(polynomial, count + 1)
    for _ in range(50):
        rows = [basis(polynomial, x, range(count)) + [(-1) ** i] for i, x in enumerate(extremes)]
        *coefficients, level = mp.lu_solve(rows, [error_at(polynomial, [mp.zero], x) for x in extremes])
        peaks = peaks_of(polynomial, coefficients, points)
        largest = max(abs(e) for _, e in peaks)
        if largest <= abs(level) * (1 + CONVERGED):
            return coefficients, largest
        while len(peaks) > count + 1:
            peaks.pop(0 if abs(peaks[0][1]) < abs(peaks[-1][1]) else -1)
        extremes = [x for x, _ in peaks]
    raise ArithmeticError(f"{polynomial.label}: the exchange does not converge")


def refit(polynomial: Polynomial) -> list[Real]:
    """As rounded: each coefficient is rounded in its turn and those above are fitted again, by least squares.

    They make up for the rounding as far as they can. With the lowest coefficients given, errors need not alternate, and
    an exchange has nothing to go by.
    """
    count = len(polynomial.coefficients)
    points, done = nodes(polynomial, 16 * count)[1:-1], rounded(fit(polynomial)[0][:1], polynomial.bits)
    while len(done) < count:
        rows = [basis(polynomial, x, range(len(done), count)) for x in points]
        free = mp.lu_solve(rows, [error_at(polynomial, done, x) for x in points])
        done += rounded(free[:1], polynomial.bits)
    return done


ABOUT = """\
Written by tools/polynomials.py: change the table there, then run it.

Minimax (Remez) fits, coefficients from the constant term up, rounded to their type. Of the errors beside each,
the first is the largest of these coefficients and the second that of the fit before they were rounded. "Adopted":
not the fit's coefficients rounded, but others, kept so that no result changes.
"""


def comment(polynomial: Polynomial, mark: str) -> str:
    adopted = " Adopted." if polynomial.adopted else ""
    errors = (
        f"Error {shown(polynomial.error)} of {polynomial.scale_name}, before rounding {shown(polynomial.fit_error)}."
    )
    return f"{mark} {polynomial.formula}.\n{mark} {errors}{adopted}\n"


def shown(error: float) -> str:
    return f"{error:.1e}".replace("e-0", "e-")


def cpp(table: Iterable[Polynomial]) -> str:
    about = "\n".join(f"// {line}".rstrip() for line in ABOUT.splitlines())
    functions = "\n\n".join(map(cpp_function, table))
    return (
        f'{about}\n#pragma once\n\n#include "platform.h"\n\nnamespace fastvae::FASTVAE_ISA {{\n\n{functions}\n\n'
        "}  // namespace fastvae::FASTVAE_ISA\n"
    )


def cpp_function(polynomial: Polynomial) -> str:
    """As clang-format leaves it."""
    type_name, suffix = ("float", "f") if polynomial.bits == 24 else ("double", "")
    variable, coefficients = polynomial.variable, ", ".join(f"{c!r}{suffix}" for c in polynomial.coefficients)
    declaration = f"FASTVAE_FN {type_name} {polynomial.name}_polynomial({type_name} {variable}) {{"
    body = f"return polynomial({variable}, {coefficients});"
    if len(line := f"{declaration} {body} }}") <= 120:
        return f"{comment(polynomial, '//')}{line}"
    indent = " " * len("  return polynomial(")
    lines = textwrap.fill(body, 120, initial_indent="  ", subsequent_indent=indent, break_on_hyphens=False)
    return f"{comment(polynomial, '//')}{declaration}\n{lines}\n}}"


def triton(table: Iterable[Polynomial]) -> str:
    tuples = "\n".join(map(triton_tuple, table))
    return f'"""{ABOUT}"""\n\nimport triton.language as tl\n\n{tuples}\n'


def triton_tuple(polynomial: Polynomial) -> str:
    """As ruff leaves it."""
    name, values = tuple_name(polynomial), ", ".join(map(repr, polynomial.coefficients))
    if len(line := f"{name} = tl.constexpr(({values}))") > 120:
        line = f"{name} = tl.constexpr(\n    ({values})\n)"
    if max(map(len, line.splitlines())) > 120:
        line = f"{name} = tl.constexpr(\n    (\n{one_a_line(polynomial, 8)}    )\n)"
    return f"{comment(polynomial, '#')}{line}"


def torch_formulas(table: Iterable[Polynomial]) -> str:
    tuples = "\n".join(f"{comment(p, '#')}{tuple_name(p)} = (\n{one_a_line(p, 4)})" for p in table)
    return f'"""{ABOUT}"""\n\n{tuples}\n'


def tuple_name(polynomial: Polynomial) -> str:
    return polynomial.name.upper() + ("" if polynomial.bits == 24 else "_IN_DOUBLE")


def one_a_line(polynomial: Polynomial, indent: int) -> str:
    return "".join(f"{' ' * indent}{c!r},\n" for c in polynomial.coefficients)


def files(table: Sequence[Polynomial]) -> dict[str, str]:
    """Text by path."""
    write = {CPP: cpp, TRITON: triton, TORCH: torch_formulas}
    return {path: write[path]([p for p in table if path in p.used]) for path in write}


def problems(table: Sequence[Polynomial], root: Path = ROOT) -> Iterator[str]:
    for path, text in files(table).items():
        if (root / path).read_text(encoding="utf-8") != text:
            yield f"{path} is not what the table gives: python tools/polynomials.py"
    for polynomial in table:
        coefficients, fit_error = fit(polynomial)
        yield from not_as_stated(polynomial, "error", largest_error(polynomial, polynomial.coefficients))
        yield from not_as_stated(polynomial, "fit_error", fit_error)
        if not polynomial.adopted and rounded(coefficients, polynomial.bits) != rounded(
            polynomial.coefficients, polynomial.bits
        ):
            yield f"{polynomial.label}: not the fit's coefficients, and not adopted"


def not_as_stated(polynomial: Polynomial, field: str, measured: Real) -> Iterator[str]:
    """Two digits are stated, rounded up."""
    stated = getattr(polynomial, field)
    if not 0.9 * stated <= measured <= stated:
        yield f"{polynomial.label}: {field} {shown(stated)} is stated, {mp.nstr(measured, 3)} measured"


def report(polynomial: Polynomial) -> str:
    real, fit_error = fit(polynomial)
    candidates = {"table": polynomial.coefficients, "fit, rounded": real, "fitted again": refit(polynomial)}
    lines = [polynomial.label, f"  fit: error {mp.nstr(fit_error, 3)} of {polynomial.scale_name}"]
    for title, coefficients in candidates.items():
        digits = 9 if polynomial.bits == 24 else 17
        values = ", ".join(mp.nstr(c, digits) for c in rounded(coefficients, polynomial.bits))
        lines.append(f"  {title}: error {mp.nstr(largest_error(polynomial, coefficients), 3)}: {values}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something is not as stated")
    parser.add_argument("--refit", action="store_true", help="write nothing; print new coefficients")
    options = parser.parse_args(arguments)
    if options.refit:
        print("\n".join(map(report, TABLE)))
        return 0
    if not options.check:
        for path, text in files(TABLE).items():
            (ROOT / path).write_text(text, encoding="utf-8")
    wrong = list(problems(TABLE))
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
