"""A compression in a process of its own, which a test ends; run as a script.

    python killed.py CHECKPOINT OUTPUT GOAL WRITE

GOAL is ``recipe`` or ``size``. After each step the script says what was done and waits for a line. With WRITE
>= 0 it kills itself inside that write of a checkpoint file, half of which is on the disk then.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import sd_tvm
from sd_tvm.recipe import Recipe


def run(checkpoint: str | None, goal: str, progress: Any = None) -> sd_tvm.CompressedModel:
    """The compression that is interrupted."""
    from calibration.streaming import Drawn, blocks

    how: dict[str, Any] = (
        {"recipe": Recipe.named("codebook64")} if goal == "recipe" else {"budget": {"size": 2.0}}
    )
    return sd_tvm.compress(blocks(), calibration=Drawn(6), checkpoint=checkpoint, progress=progress, **how)


def _report(step: str, done: int, total: int) -> None:
    print(step, done, total, flush=True)
    if not sys.stdin.readline():
        os._exit(1)


def _die_in_write(which: int) -> None:
    count = -1
    sync = os.fsync

    def fsync(fd: int) -> None:
        nonlocal count
        if Path(f"/proc/self/fd/{fd}").is_file():
            count += 1
            if count == which:
                os.ftruncate(fd, os.fstat(fd).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        sync(fd)

    os.fsync = fsync


if __name__ == "__main__":
    if int(sys.argv[4]) >= 0:
        _die_in_write(int(sys.argv[4]))
    run(sys.argv[1], sys.argv[3], _report).save(sys.argv[2])
