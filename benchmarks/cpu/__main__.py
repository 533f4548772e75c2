"""Measures the rows and writes the page; TVM_NUM_THREADS is how many threads everybody has."""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "TVM_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from .compare import disagreements  # noqa: E402
from .measure import Contestant, Flush, ratios, take_turns, threads  # noqa: E402
from .page import write  # noqa: E402
from .peers import gather, versions  # noqa: E402
from .roof import memory_roof  # noqa: E402
from .workloads import Workload, host_isas, workloads  # noqa: E402

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def machine() -> dict[str, Any]:
    """What this machine says it is."""
    names, flags = set(), ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            names.add(value.strip())
        if key.strip() == "flags":
            flags = value
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
    return {
        "cpu": ", ".join(sorted(names)),
        "logical cpus": os.cpu_count(),
        "features": [f for f in wanted if f in flags.split()],
        "load at start": os.getloadavg()[0],
    }


def run(workload: Workload, turns: int, seconds: float, flush: Flush) -> dict[str, Any]:
    """One row: all contestants in turns."""
    mine, others = workload.build()
    own, broken = gather(mine)
    if broken:
        raise RuntimeError(f"{workload.key}: {broken}")
    found, missing = gather(others)
    contestants = [*own, *found]
    taken = take_turns(contestants, turns, flush, cold=workload.cold, seconds=seconds)
    mode = "cold" if workload.cold else "warm"
    return {
        "key": workload.key,
        "family": workload.family,
        "mode": mode,
        "turns": taken,
        "load": os.getloadavg()[0],
        "contestants": [c.row() for c in contestants],
        "missing": missing,
        "ratios": _ratios(own, found, mode),
    }


def _ratios(own: list[Contestant], found: list[Contestant], mode: str) -> list[dict[str, Any]]:
    out = []
    for o in own:
        for p in found:
            out.append({"ours": o.name, "peer": p.name, "kind": p.kind, **ratios(o, p, mode)})
    return out


def main(arguments: Sequence[str]) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu", description=__doc__)
    parser.add_argument("--turns", type=int, default=15, help="interleaved turns of each row")
    parser.add_argument("--seconds", type=float, default=60, help="longest time of a row's turns")
    parser.add_argument(
        "--only", default="", help="rows whose name contains this; the others stay as they were"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the page")
    parser.add_argument("--no-measuring", action="store_true", help="write the page of what there is")
    parser.add_argument("--compare", type=Path, help="JSON of another run: say where the two disagree")
    options = parser.parse_args(arguments)
    name = "cpu" if threads() == 1 else f"cpu-{threads()}-threads"
    path = options.results / f"{name}.json"
    known = json.loads(path.read_text()) if path.exists() else {"rows": []}
    if options.no_measuring:
        if options.compare is None:
            write(known, options.results, name)
    else:
        order = [w.key for w in workloads()]
        if not any(options.only in key for key in order):
            parser.error(f"--only {options.only!r} matches none of {', '.join(order)}")
        flush = Flush()
        done = {row["key"]: row for row in known["rows"]}
        document = {
            "schema_version": 1,
            "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
            "machine": machine(),
            "threads": threads(),
            "versions": versions(),
            "memory roof": memory_roof(host_isas()[0], flush),
        }
        for workload in workloads():
            if options.only in workload.key:
                print(workload.key, flush=True)
                done[workload.key] = run(workload, options.turns, options.seconds, flush)
                gc.collect()
                known = document | {"rows": [done[k] for k in order if k in done]}
                path.write_text(json.dumps(known, indent=1) + "\n")
        write(known, options.results, name)
    if options.compare is not None:
        count, found = disagreements(known, json.loads(options.compare.read_text()))
        print("\n".join([*found, f"{len(found)} of {count} ratios are further apart than their quartiles"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
