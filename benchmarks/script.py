"""What the scripts that measure one thing by themselves are told."""

from __future__ import annotations

import argparse

import torch


def parser_of(description: str | None, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def options_of(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parsed, and the threads set."""
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options
