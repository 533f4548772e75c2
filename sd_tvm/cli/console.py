"""What commands print: errors, progress, tables."""

from __future__ import annotations

import logging
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
)

from sd_tvm.errors import SDError

#: Called with (step, done, total); total 0 means that the number of steps is unknown.
Reporter = Callable[[str, int, int], None]


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
    )
    console = err()
    if not console.is_terminal:  # a log: one line a step
        started: set[str] = set()

        def log(step: str, _done: int, total: int) -> None:
            if step not in started:
                started.add(step)
                console.print(f"{step} ({total} steps)" if total > 1 else step)

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
