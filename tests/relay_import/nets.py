"""Compare full-size networks of relay.testing: Relay's result and that of the import.

    python data/make_nets.py full FOLDER            # in an environment with Relay
    python -m relay_import.nets FOLDER [NAME ...]   # here, from tests/

Prints one row of a table for each output, as ``docs/from-relay.md`` shows them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import sd_tvm.relay

LIMIT = 1e-5


def compare(path: Path) -> tuple[list[str], bool]:
    """Rows of the table, one for each output, and whether all outputs agree."""
    mod = sd_tvm.relay.load(path)
    stored = np.load(path.with_suffix(".npz"))
    library = sd_tvm.relay.build(mod, target="llvm")
    library.run(**{name: stored[name] for name in stored.files if not name.startswith("output")})
    rows, good = [], True
    for k in range(library.get_num_outputs()):
        got, expected = library.get_output(k).numpy(), stored[f"output{k}"]
        difference, largest = float(np.abs(got - expected).max()), float(np.abs(expected).max())
        shape = "x".join(map(str, expected.shape))
        rows.append(f"| {path.stem} | {shape} | {largest:.3g} | {difference:.1e} |")
        good &= difference <= LIMIT * max(1.0, largest)
    return rows, good


def main() -> int:
    """Compare; returns 1 if a network differs by more than :data:`LIMIT`, relative to values beyond one."""
    folder, *names = sys.argv[1:]
    print("| network | output | largest value | largest difference |\n|---|---|---|---|")
    bad = False
    for path in sorted(Path(folder).glob("*.json")):
        if not names or path.stem in names:
            rows, good = compare(path)
            print("\n".join(rows), flush=True)
            bad |= not good
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
