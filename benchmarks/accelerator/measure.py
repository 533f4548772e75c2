"""What is measured: programs of a model, timed without data at all corners of the energy table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from itertools import product
from typing import Any

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.config.energy import GROUPS, Corner
from sd_tvm.accelerator.timing import time_program
from sd_tvm.explore.programs import compile_programs
from sd_tvm.recipe import Recipe

from .weights import IntegerModel

CORNERS: tuple[Corner, ...] = ("low", "value", "high")
CHOICES: tuple[dict[str, Corner], ...] = tuple(
    dict(zip(GROUPS, choice, strict=True)) for choice in product(CORNERS, repeat=len(GROUPS))
)
NOMINAL = CHOICES.index(dict.fromkeys(GROUPS, "value"))
_DRAM = "dram_"


@dataclass(frozen=True)
class Variant:
    """Weights and machine.

    Attributes
    ----------
    name
        Name in tables.
    config
        Configuration.
    form
        SD form of a recipe rule; None: dense int8.
    weight_bits
        Bits of rebuilt weights; None: any number.
    """

    name: str
    config: str
    form: Mapping[str, Any] | None = None
    weight_bits: int | None = None

    def recipe(self, *, first_int8: bool) -> Recipe:
        """Recipe: depthwise layers in int8, the first convolution too if asked for."""
        if self.form is None:
            return Recipe.named("int8")
        rules: list[dict[str, Any]] = [
            {"op": "*", "kind": "sd", "form": dict(self.form)},
            {"op": "depthwise", "kind": "int8"},
        ]
        if first_int8:
            rules.append({"op": "conv2d", "position": "first", "kind": "int8"})
        solver = {"weight_bits": self.weight_bits}
        return Recipe.from_dict({"version": 1, "rules": rules, "solver": solver})


SD_CONFIG = "smartexchange-28nm-parallel"
DENSE = Variant("dense int8", "dense-int8")
DENSE_AREA = Variant("dense int8, equal area", "dense-int8-equal-area")
SD_4_16 = Variant("SD 4:16", SD_CONFIG, {"pattern": "4:16"})
SD_4_16_CODEBOOK = Variant(
    "SD 4:16, 64 bases a layer", SD_CONFIG, {"pattern": "4:16", "basis": "codebook", "bases": 64}
)
SD_4_16_NARROW = Variant(
    "SD 4:16, 64 bases a layer, 10-bit weights", "smartexchange-28nm-narrow", SD_4_16_CODEBOOK.form, 10
)
#: Compared with the bars.
BARRED = (SD_4_16, SD_4_16_CODEBOOK, SD_4_16_NARROW)
#: Measured without fusion, too.
UNFUSED = (DENSE, DENSE_AREA, SD_4_16)
VARIANTS = (
    DENSE,
    DENSE_AREA,
    Variant("SD 8:16", SD_CONFIG, {"pattern": "8:16"}),
    SD_4_16,
    SD_4_16_CODEBOOK,
    SD_4_16_NARROW,
    Variant("SD 2:16", SD_CONFIG, {"pattern": "2:16"}),
)


@dataclass
class Run:
    """Sums over all programs of one inference.

    Attributes
    ----------
    variant, fused
        What ran; whether layers were fused.
    cycles, instructions, calls
        Totals.
    events, energy_fj
        Events and nominal energy by name, integers.
    corners_fj
        Energy at each of :data:`CHOICES`.
    dram_byte_fj, peak
        Nominal price of a byte of DRAM; multiply-accumulates a cycle of the machine.
    weight_bytes
        Bytes of constants that must be read once.
    on_cpu
        Integer layers that the machine cannot hold and that are left out.
    """

    variant: Variant
    fused: bool
    weight_bytes: int
    dram_byte_fj: int
    peak: int
    cycles: int = 0
    instructions: int = 0
    calls: int = 0
    events: Counter[str] = field(default_factory=Counter)
    energy_fj: Counter[str] = field(default_factory=Counter)
    corners_fj: list[int] = field(default_factory=lambda: [0] * len(CHOICES))
    on_cpu: tuple[str, ...] = ()

    @property
    def total_fj(self) -> int:
        """Nominal energy."""
        return self.corners_fj[NOMINAL]

    @property
    def on_chip_fj(self) -> int:
        """Nominal energy but for DRAM."""
        return self.total_fj - sum(v for k, v in self.energy_fj.items() if k.startswith(_DRAM))

    @property
    def bound_fj(self) -> int:
        """Energy if DRAM moved nothing but each stored weight once."""
        return self.on_chip_fj + self.weight_bytes * self.dram_byte_fj

    def dram_bytes(self, what: str) -> int:
        """Bytes over DRAM of ``weight``, ``activation`` or ``instruction``."""
        return sum(n for name, n in self.events.items() if name.startswith(_DRAM) and f"_{what}_" in name)

    @property
    def utilisation(self) -> float:
        """Multiplications done, zeros of kept rows included, over the machine's peak."""
        return (self.events["mac_8x8"] + self.events["mac_8x13"]) / (self.cycles * self.peak)


def ratio(over: Run, of: Run) -> tuple[float, float, float]:
    """Energy ratio: nominal, lowest and highest with both sides at the same corner of the table."""
    ratios = [a / b for a, b in zip(over.corners_fj, of.corners_fj, strict=True)]
    return ratios[NOMINAL], min(ratios), max(ratios)


def bound(over: Run, of: Run) -> float:
    """The ratio that compulsory weight traffic and the same on-chip energy would give."""
    return over.bound_fj / of.bound_fj


def can_fuse() -> bool:
    """Whether this version's Offload has the option."""
    return bool(_fusion_option())


def _fusion_option() -> str:
    from sd_tvm.relay_passes.offload import Offload

    names = signature(Offload.__init__).parameters
    return next((n for n in ("fuse", "fusion", "fused") if n in names), "")


def measure(model: IntegerModel, variant: Variant, *, fused: bool) -> Run:
    """Compile a model for a variant's machine and time it.

    Parameters
    ----------
    model
        Integer module with the variant's weights.
    variant
        Names the machine.
    fused
        Whether layers may be fused; only where :func:`can_fuse`.
    """
    from sd_tvm.relay_passes.offload import Offload

    config = AcceleratorConfig.load(variant.config)
    option = _fusion_option()
    offload = Offload(config, **({option: fused} if option else {}))
    programs = compile_programs(model, config, offload=offload)
    texts = [config.to_text(choice) for choice in CHOICES]
    run = Run(variant, fused, model.weight_bytes, config.energy_fj()["dram_byte"], config.peak_macs_per_cycle)
    run.calls, run.instructions, run.on_cpu = programs.calls, programs.instructions, programs.on_cpu
    for code, count in programs.programs:
        _add(run, [time_program(code, text) for text in texts], count)
    return run


def _add(run: Run, corners: Sequence[Mapping[str, Any]], count: int) -> None:
    nominal = corners[NOMINAL]
    run.cycles += count * nominal["cycles"]
    for into, key in ((run.events, "events"), (run.energy_fj, "energy_fj")):
        for name, value in nominal[key].items():
            into[name] += count * value
    for i, stats in enumerate(corners):
        run.corners_fj[i] += count * stats["energy_total_fj"]
