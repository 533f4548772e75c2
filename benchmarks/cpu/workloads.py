"""The rows: workloads, our variants of each, their peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from sd_tvm._tvm import tvm
from sd_tvm.bench.contestant import Contestant, Maker
from sd_tvm.bench.module import build_module
from sd_tvm.layers import ConvLayer
from sd_tvm.schedules.cpu.isa import ISAS, Isa, features_of
from sd_tvm.schedules.cpu.table import RAW
from sd_tvm.schedules.cpu.tuning import KernelDatabase, KernelTuning
from sd_tvm.weights.tensor import Weight

from . import ours, peers
from .networks import Net, networks
from .shapes import BATCHES, CONVS, VECTORS, Conv, Dense

Isas = tuple[Isa, ...]


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
    macs
        Multiply-accumulates of a call, zeros included.
    build
        Our contestants (name -> maker) and the peers'.
    """

    key: str
    family: str
    cold: bool
    macs: Callable[[], int]
    build: Callable[[], tuple[dict[str, Maker], dict[str, Maker]]]


@cache
def host_isas(only: str = "") -> tuple[Isa, ...]:
    """Instruction sets of this machine, best first; ``only`` the one of this name."""
    cpu = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()
    features = features_of(tvm.target.Target({"kind": "llvm", "mcpu": cpu}))
    found = (isa for isa in ISAS if features.issuperset(isa.features))
    return tuple(isa for isa in found if only in ("", isa.name))


def _ours(layer: ConvLayer, label: str, pattern: str, isa: Isa, tuning: KernelTuning | None) -> Contestant:
    built = ours.build_layer(ours.with_form(layer, pattern), isa, np.random.default_rng(0), tuning)
    return Contestant(f"{label}, {isa.name}", "ours", built.call, built.weight_bytes, built.kernel)


def _makers(
    layer: ConvLayer, patterns: tuple[str, ...], isas: Isas, shifts: tuple[str, ...] = ()
) -> dict[str, Maker]:
    """``shifts``: patterns that are computed by shifts, too."""
    forms = [(p if p == RAW else f"SD {p}", p, None) for p in patterns]
    forms += [(f"SD {p} by shifts", p, ours.SHIFTS) for p in shifts]
    return {
        f"{label}, {isa.name}": (lambda f=(label, p), isa=isa, how=how: _ours(layer, *f, isa, how))
        for label, p, how in forms
        for isa in isas
    }


def _dense(shape: Dense, patterns: tuple[str, ...], isas: Isas) -> Workload:
    layer = ConvLayer("layer", shape.batch, shape.k, (1, 1), shape.m, (1, 1), in_zero_point=128, out="i32")
    shifts = ("4:16",) if shape == VECTORS[0] else ()
    return Workload(
        shape.key,
        shape.family,
        shape.batch == 1,
        lambda: layer.macs,
        lambda: (
            _makers(layer, patterns, isas, shifts),
            peers.dense(shape, isas[0], np.random.default_rng(1)),
        ),
    )


def _conv(shape: Conv, patterns: tuple[str, ...], isas: Isas) -> Workload:
    hw, kernel, pad = (shape.size,) * 2, (shape.kernel,) * 2, (shape.kernel // 2,) * 4
    layer = ConvLayer("layer", 1, shape.c, hw, shape.m, kernel, padding=pad, in_zero_point=128)
    return Workload(
        shape.key,
        "conv",
        False,
        lambda: layer.macs,
        lambda: (_makers(layer, patterns, isas), peers.conv(shape, isas[0], np.random.default_rng(1))),
    )


@lru_cache(maxsize=2)  # a network and the one it takes its ranges from
def _calibrated(net: Net) -> Any:
    from sd_tvm.frontends import load_model
    from sd_tvm.relay_passes import Calibrate
    from sd_tvm.relay_passes.calibrate import activation_qparams, with_activations
    from sd_tvm.relay_passes.pipeline import simplify

    mod = tvm.transform.Sequential(simplify())(load_model(net.build(), net.example))
    if net.like is not None:
        return with_activations(mod, activation_qparams(_calibrated(net.like)))
    return Calibrate(net.calibration())(mod)


@cache
def _weights(net: Net, label: str) -> dict[str, Weight]:
    """Fitted weights by the name of the layer."""
    from sd_tvm.compression import fit_without_data

    if net.like is not None:
        return _weights(net.like, label)
    return fit_without_data(_calibrated(net), net.recipes[label])


@lru_cache(maxsize=2)  # two labels: plain rows first, then tuned ones
def _integer(net: Net, label: str) -> Any:
    from sd_tvm.relay_passes import Decompose, Partition

    return Partition()(Decompose(weights=_weights(net, label))(_calibrated(net)))


#: Candidates that are timed for a layer of a tuned row.
_TRIED = 4
#: What was found: layers that two rows have are timed once.
_TUNED = KernelDatabase()


def _ours_net(net: Net, label: str, isa: Isa, tune: int = 0) -> Contestant:
    tuning = KernelTuning(_TUNED, tune) if tune else None
    built = build_module(_integer(net, label), (net.example,), isa.target, tuning)
    name = f"{label}, {isa.name}" + (", tuned" if tune else "")
    return Contestant(name, "ours", built.call, built.weight_bytes)


def _network(net: Net, isas: Isas) -> Workload:
    makers: dict[str, Maker] = {
        f"{label} {isa.name}": (lambda label=label, isa=isa: _ours_net(net, label, isa))
        for label in net.recipes
        for isa in isas
    }
    best = isas[0]
    makers |= {
        f"{label} {best.name} tuned": (lambda label=label: _ours_net(net, label, best, _TRIED))
        for label in net.tuned
    }
    return Workload(net.name, "network", False, lambda: net.macs, lambda: (makers, peers.network(net)))


def workloads(isas: Isas) -> Iterator[Workload]:
    """All rows, in the order of the page, with our kernels of these instruction sets."""
    every = ("2:16", "4:16", "8:16", "16:16")
    for shape in VECTORS:
        yield _dense(shape, every, isas)
    for shape in BATCHES:
        yield _dense(shape, ("4:16", "16:16"), isas)
    for image in CONVS:
        yield _conv(image, ("4:16", "16:16", "int8"), isas)
    for net in networks():
        yield _network(net, isas)
