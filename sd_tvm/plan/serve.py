"""``python -m sd_tvm.plan.serve FOLDER``: compiles a job of :mod:`sd_tvm.plan.job` and ends."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.errors import OptionError, SDError
from sd_tvm.plan.job import MODEL, PLAN, read_job, write_result


class _Kept(logging.Handler):
    """Warnings, as text."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.lines.append(record.getMessage())


def serve(folder: Path) -> None:
    """Compile a job; ``result.json`` says how it went.

    Raises
    ------
    FormatError
        If the folder is no job; every other typed error is written to the folder.
    """
    job, text, examples = read_job(folder)
    kept = _Kept()
    logging.getLogger("sd_tvm").addHandler(kept)
    try:
        from sd_tvm.compression import compress
        from sd_tvm.plan.build import build_plan
        from sd_tvm.recipe import Recipe
        from sd_tvm.relay import load

        model = compress(load(text), recipe=Recipe.from_dict(job.recipe), calibration=examples or None)
        model.save(folder / MODEL)
        config = AcceleratorConfig.from_text(job.config) if job.config else None
        plan = build_plan(model.to_relax(), config, notes=model.notes)
        (folder / PLAN).write_bytes(plan.to_bytes())
    except SDError as error:
        write_result(folder, kept.lines, error)
    else:
        write_result(folder, kept.lines)
    finally:
        logging.getLogger("sd_tvm").removeHandler(kept)


def main(arguments: list[str]) -> int:
    """Entry point; the exit status."""
    if len(arguments) != 1:
        raise OptionError(f"{len(arguments)} arguments", expected="the folder of a job")
    serve(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
