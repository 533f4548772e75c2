"""Where the papers' 6.7x energy and 19.2x speed over DianNao appear in the models, with every condition."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sd_tvm.accelerator.baselines.array import OurArray
from sd_tvm.accelerator.baselines.diannao import DianNao
from sd_tvm.accelerator.baselines.formats import FORMATS, SD_MASK, Format
from sd_tvm.accelerator.baselines.resources import Resources
from sd_tvm.accelerator.baselines.result import RunResult, ratio_band, time_ratio
from sd_tvm.accelerator.baselines.statistics import Mask, Statistics
from sd_tvm.accelerator.baselines.workloads import WORKLOADS

ENERGY_CLAIM, SPEED_CLAIM = 6.7, 19.2
BANDWIDTHS = (16, 32, 64, 128, 256, 0)
ZERO_VECTORS = (0.0, 0.15, 0.3)


@dataclass(frozen=True)
class Case:
    """One comparison with DianNao.

    Attributes
    ----------
    network, zero_rows, zero_vectors, bandwidth
        Conditions; bandwidth in bytes a cycle, 0: not limiting.
    serial
        Bit-serial array and the paper's mask, or parallel multipliers and 4:16.
    energy, energy_sb_free
        Ratio: nominal, low, high; nominal if DianNao's weight buffer took no energy at all.
    speed
        Ratio.
    """

    network: str
    zero_rows: float
    zero_vectors: float
    bandwidth: int
    serial: bool
    energy: tuple[float, float, float]
    energy_sb_free: float
    speed: float


def case(network: str, zero_rows: float, zero_vectors: float, bandwidth: int, *, serial: bool) -> Case:
    """Compare on one network, every activation through DRAM for both."""
    at = replace(Resources(schedule="layer"), dram_bytes_per_cycle=bandwidth)
    form: Format = SD_MASK if serial else FORMATS[-1]
    mask = Mask(zero_rows) if serial else Mask(zero_rows, "n16")
    statistics = Statistics(mask, zero_vectors=zero_vectors)
    layers = WORKLOADS[network]
    ours = OurArray(form, serial=serial).run(layers, statistics, at)
    theirs = DianNao().run(layers, statistics, at)
    return Case(
        network, zero_rows, zero_vectors, bandwidth, serial,
        ratio_band(theirs, ours), _without_sb(theirs) / ours.energy_total_fj(), time_ratio(theirs, ours),
    )  # fmt: skip


def _without_sb(run: RunResult) -> int:
    return run.energy_total_fj() - run.energy_fj()["weight SRAM"]


def paper_cases() -> list[list[Case]]:
    """VGG19 at the paper's sparsity on the bit-serial array: a row a bandwidth, a column a share of zeros."""
    return [[case("VGG19-CIFAR", 0.928, z, bw, serial=True) for z in ZERO_VECTORS] for bw in BANDWIDTHS]


def default_cases() -> list[Case]:
    """The VGGs and ResNet-18 at 4:16 on the default (parallel) array, 16 B/cycle."""
    names = ("ResNet-18", "VGG16-CIFAR", "VGG19-CIFAR", "VGG11-ImageNet")
    return [case(name, 0.75, 0.0, 16, serial=False) for name in names]
