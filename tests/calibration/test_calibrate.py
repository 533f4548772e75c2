"""The Calibrate pass: every value has its range, unusable data is refused by name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from passes.nets import NETS, Net
from passes.running import inputs

from sd_tvm._tvm import relax, tvm
from sd_tvm.calibration.data import InputSpec, batches_of
from sd_tvm.errors import CalibrationError
from sd_tvm.numerics.qparams import QParams, choose_qparams
from sd_tvm.relay_passes.calibrate import (
    Calibrate,
    activation_qparams,
    calibration,
    is_calibrated,
    with_activations,
)


def small() -> Any:
    net = Net((1, 2, 3, 3))
    return net.module(net.relu(net.conv(net.x, 4, 1, "c"), "r"))


def test_ranges_of_all_values() -> None:
    mod = small()
    xs = inputs(mod, 5)
    assert not is_calibrated(mod)
    new = tvm.transform.Sequential([Calibrate(xs, method="minmax")])(mod)
    assert is_calibrated(new)
    ranges = calibration(new)
    assert set(ranges) == {"x", "c", "c_bias", "r", "out"}
    assert ranges["x"]["lo"] == min(float(x.min()) for x in xs)
    assert ranges["x"]["hi"] == max(float(x.max()) for x in xs)
    assert ranges["r"]["lo"] == 0.0
    assert ranges["r"]["hi"] == ranges["c_bias"]["hi"]
    assert activation_qparams(new)["x"] == choose_qparams(ranges["x"]["lo"], ranges["x"]["hi"])
    assert json.loads(str(new.attrs["sd.calibration"])) == ranges


@pytest.mark.parametrize("name", NETS)
def test_any_network(name: str) -> None:
    mod = NETS[name]()
    ranges = calibration(Calibrate(inputs(mod, 2), dtype="int8")(mod))
    assert ranges
    for r in ranges.values():
        assert r["min"] <= r["lo"] <= r["hi"] <= r["max"]
        assert r["dtype"] == "int8"


def test_the_same_twice() -> None:
    mod = small()
    xs = inputs(mod, 3)
    a, b = (str(Calibrate(iter(xs))(mod).attrs["sd.calibration"]) for _ in range(2))
    assert a == b


def test_activations_of_a_file() -> None:
    mod = with_activations(small(), {"x": QParams(0.5, 3, "uint8"), "r": QParams(0.25, -128, "int8")})
    got = activation_qparams(mod)
    assert got == {"x": QParams(0.5, 3, "uint8"), "r": QParams(0.25, -128, "int8")}


def test_forms_of_data() -> None:
    mod = small()
    xs = np.concatenate(inputs(mod, 4))
    forms: list[Any] = [
        xs,
        list(xs[:, None]),
        list(xs),
        ((x,) for x in xs),
        [{"x": x} for x in xs],
        torch.from_numpy(xs),
        [torch.from_numpy(x) for x in xs],
        xs.astype(np.float64),
    ]
    texts = {str(Calibrate(f)(mod).attrs["sd.calibration"]) for f in forms}
    assert len(texts) == 1


SPECS = [InputSpec("x", (1, 2, 3, 3), "float32")]
GOOD = np.zeros((1, 2, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (None, "no calibration data"),
        ([], "the calibration data is empty"),
        (np.zeros((0, 2, 3, 3), np.float32), "the calibration data is empty"),
        ("images", "calibration data is a str"),
        (3, "calibration data is a int"),
        (np.zeros((4, 3, 3), np.float32), r"calibration data of shape \(4, 3, 3\)"),
        (np.zeros((4, 3, 3, 2), np.float32), r"example 0, input 'x': shape \(1, 3, 3, 2\)"),
        ([GOOD, GOOD[:, :1]], r"example 1, input 'x': shape \(1, 1, 3, 3\)"),
        ([GOOD.astype(np.int64)], "int64"),
        ([GOOD.astype(np.uint8)], "uint8"),
        ([np.full_like(GOOD, np.nan)], "NaN or infinite"),
        ([np.full_like(GOOD, np.inf)], "NaN or infinite"),
        ([(GOOD, GOOD)], "has 2 inputs"),
        ([{"y": GOOD}], r"has the inputs \['y'\]"),
        ([{"x": GOOD, "y": GOOD}], r"has the inputs \['x', 'y'\]"),
        ([object()], "example 0"),
    ],
)
def test_unusable_data(data: Any, match: str) -> None:
    with pytest.raises(CalibrationError, match=match):
        list(batches_of(data, SPECS))
    if not isinstance(data, np.ndarray) or data.size:
        with pytest.raises(CalibrationError, match=match):
            Calibrate(data)(small_of_specs())


def small_of_specs() -> Any:
    net = Net((1, 2, 3, 3))
    return net.module(net.relu(net.x))


def test_one_array_for_two_inputs() -> None:
    specs = [*SPECS, InputSpec("y", (1, 2), "float32")]
    with pytest.raises(CalibrationError, match="one array for a model with 2 inputs"):
        list(batches_of(GOOD, specs))
    assert len(list(batches_of([(GOOD, np.zeros(2))], specs))) == 1


def test_batches_larger_than_one() -> None:
    specs = [InputSpec("x", (2, 3), "float32")]
    assert [b[0].shape for b in batches_of(np.zeros((6, 3), np.float32), specs)] == [(2, 3)] * 3
    with pytest.raises(CalibrationError, match="in multiples of the batch 2"):
        list(batches_of(np.zeros((5, 3), np.float32), specs))


def test_a_value_that_overflows_is_named() -> None:
    net = Net((1, 4))
    y = net.call(
        relax.op.exp(net.call(relax.op.multiply(net.x, relax.const(np.float32(1e3))), "big")), "boom"
    )
    with pytest.raises(CalibrationError, match="'boom' becomes NaN or infinite"):
        Calibrate([np.ones((1, 4), np.float32)])(net.module(y))
