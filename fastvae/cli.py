"""The command line: `fastvae demo` and `fastvae info`.

Exit status: 0; 1 where the demo's ways disagree; 2, with one line on stderr, for a wrong argument or a path that cannot
be written; 130 for Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn


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
    except ImportError as error:
        return _fail(str(error), 2)


def _fail(message: str, status: int) -> int:
    print(f"fastvae: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastvae", description="Fused ELBO operators for PyTorch.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser, metavar="demo | info")
    demo = commands.add_parser("demo", help="train a VAE on handwritten digits, naive and fused, and compare")
    demo.add_argument("--quick", action="store_true", help="fewer epochs and rounds: under a minute")
    demo.add_argument("--out", type=Path, help="where to write (default: out/demo)")
    demo.add_argument("--epochs", type=_integer(1, 10**6), help="training epochs for each way")
    demo.add_argument("--threads", type=_integer(1, 1024), help="CPU threads (default: torch's)")
    demo.add_argument("--seed", type=_integer(0, 2**32 - 1), help="seed of weights, batches and noise (default: 0)")
    demo.add_argument("--no-compile", dest="compiled", action="store_false", help="leave the compiled ways out")
    demo.set_defaults(run=_demo)
    info = commands.add_parser("info", help="versions, devices, and which backend serves which")
    info.set_defaults(run=_info)
    return parser


def _integer(least: int, most: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not in {least} to {most}")
        return value

    return integer


def _demo(options: argparse.Namespace) -> int:
    from .training.extras import require

    require("sklearn", "matplotlib", "tqdm", extra="train")
    from .demo.run import run
    from .demo.settings import FULL, QUICK

    given = {name: getattr(options, name) for name in ("out", "epochs", "threads", "seed")}
    given = {name: value for name, value in given.items() if value is not None}
    return run(replace(QUICK if options.quick else FULL, compiled=options.compiled, **given))


def _info(options: argparse.Namespace) -> int:
    from .info import lines

    print("\n".join(lines()))
    return 0
