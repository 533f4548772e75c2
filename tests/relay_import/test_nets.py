"""Networks of relay.testing: what Relay computed is what the import computes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from relay_import.relayfiles import array, net_inputs, nets, weight

import sd_tvm.relay
from sd_tvm.calibration import Interpreter
from sd_tvm.errors import UnsupportedModelError

NETS = nets("0.16")


@pytest.mark.parametrize("name", NETS)
def test_result_is_relays(name: str, record_property: Any) -> None:
    net = NETS[name]
    mod = sd_tvm.relay.load(net["json"], {k: weight(k, tuple(v)) for k, v in net["params"].items()})
    result = Interpreter(mod).run(list(net_inputs(net).values()))
    outputs = result if isinstance(result, tuple) else (result,)
    for got, packed in zip(outputs, net["outputs"], strict=True):
        expected = array(packed)
        difference, largest = float(np.abs(got - expected).max()), float(np.abs(expected).max())
        record_property("seen", f"{name}: largest value {largest:.3g}, largest difference {difference:.1e}")
        assert difference <= 1e-5 * max(1.0, largest)


def test_layers_have_the_names_of_their_weights() -> None:
    net = NETS["resnet18"]
    mod = sd_tvm.relay.load(net["json"], {k: weight(k, tuple(v)) for k, v in net["params"].items()})
    names = set(json.loads(str(mod.attrs["sd.names"])).values())
    assert {"conv0", "stage1_unit1_conv1", "stage4_unit2_conv2", "fc1"} <= names


def test_weights_are_asked_for() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"weights are inputs without a value, first '\w+' of node \d+"
    ):
        sd_tvm.relay.load(NETS["resnet18"]["json"], {"bn_data_gamma": weight("bn_data_gamma", (3,))})
