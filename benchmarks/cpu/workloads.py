"""The rows: workloads, our variants of each, their peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from sd_tvm._tvm import tvm
from sd_tvm.layers import ConvLayer
from sd_tvm.schedules.cpu.isa import ISAS, Isa, features_of

from . import ours, peers
from .measure import Contestant
from .networks import Net, networks


@dataclass(frozen=True)
class Workload:
    """One row.

    Attributes
    ----------
    key
        Short name, e.g. ``gemv 4096x4096``.
    family
        ``gemv``, ``gemm``, ``conv`` or ``network``.
    cold
        Whether cold calls are timed too.
    build
        Our contestants (name -> maker) and the peers'.
    """

    key: str
    family: str
    cold: bool
    build: Callable[[], tuple[dict[str, peers.Maker], dict[str, peers.Maker]]]


def host_isas() -> list[Isa]:
    """Instruction sets of this machine."""
    cpu = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()
    features = features_of(tvm.target.Target({"kind": "llvm", "mcpu": cpu}))
    return [isa for isa in ISAS if features.issuperset(isa.features)]


def _ours(layer: ConvLayer, pattern: str, isa: Isa) -> Contestant:
    built = ours.build_layer(ours.with_form(layer, pattern), isa, np.random.default_rng(0))
    label = pattern if pattern == "int8" else f"SD {pattern}"
    return Contestant(f"{label}, {isa.name}", "ours", built.call, built.weight_bytes)


def _makers(layer: ConvLayer, patterns: tuple[str, ...]) -> dict[str, peers.Maker]:
    return {
        f"{p} {isa.name}": (lambda p=p, isa=isa: _ours(layer, p, isa))
        for p in patterns
        for isa in host_isas()
    }


def _dense(m: int, k: int, batch: int, patterns: tuple[str, ...]) -> Workload:
    layer = ConvLayer("layer", batch, k, (1, 1), m, (1, 1), in_zero_point=128, out="i32")
    family = "gemv" if batch == 1 else "gemm"
    key = f"{family} {m}x{k}" + ("" if batch == 1 else f" batch {batch}")
    return Workload(
        key,
        family,
        batch == 1,
        lambda: (_makers(layer, patterns), peers.dense(m, k, batch, np.random.default_rng(1))),
    )


def _conv(m: int, c: int, size: int, kernel: int, patterns: tuple[str, ...]) -> Workload:
    pad = (kernel // 2,) * 4
    layer = ConvLayer("layer", 1, c, (size, size), m, (kernel, kernel), padding=pad, in_zero_point=128)
    return Workload(
        f"conv {kernel}x{kernel} {c}->{m}@{size}",
        "conv",
        False,
        lambda: (_makers(layer, patterns), peers.conv(m, c, size, kernel, np.random.default_rng(1))),
    )


@cache
def _calibrated(net: Net) -> Any:
    from sd_tvm.frontends import load_model
    from sd_tvm.relay_passes import Calibrate
    from sd_tvm.relay_passes.pipeline import simplify

    mod = tvm.transform.Sequential(simplify())(load_model(net.build(), net.example))
    whole = [np.repeat(x, net.shape[0], axis=0) for x in net.calibration()]
    return Calibrate(whole)(mod)


@cache
def _integer(net: Net, label: str) -> Any:
    from sd_tvm.relay_passes import Decompose, Partition

    return Partition()(Decompose(net.recipes[label])(_calibrated(net)))


#: Candidates that are timed for a layer of a tuned row.
_TRIED = 4


def _ours_net(net: Net, label: str, isa: Isa, tune: int = 0) -> Contestant:
    built = ours.build_module(_integer(net, label), net.example, isa, tune)
    name = f"{label}, {isa.name}" + (", tuned" if tune else "")
    return Contestant(name, "ours", built.call, built.weight_bytes)


def _network(net: Net) -> Workload:
    makers: dict[str, peers.Maker] = {
        f"{label} {isa.name}": (lambda label=label, isa=isa: _ours_net(net, label, isa))
        for label in net.recipes
        for isa in host_isas()
    }
    best = host_isas()[0]
    makers |= {
        f"{label} {best.name} tuned": (lambda label=label: _ours_net(net, label, best, _TRIED))
        for label in net.tuned
    }
    return Workload(net.name, "network", False, lambda: (makers, peers.network(net)))


def workloads() -> Iterator[Workload]:
    """All rows, in the order of the page."""
    every = ("2:16", "4:16", "8:16", "16:16")
    for m, k in ((4096, 4096), (11008, 4096), (4096, 25088), (1000, 4096)):
        yield _dense(m, k, 1, every)
    for batch in (16, 128):
        yield _dense(4096, 4096, batch, ("4:16", "16:16"))
    for c, size in ((64, 56), (256, 14), (512, 7)):
        yield _conv(c, c, size, 3, ("4:16", "16:16", "int8"))
    yield _conv(64, 256, 56, 1, ("4:16", "16:16", "int8"))
    for net in networks():
        yield _network(net)
