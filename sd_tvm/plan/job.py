"""A compile job: what a process whose TVM has Relay asks of an interpreter that has sd-tvm's TVM.

A job is a folder. The asking side writes ``job.json``, ``module.json`` (``tvm.ir.save_json`` of a Relay
module, types inferred) and, for a calibration, ``example-<number>-<input>.npy``; :mod:`.serve` writes
``plan`` (:mod:`.model`), ``model.sd`` and ``result.json``, which holds a typed error if there is one.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm import errors
from sd_tvm.errors import FormatError, OptionError, SDError
from sd_tvm.plan.model import Plan

VERSION = 1
JOB, MODULE, PLAN, MODEL, RESULT = "job.json", "module.json", "plan", "model.sd", "result.json"
#: Names the interpreter that compiles.
INTERPRETER = "SD_TVM_PYTHON"
#: They would show the other interpreter the wrong packages.
_HIDDEN = ("PYTHONPATH", "PYTHONHOME", "TVM_HOME", "TVM_LIBRARY_PATH")
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Job:
    """What to compile.

    Attributes
    ----------
    config
        Text of the accelerator's configuration; empty: code for the CPU.
    recipe
        A recipe as data (:meth:`sd_tvm.recipe.Recipe.to_dict`).
    calibration
        How many examples there are; 0: none, activation scales are computed at run time.
    version
        Of this interface.
    """

    config: str
    recipe: Mapping[str, Any]
    calibration: int = 0
    version: int = VERSION


@dataclass(frozen=True)
class Result:
    """What came back."""

    plan: Plan
    warnings: tuple[str, ...]


def write_job(folder: Path, job: Job, module: str, examples: Iterable[tuple[Array, ...]] = ()) -> None:
    """Write the files of a job; ``examples`` are as many as ``job.calibration`` says."""
    for i, example in enumerate(examples):
        for k, array in enumerate(example):
            np.save(folder / f"example-{i}-{k}.npy", array)
    (folder / MODULE).write_text(module)
    (folder / JOB).write_text(json.dumps(asdict(job), sort_keys=True))


def read_job(folder: Path) -> tuple[Job, str, list[tuple[Array, ...]]]:
    """The job, its module and its examples.

    Raises
    ------
    FormatError
        If the folder holds no job of this version.
    """
    try:
        job = Job(**json.loads((folder / JOB).read_text()))
        module = (folder / MODULE).read_text()
        examples = []
        for i in range(job.calibration):
            n_inputs = len(list(folder.glob(f"example-{i}-*.npy")))
            examples.append(tuple(np.load(folder / f"example-{i}-{k}.npy") for k in range(n_inputs)))
    except (OSError, TypeError, ValueError) as error:
        raise FormatError(f"no compile job: {error!r:.200}", expected="a folder of write_job") from error
    if job.version != VERSION:
        raise FormatError(
            f"a compile job of version {job.version}",
            expected=f"version {VERSION}",
            fix="install the same version of sd-tvm in both environments",
        )
    return job, module, examples


def write_result(folder: Path, warnings: list[str], error: SDError | None = None) -> None:
    """Write ``result.json``."""
    facts: dict[str, Any] = {"version": VERSION, "warnings": warnings}
    if error is not None:
        facts["error"] = {
            "kind": type(error).__name__,
            "found": error.found,
            "expected": error.expected,
            "fix": error.fix,
        }
    (folder / RESULT).write_text(json.dumps(facts, sort_keys=True))


def run_job(folder: Path, python: str | os.PathLike[str] | None = None) -> Result:
    """Compile a job with another interpreter.

    Parameters
    ----------
    folder
        The job.
    python
        An interpreter where sd-tvm is installed with everything it needs; None: what the environment variable
        ``SD_TVM_PYTHON`` names.

    Raises
    ------
    OptionError
        If there is no such interpreter, or it cannot compile.
    SDError
        What the compilation raised, of its own type.
    """
    chosen = python or os.environ.get(INTERPRETER)
    fix = f"install sd-tvm in an environment of its own and set {INTERPRETER} to its python (docs/relay.md)"
    if not chosen:
        raise OptionError(
            "no interpreter to compile with: the compiler needs apache-tvm 0.27, this process has another",
            expected=f"python= or {INTERPRETER}",
            fix=fix,
        )
    environment = {k: v for k, v in os.environ.items() if k not in _HIDDEN}
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter is the user's choice
            [os.fspath(chosen), "-m", "sd_tvm.plan.serve", os.fspath(folder)],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
            check=False,
        )
    except OSError as error:
        raise OptionError(
            f"{chosen} does not run ({error})", expected="a Python interpreter", fix=fix
        ) from error
    if not (folder / RESULT).is_file():
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise OptionError(
            f"{chosen} cannot compile: {lines[-1][:300]}", expected="sd-tvm installed there", fix=fix
        )
    facts = json.loads((folder / RESULT).read_text())
    if "error" in facts:
        raise _error(facts["error"])
    return Result(Plan.from_bytes((folder / PLAN).read_bytes()), tuple(facts["warnings"]))


def _error(facts: Mapping[str, str]) -> SDError:
    kind = getattr(errors, facts["kind"], SDError)
    cls = kind if isinstance(kind, type) and issubclass(kind, SDError) else SDError
    return cls(facts["found"], expected=facts["expected"], fix=facts["fix"])
