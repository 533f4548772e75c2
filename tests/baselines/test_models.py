"""Models against hand-computed cases, sums and the counts of published networks."""

from __future__ import annotations

import numpy as np
import pytest

from sd_tvm.accelerator.baselines import (
    ARRAY_BASELINES,
    SCNN,
    WORKLOADS,
    Baseline,
    BitPragmatic,
    CambriconX,
    DianNao,
    LayerShape,
    Mask,
    OurArray,
    Resources,
    Statistics,
)
from sd_tvm.accelerator.baselines.base import Work, dram_traffic
from sd_tvm.accelerator.baselines.formats import FORMATS, SD_MASK
from sd_tvm.accelerator.baselines.result import ratio_band
from sd_tvm.accelerator.baselines.statistics import booth_digits, distribution, expected_digits
from sd_tvm.errors import ConfigError

PUBLISHED: tuple[Baseline, ...] = (DianNao(), SCNN(), CambriconX(), BitPragmatic())
ALL = (*PUBLISHED, *ARRAY_BASELINES, OurArray(SD_MASK, serial=True))
CONV = LayerShape("c", "conv", 64, 96, 3, 1, (16, 16), (16, 16))
POINT = LayerShape("p", "conv", 128, 96, 1, 1, (8, 8), (8, 8))
FREE = Resources(dram_bytes_per_cycle=0)
FORM = {f.name: f for f in FORMATS}


def array_cycles(model: Baseline, layer: LayerShape, statistics: Statistics | None = None) -> int:
    return model.run([layer], statistics or Statistics(), FREE).cycles


@pytest.mark.parametrize(
    ("name", "million_macs", "million_weights"),
    [
        ("EfficientNet-Lite0", 385, 4.6),
        ("MobileNetV2", 301, 3.5),
        ("ResNet-18", 1814, 11.7),
        ("ResNet-50", 4089, 25.5),
        ("VGG16-CIFAR", 313, 15.0),
        ("VGG19-CIFAR", 398, 20.0),
        ("VGG11-ImageNet", 7609, 132.9),
        ("MiniLM-L6 seq 128", 1434, 10.6),
    ],
)
def test_workload_counts(name: str, million_macs: float, million_weights: float) -> None:
    layers = WORKLOADS[name]
    assert sum(x.macs for x in layers) / 1e6 == pytest.approx(million_macs, abs=0.5)
    assert sum(x.weights for x in layers if x.kind != "matmul") / 1e6 == pytest.approx(
        million_weights, abs=0.05
    )
    assert len({x.name for x in layers}) == len(layers)
    assert layers[0].first
    assert layers[-1].last


def test_hand_cases_dense() -> None:
    # DianNao 32 x 32: 2 passes x 3 blocks x 9 taps x 256 pixels.
    assert array_cycles(DianNao(), CONV) == 2 * 3 * 9 * 256
    # Cambricon-X, 64 PEs of 16: 864 / 16 = 54 steps a pixel; half of it at 50 %.
    assert array_cycles(CambriconX(), CONV) == 54 * 256
    assert array_cycles(CambriconX(), CONV, Statistics(Mask(0.5))) == 27 * 256
    # Our array: 16 rows x 2 pixel groups, 9 taps x 6 channel blocks x 8 cycles.
    assert array_cycles(OurArray(), CONV) == 32 * 54 * 8


def test_hand_cases_of_our_formats() -> None:
    # 1x1, 8 pixel groups x 2 filter passes; 32 rows of 3 channels -> 8 stored rows of 4:16.
    # fold 2: 4 x 2 groups, 8 lines, one row pass of 24 cycles (port: 16 x 24 x 4 / 512 = 3).
    assert array_cycles(OurArray(FORM["SD 4:16"]), POINT) == 4 * 2 * 24
    assert array_cycles(OurArray(FORM["SD 16:16"]), POINT) == 8 * 2 * 2 * 24
    assert FORM["SD 4:16"].weight_bytes(POINT, 0.0) == 128 * (8 * 2 + 16)
    assert FORM["sparse int8 4:16"].weight_bytes(POINT, 0.0) == 128 * 8 * 28 // 8
    assert FORM["dense int4"].weight_bytes(POINT, 0.0) == 128 * 96 // 2


def test_hand_case_pragmatic() -> None:
    # 2 tiles: 64 filters = 2 passes; 6 bricks x 9 taps; 16 pallets; slowest of 16 lanes.
    digits = expected_digits("bits", 16, 0.5, False)
    assert array_cycles(BitPragmatic(), CONV) == int(np.ceil(2 * 54 * 16 * digits))


def test_digits_against_sampling() -> None:
    rng = np.random.default_rng(1)
    values, p = distribution(0.5, signed=False)
    x = rng.choice(values, size=(40000, 8), p=p)
    assert p.sum() == pytest.approx(1)
    assert expected_digits("booth", 1, 0.5, False) == pytest.approx(booth_digits(x).mean(), rel=0.01)
    assert expected_digits("booth", 8, 0.5, False) == pytest.approx(booth_digits(x).max(1).mean(), rel=0.01)


def test_booth_digits_of_known_values() -> None:
    assert booth_digits(np.array([0, 1, 2, 3, 255, 127, -1, -128])).tolist() == [0, 1, 2, 2, 2, 2, 1, 1]


def test_traffic_reads_the_cheaper_operand_again() -> None:
    layer = LayerShape("x", "conv", 16, 16, 1, 1, (8, 8), (8, 8), first=True, last=True)
    work = Work(1, 1000, 500, 30)
    # Halves of 100 and 300: weights 4 parts, input 5 parts: min(1000 x 5 + 500, 500 x 4 + 1000).
    assert dram_traffic(layer, work, Resources(), 200, 600) == {"weights": 1000, "in": 2000, "out": 30}
    assert dram_traffic(layer, work, Resources(), 1000, 600) == {"weights": 1000, "in": 500, "out": 30}


@pytest.mark.parametrize("model", ALL, ids=lambda m: m.label)
def test_sums_are_exact_and_resources_monotone(model: Baseline) -> None:
    layers, s = WORKLOADS["MobileNetV2"], Statistics(Mask(0.75, "n16"))
    runs = [model.run(layers, s, Resources(dram_bytes_per_cycle=b)) for b in (4, 16, 64, 0)]
    assert [r.cycles for r in runs] == sorted((r.cycles for r in runs), reverse=True)
    total = runs[0].to_dict()
    for key in ("bytes", "energy_fj"):
        for part, value in total["total"][key].items():
            assert value == sum(x[key].get(part, 0) for x in total["layers"])
    assert total["total"]["cycles"] == sum(x["cycles"] for x in total["layers"])
    fewer = [
        model.run(layers, s, Resources(schedule=m)).energy_total_fj() for m in ("fused", "chain", "layer")
    ]
    assert fewer == sorted(fewer)


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda m: m.label)
def test_who_uses_the_mask(model: Baseline) -> None:
    layers = WORKLOADS["ResNet-18"]
    dense, sparse = (model.run(layers, Statistics(Mask(x)), Resources()) for x in (0.0, 0.75))
    assert (sparse.cycles < dense.cycles) == isinstance(model, SCNN | CambriconX)


def test_band_holds_the_nominal_ratio() -> None:
    layers = WORKLOADS["VGG16-CIFAR"]
    a, b = (m.run(layers, Statistics(), Resources()) for m in (ARRAY_BASELINES[0], ARRAY_BASELINES[-1]))
    nominal, low, high = ratio_band(a, b)
    assert low < nominal < high
    assert ratio_band(a, a) == (1, 1, 1)


def test_bad_resources() -> None:
    with pytest.raises(ConfigError, match="macs"):
        Resources(macs=1000)
