"""Measures what is missing and writes the page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .measure import NETWORKS, Store, run
from .page import write

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def main(arguments: Sequence[str]) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compression", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of CLASS.jpg")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of rows that were measured, to go on from"
    )
    parser.add_argument("--repeats", type=int, default=3, help="seeds 0, 1, ...: other splits of the data")
    parser.add_argument("--only", choices=NETWORKS, help="measure one network; the page shows all")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the page")
    parser.add_argument("--no-measuring", action="store_true", help="write the page of what there is")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    stores = {network: Store(options.out / f"{network}.json") for network in NETWORKS}
    if not options.no_measuring:
        for once in (False, True):  # what is measured once comes last
            for seed in range(options.repeats):
                for network in NETWORKS:
                    if options.only in (None, network):
                        run(network, seed, stores[network], options.images, once=once)
    write([row for store in stores.values() for row in store.rows], options.results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
