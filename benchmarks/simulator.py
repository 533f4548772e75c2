"""Speed of the simulator on ResNet-50's convolutions and dense layer, one core.

``python benchmarks/simulator.py`` writes ``docs/results/simulator.md`` and ``simulator.json``. Real shapes,
random weights, codes and activations (the speed does not depend on their values, except that of a bit-serial
array, see the page). Time is the process's user + system time, so that other processes on the machine
disturb less (they still take cache and memory bandwidth); variants are interleaved.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import tvm_ffi
from simulator_page import render

import sd_tvm
from sd_tvm.accelerator.codegen import compile_layer
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.encode import encode
from sd_tvm.accelerator.isa.program import Program
from sd_tvm.accelerator.simulator import Profiler, create_module, load_library
from sd_tvm.layers import ConvLayer, blocks16, layer_to_json
from sd_tvm.numerics.qp import pack_qp
from sd_tvm.schedules.ops import build_primfunc
from sd_tvm.weights.packing import pack_raw, pack_sd
from sd_tvm.weights.tensor import ROWS_KEPT, RawWeight, SDWeight, WeightForm

PATTERNS = ("int8", "16:16", "8:16", "4:16", "2:16")
PARALLEL, SERIAL = "smartexchange-28nm-parallel", "smartexchange-28nm"
WITH_SERIAL = ("int8", "4:16")


def resnet50() -> Counter[ConvLayer]:
    """Layers of ResNet-50 (stride in the 3x3 convolution) and how often each occurs, in order."""

    def conv(cin: int, size: int, cout: int, k: int, stride: int = 1) -> ConvLayer:
        pad = k // 2
        name = f"{k}x{k} {cin}->{cout} @{size // stride}" + (" /2" if stride == 2 else "")
        return ConvLayer(name, 1, cin, (size, size), cout, (k, k), (stride, stride), (pad,) * 4)

    layers = [conv(3, 224, 64, 7, 2)]
    cin, size = 64, 56
    for width, blocks, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(blocks):
            stride = first if i == 0 else 1
            layers += [conv(cin, size, width, 1), conv(width, size, width, 3, stride)]
            size //= stride
            layers.append(conv(width, size, 4 * width, 1))
            if i == 0:
                layers.append(conv(cin, size * stride, 4 * width, 1, stride))
            cin = 4 * width
    layers.append(ConvLayer("dense 2048->1000", 1, 2048, (1, 1), 1000, (1, 1)))
    return Counter(layers)


def with_pattern(layer: ConvLayer, pattern: str) -> ConvLayer:
    """The layer in SD form; the stem (3 input channels) stays int8, as in the default recipe."""
    if pattern == "int8" or layer.in_channels == 3:
        return layer
    form = WeightForm(pattern)  # type: ignore[arg-type]
    return ConvLayer(**{**layer.__dict__, "form": form, "n_bases": layer.out_channels})


def operands(layer: ConvLayer, rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    """Random operands, and an array for the result."""
    m = layer.out_channels
    ones = np.ones(m, np.float32)
    x = rng.integers(0, 256, (1, blocks16(layer.in_channels), *layer.in_hw, 16)).astype(np.uint8)
    x[rng.random(x.shape) < 0.5] = 0  # as after a ReLU
    if layer.form is None:
        raw = RawWeight(rng.integers(-127, 128, layer.weight_shape).astype(np.int8), ones)
        packed = [pack_raw(raw)]
    else:
        geometry = layer.geometry
        coef = rng.choice(layer.form.table.table, size=(m, geometry.rows, geometry.s)).astype(np.int8)
        for block in range(0, geometry.rows, 16):
            width = min(16, geometry.rows - block)
            rank = rng.random((m, width)).argsort(axis=1).argsort(axis=1)
            coef[:, block : block + width][rank >= ROWS_KEPT[layer.form.pattern]] = 0
        basis = rng.integers(-128, 128, (m, geometry.s, geometry.s)).astype(np.int8)
        packed = list(pack_sd(SDWeight(layer.weight_shape, layer.form, coef, basis, ones)).values())
    qp = pack_qp(rng.integers(-(2**16), 2**16, m), rng.integers(2**30, 2**31, m), np.full(m, -12), 0, 0, 255)
    return [x, *packed, qp, np.zeros((1, blocks16(m), *layer.out_hw, 16), np.uint8)]


def compiled(layer: ConvLayer, config: AcceleratorConfig, cache: Path | None) -> bytes:
    """Program of a layer, kept in ``cache`` if there is one."""
    key = hashlib.sha256((layer_to_json(layer) + config.to_text()).encode()).hexdigest()[:24]
    path = cache / f"{key}.sdap" if cache else None
    if path and path.is_file():
        return path.read_bytes()
    program = compile_layer(build_primfunc(layer, "f"), config)
    if path:
        path.write_bytes(program)
    return program


@dataclass
class Case:
    """One layer of one variant, ready to run."""

    layer: ConvLayer
    times: int
    program: bytes
    call: Callable[[], None]


def prepare(pattern: str, config: AcceleratorConfig, cache: Path | None) -> list[Case]:
    """Cases of the whole net; calling one runs its program."""
    unique = resnet50()
    layers = [with_pattern(layer, pattern) for layer in unique]
    programs = [compiled(layer, config, cache) for layer in layers]
    names = [f"f{i}" for i in range(len(layers))]
    records = [json.dumps([json.loads(layer_to_json(layer))]) for layer in layers]
    module = create_module(config, names, records, programs)
    rng = np.random.default_rng(2026)
    out = []
    for name, layer, program, times in zip(names, layers, programs, unique.values(), strict=True):
        tensors = [tvm_ffi.from_dlpack(t) for t in operands(layer, rng)]
        function = module[name]
        out.append(Case(layer, times, program, lambda f=function, t=tensors: f(*t)))  # type: ignore[misc]
    return out


Mode = Literal["functional", "timed"]


def seconds(case: Case, mode: Mode, runs: int) -> float:
    """User + system time of one run."""
    if mode == "functional":
        start = time.process_time()
        for _ in range(runs):
            case.call()
        return (time.process_time() - start) / runs
    with Profiler(mode="timed"):
        start = time.process_time()
        for _ in range(runs):
            case.call()
        return (time.process_time() - start) / runs


@dataclass(frozen=True)
class Spread:
    """Seconds of the repeats."""

    values: tuple[float, ...]

    @property
    def best(self) -> float:
        return min(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def worst(self) -> float:
        return max(self.values)


@dataclass
class Variant:
    """Measurements of one pattern on one configuration in one mode, by layer."""

    pattern: str
    config: str
    mode: str
    layers: list[dict[str, Any]]
    net: Spread  # passes over all layers

    @property
    def macs(self) -> int:
        """Of the dense layers, zeros included."""
        return sum(row["times"] * row["macs"] for row in self.layers)

    @property
    def best(self) -> float:
        """Seconds of the net: each layer's least time."""
        return float(sum(row["times"] * row["best_s"] for row in self.layers))

    def record(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            "pattern": self.pattern,
            "config": self.config,
            "mode": self.mode,
            "macs": self.macs,
            "gmac_s": self.macs / self.best / 1e9,
            "gmac_s_median_pass": self.macs / self.net.median / 1e9,
            "best_s": self.best,
            "best_pass_s": self.net.best,
            "median_pass_s": self.net.median,
            "worst_pass_s": self.net.worst,
            "cold_s": sum(row["times"] * row["cold_s"] for row in self.layers),
            "layers": self.layers,
        }


def calibrate() -> float:
    """GFLOP/s of a float32 matrix product: the same whenever the machine is."""
    a = np.ones((384, 384), np.float32)
    start = time.process_time()
    for _ in range(10):
        a @ a
    return 10 * 2 * 384**3 / (time.process_time() - start) / 1e9


def measure(
    plan: Sequence[tuple[str, str, Mode]], repeats: int, cache: Path | None, least: float
) -> tuple[list[Variant], dict[str, list[Case]], list[float]]:
    """Run every variant `repeats` times, interleaved; the first (cold) run is measured apart."""
    cases: dict[tuple[str, str], list[Case]] = {}
    for pattern, config, _ in plan:
        if (pattern, config) not in cases:
            cases[pattern, config] = prepare(pattern, AcceleratorConfig.load(config), cache)
    cold: dict[tuple[str, str], list[float]] = {
        key: [seconds(c, "functional", 1) for c in group] for key, group in cases.items()
    }
    runs = {key: [max(1, round(least / max(t, 1e-6))) for t in times] for key, times in cold.items()}
    series: dict[tuple[str, str, Mode], list[list[float]]] = {key: [] for key in plan}
    quiet = []
    for _ in range(repeats):
        for pattern, config, mode in plan:
            quiet.append(calibrate())
            group, count = cases[pattern, config], runs[pattern, config]
            series[pattern, config, mode].append(
                [seconds(c, mode, n) for c, n in zip(group, count, strict=True)]
            )
    variants = []
    for (pattern, config, mode), table in series.items():
        group = cases[pattern, config]
        rows = []
        for i, case in enumerate(group):
            spread = Spread(tuple(row[i] for row in table))
            rows.append(
                {
                    "layer": case.layer.name,
                    "times": case.times,
                    "macs": case.layer.macs,
                    "cold_s": cold[pattern, config][i],
                    "best_s": spread.best,
                    "median_s": spread.median,
                    "worst_s": spread.worst,
                    "gmac_s": case.layer.macs / spread.best / 1e9,
                }
            )
        totals = [sum(t * c.times for t, c in zip(row, group, strict=True)) for row in table]
        variants.append(Variant(pattern, config, mode, rows, Spread(tuple(totals))))
    return variants, {f"{p}/{c}": group for (p, c), group in cases.items()}, quiet


def whole_net(cases: list[Case]) -> bytes:
    """The programs of all layers in one, for timing (its operands do not exist)."""
    instructions: list[bytes] = []
    words: dict[Any, int] = {}
    sizes: list[int] = []
    index = 0
    for case in cases:
        program = Program.from_bytes(case.program)
        for mem, n in program.required_words.items():
            words[mem] = max(n, words.get(mem, 0))
        for i, size in enumerate(program.segment_bytes):
            sizes[i : i + 1] = [max(size, sizes[i] if i < len(sizes) else 0)]
        for _ in range(case.times):
            instructions += [encode("MARK", layer=index), *program.instructions[:-1], encode("FENCE")]
            index += 1
    return Program((*instructions, encode("FINISH")), tuple(sizes), words).to_bytes()


def timing_only(cases: list[Case], config: str, repeats: int) -> dict[str, Any]:
    """Instructions timed a second; the library's parsing and report are in it, Python's are not."""
    load_library()
    time_program = tvm_ffi.get_global_func("sd_accel.time_program")
    program = whole_net(cases)
    machine = AcceleratorConfig.load(config).to_text()
    n = len(Program.from_bytes(program).instructions)
    values = []
    for _ in range(40 * repeats):
        start = time.process_time()
        for _ in range(3):
            time_program(program, machine, False)
        values.append((time.process_time() - start) / 3)
    spread = Spread(tuple(values))
    return {
        "instructions": n,
        "best_s": spread.best,
        "median_s": spread.median,
        "worst_s": spread.worst,
        "instructions_s": n / spread.best,
    }


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    info = {"python": platform.python_version(), "numpy": np.__version__, "sd_tvm": sd_tvm.__version__}
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file():
        text = cpu.read_text()
        for key in ("model name", "cpu family", "cache size"):
            for line in text.splitlines():
                if line.startswith(key):
                    info[key] = line.split(":", 1)[1].strip()
                    break
        info["avx2"] = str("avx2" in text)
    info["system"] = f"{platform.system()} {platform.machine()}"
    info["kernels"] = os.environ.get("SD_KERNELS", "best of this processor")
    return info


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results"), help="folder of the page and the JSON"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS))
    parser.add_argument("--least", type=float, default=0.01, help="seconds a layer a repeat")
    parser.add_argument("--cache", type=Path, help="folder that keeps compiled programs between runs")
    parser.add_argument("--no-serial", action="store_true", help="leave the bit-serial array out")
    parser.add_argument("--print", action="store_true", help="print the page and write nothing")
    args = parser.parse_args()
    if args.cache:
        args.cache.mkdir(parents=True, exist_ok=True)
    plan: list[tuple[str, str, Mode]] = []
    for pattern in args.patterns:
        plan += [(pattern, PARALLEL, "functional"), (pattern, PARALLEL, "timed")]
        if not args.no_serial and pattern in WITH_SERIAL:
            plan += [(pattern, SERIAL, "functional"), (pattern, SERIAL, "timed")]
    variants, cases, quiet = measure(plan, args.repeats, args.cache, args.least)
    timing = {p: timing_only(cases[f"{p}/{PARALLEL}"], PARALLEL, args.repeats) for p in args.patterns}
    data = {
        "schema_version": 1,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "repeats": args.repeats,
        "calibration_gflop_s": {"best": max(quiet), "median": statistics.median(quiet), "worst": min(quiet)},
        "variants": [v.record() for v in variants],
        "timing_only": timing,
    }
    if args.print:
        print(render(data))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "simulator.json").write_text(json.dumps(data, indent=1) + "\n")
    (args.out / "simulator.md").write_text(render(data))


if __name__ == "__main__":
    main()
