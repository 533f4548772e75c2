"""The sweep: chunks of configurations go through any ``concurrent.futures`` executor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from os import PathLike
from pathlib import Path
from typing import Any

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.timing import time_program
from sd_tvm.errors import ConfigError, ConfigMismatchError, DeadlockError
from sd_tvm.explore.area import UNCERTAINTY_PERCENT, area_ge
from sd_tvm.explore.model import Exploration, Point, Refusal
from sd_tvm.explore.programs import ModelPrograms, compile_programs
from sd_tvm.explore.space import Assignment, Space
from sd_tvm.report.build import package_versions

#: Configurations of one task: large enough that sending the programs does not matter.
CHUNK = 16
_PS = 1_000_000  # picoseconds of a cycle at 1 MHz

Progress = Callable[[str, int, int], None]
Job = tuple[int, Assignment]


def explore(
    model: Any,
    space: Space | str | Path,
    *,
    executor: Executor | None = None,
    title: str | None = None,
    progress: Progress | None = None,
) -> Exploration:
    """Time a model on every configuration of a space.

    The model is compiled once, for the base configuration with the smallest of each on-chip memory that the
    space lists: what an instruction means does not depend on the configuration, so these programs run on all
    of them. Every point uses the tiles that suit the base and the smallest memories; a compile of its own
    could do better there. To judge a point, put its values into a YAML file and run ``sd-tvm profile``.

    Parameters
    ----------
    model
        A compressed model, a ``.sd`` file, a Relax module, or whatever ``sd_tvm.load_model`` takes.
    space
        The space, or its YAML file.
    executor
        Any ``concurrent.futures`` executor (also those of Dask and Ray); None: this thread.
    title
        Heading.
    progress
        Called with (step, done, total).

    Returns
    -------
    Exploration
        The same for every executor.

    Raises
    ------
    ConfigError
        If the space is invalid, or no candidate is a valid configuration.
    OptionError
        If no layer runs on the accelerator.
    FormatError, UnsupportedModelError
        If the model cannot be read.
    """
    say = progress or (lambda _step, _done, _total: None)
    chosen = space if isinstance(space, Space) else Space.load(space)
    jobs = list(enumerate(chosen.assignments()))
    first = _to_compile_for(chosen, jobs)
    say("compile", 0, 1)
    target = chosen.smallest(first)
    programs = compile_programs(model, target)
    say("compile", 1, 1)
    results: list[Point | Refusal] = []
    say("time", 0, len(jobs))
    for part in _chunks(executor, chosen, programs.programs, jobs):
        results += part
        say("time", len(results), len(jobs))
    name = Path(model).name if isinstance(model, str | PathLike) else "model"
    return Exploration(
        title=title or f"{name} on {len(jobs)} variants of {first.name}",
        space=chosen,
        points=tuple(r for r in results if isinstance(r, Point)),
        refused=tuple(r for r in results if isinstance(r, Refusal)),
        compiled_for=dict(target.sram.model_dump()),
        calls=programs.calls,
        instructions=programs.instructions,
        notes=_notes(programs),
        versions=package_versions(),
    )


def evaluate(
    space: Space, programs: Sequence[tuple[bytes, int]], jobs: Iterable[Job]
) -> list[Point | Refusal]:
    """Points of some candidates: what one task of an executor does.

    Parameters
    ----------
    space
        The space.
    programs
        Programs and how many calls run each.
    jobs
        Place and values of each candidate.
    """
    base = AcceleratorConfig.load(space.base)  # once: reading YAML takes longer than timing a network
    return [_evaluate(space, base, programs, index, values) for index, values in jobs]


def _evaluate(
    space: Space,
    base: AcceleratorConfig,
    programs: Sequence[tuple[bytes, int]],
    index: int,
    values: Assignment,
) -> Point | Refusal:
    cycles = energy = moved = 0
    try:
        config = space.configuration(values, f"candidate-{index}", base=base)
        if config.array.rebuilt_bits not in (None, base.array.rebuilt_bits):
            raise ConfigError(
                f"array.rebuilt_bits {config.array.rebuilt_bits}, and programs compiled without that bound",
                expected=f"the base's own, {base.array.rebuilt_bits}",
                fix="take a base with narrow multipliers, 'smartexchange-28nm-narrow'",
            )
        text = config.to_text()
        for program, count in programs:
            stats = time_program(program, text)
            cycles += count * stats["cycles"]
            energy += count * stats["energy_total_fj"]
            moved += count * sum(n for name, n in stats["events"].items() if _is_dram(name))
    except (ConfigError, ConfigMismatchError, DeadlockError) as error:
        return Refusal(index, values, str(error))
    time_ps = -(-cycles * _PS // config.clock_mhz)
    return Point(index, values, cycles, time_ps, energy, moved, area_ge(config))


def _is_dram(event: str) -> bool:
    return event.startswith(("dram_read", "dram_write"))


def _chunks(
    executor: Executor | None, space: Space, programs: Sequence[tuple[bytes, int]], jobs: Sequence[Job]
) -> Iterable[list[Point | Refusal]]:
    parts = [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)]
    if executor is None:
        yield from (evaluate(space, programs, part) for part in parts)
        return
    futures = [executor.submit(evaluate, space, programs, part) for part in parts]
    try:
        for future in futures:  # in the order of the space, whoever finishes first
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def _to_compile_for(space: Space, jobs: Sequence[Job]) -> AcceleratorConfig:
    """The base, or the first valid candidate with rebuild engines if the base cannot hold SD form."""
    base = AcceleratorConfig.load(space.base)
    problem: ConfigError | None = None
    valid = False
    for _, values in jobs:
        try:
            config = space.configuration(values, base=base)
        except ConfigError as error:
            problem = problem or error
            continue
        valid = True
        if base.rebuilds or config.rebuilds:
            return base if base.rebuilds else config
    if valid:
        return base
    raise ConfigError(
        f"none of the {len(jobs)} candidates is a valid configuration; the first one: {problem}",
        expected="values that go together",
        fix="correct the space",
    )


_PROGRAMS_NOTE = (
    "Compiled once, for the base configuration with the smallest memories of the space; every configuration "
    "runs the same programs. Away from the base, a compile of its own chooses other tiles and may differ "
    "much: check a choice with `sd-tvm profile --config`."
)
_AREA_NOTE = (
    f"Area is a proxy in gate equivalents: an estimate, ±{UNCERTAINTY_PERCENT} % a block, no synthesis. "
    "It leaves out instruction supply, DRAM interface, wiring and clock tree."
)
_SUM_NOTE = "Times and energies are of the layers on the accelerator, one after the other."


def _notes(programs: ModelPrograms) -> tuple[str, ...]:
    notes = [_PROGRAMS_NOTE, _AREA_NOTE, _SUM_NOTE]
    if programs.on_cpu:
        notes.append(f"Not counted, these layers stay on the CPU: {', '.join(programs.on_cpu)}.")
    return tuple(notes)
