"""Kernels chosen by time: the rows and tiles that can compute a layer are run here, the fastest is kept.

A layer has a dozen candidates at most, so each is timed: there is nothing for a cost model to guess.
:mod:`sd_tvm.schedules.cpu.cost` orders them, and stands where nothing was timed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import tvm
from sd_tvm.errors import OptionError
from sd_tvm.layers import LANES, ConvLayer, blocks16
from sd_tvm.schedules.cpu.epilogue import stored
from sd_tvm.schedules.cpu.guard import QUESTIONS
from sd_tvm.schedules.cpu.isa import Isa, features_of, platform_of
from sd_tvm.schedules.cpu.scaling import Scaling, scaling_of
from sd_tvm.schedules.cpu.table import Kernel, ranked
from sd_tvm.schedules.database import Database

Array = npt.NDArray[Any]
#: A candidate takes the place of the estimate's choice only if its time is below this share.
_BETTER = 0.97
#: Seconds that a candidate is run for, at least twice.
_SECONDS = 0.02


class KernelDatabase(Database):
    """Kernels that were found by time, for reuse."""

    kind = "kernels"

    @staticmethod
    def plausible(entry: dict[str, Any]) -> bool:
        """Whether it is an object; which layer it fits is checked when it is asked for."""
        return isinstance(entry, dict)

    def get(self, layer: ConvLayer, isas: Sequence[Isa], processor: str) -> Kernel | None:
        """The kernel of a layer, None if it is not known.

        Raises
        ------
        FormatError
            If it is none that can compute the layer.
        """
        entry = self.entries.get(_key(layer, processor))
        if entry is None:
            return None
        try:
            wanted = (str(entry["operation"]), str(entry["isa"]), int(entry["tile"]))
        except (KeyError, TypeError, ValueError) as error:
            raise self.broken(f"layer {layer.name}: {error!r}") from error
        for kernel in candidates(layer, isas):
            if (kernel.operation, kernel.isa.name, kernel.tile) == wanted:
                return kernel
        raise self.broken(f"layer {layer.name}: no kernel {wanted}")

    def put(self, layer: ConvLayer, processor: str, kernel: Kernel, **about: Any) -> None:
        """Remember a kernel; ``about``: how it was found, for readers."""
        entry = {"layer": layer.name, "processor": processor, **about}
        entry |= {"operation": kernel.operation, "isa": kernel.isa.name, "tile": kernel.tile}
        self.add(_key(layer, processor), entry)


def _key(layer: ConvLayer, processor: str) -> str:
    """Digest of a layer without its name, and of the processor."""
    known = json.dumps({**asdict(layer), "name": "", "processor": processor}, sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()[:32]


def candidates(layer: ConvLayer, isas: Sequence[Isa]) -> list[Kernel]:
    """Rows that can compute a layer, the estimate's choice first, each with several tiles."""
    found = [kernel for isa in isas for kernel in ranked(layer, isa)]
    smaller = [
        replace(kernel, tile=tile)
        for kernel in found
        for tile in (-(-kernel.tile * 3 // 4), -(-kernel.tile // 2))
        if tile < kernel.tile
    ]
    return list(dict.fromkeys([*found, *smaller]))


class KernelTuning:
    """What LowerToCPU asks for a layer's kernel.

    Parameters
    ----------
    database
        Kernels that are known, or the path of their file.
    tune
        For layers that it does not know: how many candidates to time; 0: none.
    progress
        Called with (layers done, layers) while timing.

    Raises
    ------
    FormatError
        If the file is of another kind.
    """

    def __init__(
        self,
        database: KernelDatabase | str | Path | None = None,
        tune: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.database = database if isinstance(database, KernelDatabase) else KernelDatabase(database)
        self.tune, self.progress = tune, progress

    def kernel(
        self, layer: ConvLayer, isas: Sequence[Isa], target: Any, operands: Sequence[Array]
    ) -> Kernel | None:
        """The layer's kernel; None: nothing is known and nothing is to be timed, or no row computes it.

        Raises
        ------
        OptionError
            If candidates are to be timed and this processor cannot run the target's code.
        FormatError
            If the database holds no kernel for such a layer under its key.
        """
        processor = str(target.attrs.get("mcpu") or "generic")
        known = self.database.get(layer, isas, processor)
        tried = candidates(layer, isas)[: self.tune]
        if known is not None or not tried:
            return known
        _check_runs_here(target)
        scaling = scaling_of(layer, operands[-1], operands[:-1])
        times = {k: _seconds(k, layer, target, operands, scaling) for k in tried}
        best = min(tried, key=lambda k: times[k])
        if times[best] > _BETTER * times[tried[0]]:
            best = tried[0]
        self.database.put(layer, processor, best, tried=len(tried))
        return best


def _check_runs_here(target: Any) -> None:
    name = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()
    here = tvm.target.Target({"kind": "llvm", "mcpu": name})
    platform = platform_of(here)
    # LLVM's features include advice for its scheduler; a processor has those it can be asked for
    lacks = (features_of(target) - features_of(here)) & set(QUESTIONS.get(platform, ()))
    if platform_of(target) != platform or lacks:
        raise OptionError(
            f"kernels for {target.attrs.get('mcpu')} cannot be timed on this machine",
            expected="a target whose code runs here",
            fix="tune on that machine, and bring the file of kernels here",
        )


def _seconds(
    kernel: Kernel, layer: ConvLayer, target: Any, operands: Sequence[Array], scaling: Scaling
) -> float:
    """Least time of a call, random x."""
    func = kernel.build(layer, "f", scaling=scaling).with_attr("global_symbol", "f")
    run = tvm.compile(tvm.IRModule({"f": func}), target=target)["f"]
    rng = np.random.default_rng(0)
    x = rng.integers(0, 128, (layer.batch, blocks16(layer.in_channels), *layer.in_hw, LANES))
    shape = (layer.batch, blocks16(layer.out_channels), *layer.out_hw, LANES)
    arrays = [x.astype(layer.in_dtype), *kernel.pack(layer, operands, scaling)]
    arguments = [tvm.runtime.tensor(a) for a in (*arrays, np.zeros(shape, stored(layer)))]
    run(*arguments)
    least, end = float("inf"), time.perf_counter() + _SECONDS
    for turn in range(1_000_000):
        start = time.perf_counter()
        run(*arguments)
        now = time.perf_counter()
        least = min(least, now - start)
        if turn and now > end:
            break
    return least
