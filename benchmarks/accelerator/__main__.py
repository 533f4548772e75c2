"""Measures all networks and writes the page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from .measure import SD_4_16, UNFUSED, VARIANTS, Run, can_fuse, measure, ratio
from .networks import NETWORKS, Network
from .page import Result, page
from .real import run_real
from .weights import Prepared

PAGE = Path(__file__).parents[2] / "docs" / "results" / "accelerator.md"


def run(network: Network) -> Result:
    """Measure a network in every variant."""
    torch.manual_seed(0)
    prepared = Prepared(network.build().eval(), network.examples())
    runs: dict[bool, dict[str, Run]] = {fused: {} for fused in ((False, True) if can_fuse() else (False,))}
    kinds: dict[str, int] = {}
    for variant in VARIANTS:
        model = prepared.integer(variant.recipe(first_int8=network.first_int8))
        if variant == SD_4_16:
            kinds = model.kinds
        for fused, found in runs.items():
            if not fused and can_fuse() and variant not in UNFUSED:
                continue
            found[variant.name] = measure(model, variant, fused=fused)
            energy = ratio(found[VARIANTS[0].name], found[variant.name])
            _say(f"{network.name}, {variant.name}, fusion {'on' if fused else 'off'}: {energy[0]:.2f}x")
    return Result(network, kinds, runs)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE, help="file to write")
    parser.add_argument("network", nargs="*", help="parts of names; default: all networks")
    options = parser.parse_args(arguments)
    chosen = [n for n in NETWORKS if not options.network or any(x in n.name for x in options.network)]
    results = [run(n) for n in chosen]
    executed = run_real() if any(n is NETWORKS[0] for n in chosen) else []
    options.page.write_text(page(results, executed), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
