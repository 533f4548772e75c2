"""What commands print: errors, progress, tables."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sd_tvm.errors import SDError

#: Called with (step, done, total); total 0 means that the number of steps is unknown.
Reporter = Callable[[str, int, int], None]
#: A log hears of a long step every so many seconds.
LOG_SECONDS = 15.0


def out() -> Console:
    """Console of results. Made on use, so that redirection of stdout is respected."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 200)  # tables in files and pipes keep their columns
    return console


def err() -> Console:
    """Console of messages."""
    return Console(stderr=True, highlight=False)


def show_error(error: SDError) -> None:
    """One message: what was found, what was expected, what to do."""
    console = err()
    console.print(f"[bold red]error:[/] {_safe(error.found)}", soft_wrap=True)
    if error.expected:
        console.print(f"  [bold]expected:[/] {_safe(error.expected)}", soft_wrap=True)
    if error.fix:
        console.print(f"  [bold]what to do:[/] {_safe(error.fix)}", soft_wrap=True)


@contextmanager
def progress() -> Iterator[Reporter]:
    """Progress bars for everything that takes longer than a moment.

    Yields
    ------
    callable
        ``report(step, done, total)``; a new step starts a new bar, ``done == total`` ends it.
    """
    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = err()
    if not console.is_terminal:  # a log: one line a step, and how far a long one is
        started: dict[str, float] = {}
        last = [0.0]

        def log(step: str, done: int, total: int) -> None:
            now = time.monotonic()
            if step not in started:
                started[step] = last[0] = now
                console.print(f"{step} ({total} steps)" if total > 1 else step)
            elif 0 < done < total and now - last[0] >= LOG_SECONDS:
                last[0] = now
                left = (now - started[step]) * (total - done) / done
                console.print(f"{step} {done}/{total}, about {left:.0f} s left")

        with quiet_libraries():
            yield log
        return
    with quiet_libraries(), Progress(*columns, console=console) as bars:
        tasks: dict[str, object] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total or None)
            task = tasks[step]
            bars.update(task, completed=done, total=total or None)  # type: ignore[arg-type]

        yield report


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep informational log lines of libraries out of progress bars."""
    loggers = [logging.getLogger(name) for name in ("torch", "matplotlib", "tvm")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape(text)
