"""Measures the rows and writes the page; TVM_NUM_THREADS is how many threads everybody has."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "TVM_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from sd_tvm.bench.machine import machine, versions  # noqa: E402
from sd_tvm.bench.roof import MemoryRoof, arithmetic_roofs  # noqa: E402
from sd_tvm.bench.turns import Flush, threads  # noqa: E402
from sd_tvm.errors import OptionError, SDError, UnsupportedCPUError  # noqa: E402

from . import ggml  # noqa: E402
from .avx2 import bits, check, device  # noqa: E402
from .compare import disagreements  # noqa: E402
from .page import write  # noqa: E402
from .suite import Row, run  # noqa: E402
from .workloads import host_isas, workloads  # noqa: E402

#: Of the JSON.
SCHEMA = 2
RESULTS = Path(__file__).parents[2] / "docs" / "results"
#: Instruction sets that the peers can be restricted to.
RESTRICTED = ("avx2",)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="times that a row's turns are taken")
    parser.add_argument("--turns", type=int, default=5, help="interleaved turns of a row in a round")
    parser.add_argument("--seconds", type=float, default=4, help="longest time of a row's turns in a round")
    parser.add_argument(
        "--only", default="", help="rows whose name contains this; the others stay as they were"
    )
    parser.add_argument("--isa", default="", choices=("", *RESTRICTED), help="restrict everybody to it")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "sd-tvm-avx2", help="copies of the peers"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the page")
    parser.add_argument("--no-measuring", action="store_true", help="write the page of what there is")
    parser.add_argument("--compare", type=Path, help="JSON of another run: say where the two disagree")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.turns < 1:
        parser.error("--rounds and --turns are 1 or more")
    options.error = parser.error
    return options


def main(arguments: Sequence[str]) -> int:
    """Measure and write."""
    options = _options(arguments)
    isas = host_isas(options.isa)
    if not isas:
        options.error(f"this machine has no {options.isa or 'instruction set of the table'}")
    parts = ["cpu", options.isa, "" if threads() == 1 else f"{threads()}-threads"]
    name = "-".join(p for p in parts if p)
    path = options.results / f"{name}.json"
    if options.no_measuring:
        known = _read(path)
    else:
        known = json.loads(path.read_text()) if path.exists() else {}
        if known.get("schema_version") != SCHEMA:
            known = {"rows": []}
        if options.isa and not device.active():
            environment = device.prepare(options.cache)
            os.execve(sys.executable, [sys.executable, "-m", str(__package__), *arguments], environment)
        known = _measure(options, isas, known, path)
    if not options.no_measuring or options.compare is None:
        write(known, options.results, name)
    if options.compare is not None:
        count, found = disagreements(known, _read(options.compare))
        print("\n".join([*found, f"{len(found)} of {count} ratios are further apart than their spread"]))
    return 0


def _read(path: Path) -> dict[str, Any]:
    """Document of a run.

    Raises
    ------
    OptionError
        If its schema is another one.
    """
    document: dict[str, Any] = json.loads(path.read_text())
    if document.get("schema_version") != SCHEMA:
        raise OptionError(
            f"{path}: schema {document.get('schema_version')}",
            expected=f"schema {SCHEMA}",
            fix="measure again",
        )
    return document


def _measure(options: argparse.Namespace, isas: Any, known: dict[str, Any], path: Path) -> dict[str, Any]:
    every = list(workloads(isas))
    order = [w.key for w in every]
    rows = [Row(w) for w in every if options.only in w.key]
    if not rows:
        options.error(f"--only {options.only!r} matches none of {', '.join(order)}")
    document: dict[str, Any] = {
        "schema_version": SCHEMA,
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "machine": machine(),
        "threads": threads(),
        "versions": {**versions(), **ggml.version()},
        "rounds": options.rounds,
    }
    if device.active():
        document["restricted"] = {
            "isa": options.isa,
            "without": bits.names(),
            "replaced": device.replaced(options.cache),
            **check.check(),
        }
    flush, start = Flush(), time.monotonic()
    roof = MemoryRoof(isas[0], flush)
    roof.measure(3)
    document["arithmetic roofs"] = {isa.name: arithmetic_roofs(isa) for isa in isas}
    done = {row["key"]: row for row in known["rows"]}

    def before() -> None:
        if device.active():
            device.zmm_states(forget=True)  # other libraries than the peers may use it while rows are built

    def after(row: Row) -> None:
        if device.active() and device.zmm_states():
            raise UnsupportedCPUError(
                f"AVX-512 state was used in {row.workload.key}: {check.words(device.zmm_states())}"
            )
        done[row.workload.key] = row.document()
        roof.measure()  # other work on the machine takes bandwidth: the roof is the best of the run
        document["memory roof"] = roof.document()
        document["minutes"] = round((time.monotonic() - start) / 60, 1)
        document["rows"] = [done[k] for k in order if k in done]
        path.write_text(json.dumps(document, indent=1) + "\n")

    for number, row in run(
        rows, options.rounds, options.turns, options.seconds, flush, before=before, after=after
    ):
        print(f"round {number + 1} of {options.rounds}: {row.workload.key}", flush=True)
    return document


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SDError as error:
        sys.exit(f"error: {error}")
