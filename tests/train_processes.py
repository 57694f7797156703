"""Runs of `fastvae train` that are killed, and that are several processes: what tests/test_train_processes.py looks at.

    python train_processes.py DIR KILLS

torch takes seconds to import, so each run is a fork of this process.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import time
from pathlib import Path

import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo  # the optimiser wants it

import fastvae.training.run  # noqa: F401
from fastvae import cli

RUN = ("--data", "digits", "--hidden", "32", "--latents", "4", "--binarize", "--device", "cpu", "--resume")
PARALLEL = (*RUN, "--epochs", "12", "--objective", "iwae", "--samples", "3")
KILLED = (*RUN, "--epochs", "16")


def start(out: Path, flags: tuple[str, ...], **environment: object) -> int:
    """The process that trains in `out`."""
    pid = os.fork()
    if pid == 0:
        os.environ.update({name: str(value) for name, value in environment.items()})
        with (out.parent / f"{out.name}.log").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os._exit(cli.main(["train", *flags, "--out", str(out)]))
    return pid


def wait(*pids: int) -> None:
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        if status:
            sys.exit(f"a run ended with {os.waitstatus_to_exitcode(status)}")


def killed(out: Path, kills: int, seconds: float) -> int:
    """Kill it that often, at random moments of a run that takes so many seconds; how often it was not yet done."""
    moments = random.Random(0)
    count = 0
    for _ in range(kills):
        pid = start(out, KILLED)
        time.sleep(moments.uniform(0.1, 2) * seconds / kills)
        os.kill(pid, signal.SIGKILL)
        count += os.waitpid(pid, 0)[1] == signal.SIGKILL
    wait(start(out, KILLED))
    return count


def parallel(out: Path, flags: tuple[str, ...], world: int) -> None:
    """What torchrun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": world, "TORCHELASTIC_RUN_ID": "test"}
    wait(*(start(out, flags, RANK=rank, LOCAL_RANK=rank, **shared) for rank in range(world)))


def main(folder: Path, kills: int) -> None:
    torch.set_num_threads(1)
    begin = time.perf_counter()
    wait(start(folder / "whole", KILLED))
    print("kills", killed(folder / "killed", kills, time.perf_counter() - begin))
    wait(start(folder / "one", PARALLEL))
    parallel(folder / "two", PARALLEL, 2)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
