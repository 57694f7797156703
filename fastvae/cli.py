"""The command line: `fastvae demo`, `train`, `sample`, `evaluate`, `bench`, `compare`, `report` and `info`.

Exit status: 0; 1 where the demo's ways disagree, a variant of fastvae's is wrong, or a comparison is past its
threshold; 2, with one line on stderr, for a wrong argument, what cannot be read, a training step that is not finite, or
a path that cannot be written; 130 for Ctrl-C, 143 for SIGTERM in training.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from .measure.reports.document import ReportError
from .training.errors import TrainingError
from .training.flags import add_commands, whole


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")  # one line; `--help` shows the usage


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments` (sys.argv by default) and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except OSError as error:
        return _fail(f"{error.filename or options.command}: {error.strerror or error}", 2)
    except (ImportError, ReportError, TrainingError) as error:
        return _fail(str(error), 2)


def _fail(message: str, status: int) -> int:
    print(f"fastvae: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastvae", description="Fused ELBO operators for PyTorch.")
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        parser_class=_Parser,
        metavar="COMMAND",
    )
    demo = commands.add_parser("demo", help="train a VAE on handwritten digits, naive and fused, and compare")
    demo.add_argument("--quick", action="store_true", help="fewer epochs and rounds: under a minute")
    demo.add_argument("--out", type=Path, help="where to write (default: out/demo)")
    demo.add_argument("--epochs", type=whole(1, 10**6), help="training epochs for each way")
    demo.add_argument("--threads", type=whole(1, 1024), help="CPU threads (default: torch's)")
    demo.add_argument("--seed", type=whole(0, 2**32 - 1), help="seed of weights, batches and noise (default: 0)")
    demo.add_argument("--no-compile", dest="compiled", action="store_false", help="leave the compiled ways out")
    demo.set_defaults(run=_demo)
    add_commands(commands)
    bench = commands.add_parser("bench", help="measure this machine; leaves a report")
    bench.add_argument("--suite", choices=("quick", "full"), default="quick", help="default: quick, some three minutes")
    bench.add_argument("--out", type=Path, default=Path("report.json"), help="the report (default: report.json)")
    bench.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU where one is")
    bench.add_argument("--threads", type=whole(1, 1024), default=2, help="CPU threads (default: 2)")
    bench.add_argument("-k", dest="select", default="", metavar="EXPR", help='only these: "bernoulli and fp32"')
    bench.set_defaults(run=_bench)
    compare = commands.add_parser("compare", help="two reports: what moved by more than noise")
    compare.add_argument("before", type=Path, metavar="A.json")
    compare.add_argument("after", type=Path, metavar="B.json")
    compare.add_argument("--fail-above", type=_ratio, metavar="R", help="exit status 1 where B takes R times as long")
    compare.set_defaults(run=_compare)
    report = commands.add_parser("report", help="a report as tables")
    report.add_argument("report", type=Path, metavar="A.json")
    report.set_defaults(run=_report)
    for reader in (compare, report):
        reader.add_argument("--markdown", action="store_true", help="print a Markdown document")
        reader.add_argument("--plots", type=Path, metavar="DIR", help="write pictures to DIR")
    info = commands.add_parser("info", help="versions, devices, and which backend serves which")
    info.set_defaults(run=_info)
    return parser


def _ratio(text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)) and value > 0:
            return value
    raise argparse.ArgumentTypeError(f"{text} is no ratio; 1.05 allows five per cent")


def _demo(options: argparse.Namespace) -> int:
    from .extras import require

    require("sklearn", "matplotlib", "tqdm", "PIL", extra="train")
    from .demo.run import run
    from .demo.settings import FULL, QUICK

    given = {name: getattr(options, name) for name in ("out", "epochs", "threads", "seed")}
    given = {name: value for name, value in given.items() if value is not None}
    return run(replace(QUICK if options.quick else FULL, compiled=options.compiled, **given))


def _bench(options: argparse.Namespace) -> int:
    from .measure.suite import measure

    select = ["-k", options.select] if options.select else []
    given = [f"--suite={options.suite}", f"--device={options.device}", f"--threads={options.threads}", *select]
    return measure(options.out, given)


def _compare(options: argparse.Namespace) -> int:
    from .measure.reports import compare, document, render

    _check_plots(options)
    comparison = compare.compare(document.read(options.before), document.read(options.after))
    print(render.comparison(comparison, options.fail_above, options.markdown), end="")
    if options.plots is not None:
        from .measure.reports import plots

        _written(plots.of_comparison(comparison, options.plots))
    return 1 if options.fail_above is not None and comparison.slower_than(options.fail_above) else 0


def _report(options: argparse.Namespace) -> int:
    from .measure.reports import document, render

    _check_plots(options)
    report = document.read(options.report)
    print(render.report(report, options.markdown), end="")
    if options.plots is not None:
        from .measure.reports import plots

        _written(plots.of_report(report, options.plots))
    return 0


def _check_plots(options: argparse.Namespace) -> None:
    """Before anything is computed."""
    if options.plots is not None:
        from .extras import require
        from .files import writable_directory

        require("matplotlib", extra="bench")
        writable_directory(options.plots)


def _written(paths: Sequence[Path]) -> None:
    print("written: " + ", ".join(map(str, paths)), file=sys.stderr)


def _info(options: argparse.Namespace) -> int:
    from .info import lines

    print("\n".join(lines()))
    return 0
