"""Compare full-size networks of relay.testing: Relay's result and that of the import.

    python data/make_nets.py full FOLDER            # in an environment with Relay
    python -m relay_import.nets FOLDER [NAME ...]   # here, from tests/

Prints one row of a table for each network, as ``docs/from-relay.md`` shows them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import sd_tvm.relay

LIMIT = 1e-5


def compare(path: Path) -> tuple[str, float]:
    """A row of the table, and the largest difference relative to the largest output."""
    mod = sd_tvm.relay.load(path)
    stored = np.load(path.with_suffix(".npz"))
    library = sd_tvm.relay.build(mod, target="llvm")
    library.run(**{name: stored[name] for name in stored.files if name != "output"})
    got, expected = library.get_output(0).numpy(), stored["output"]
    difference, largest = float(np.abs(got - expected).max()), float(np.abs(expected).max())
    shape = "x".join(map(str, expected.shape))
    return f"| {path.stem} | {shape} | {largest:.3g} | {difference:.1e} |", difference


def main() -> int:
    """Compare; returns 1 if a network differs by more than :data:`LIMIT`."""
    folder, *names = sys.argv[1:]
    print("| network | output | largest value | largest difference |\n|---|---|---|---|")
    bad = 0
    for path in sorted(Path(folder).glob("*.json")):
        if not names or path.stem in names:
            row, difference = compare(path)
            print(row, flush=True)
            bad |= difference > LIMIT
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
