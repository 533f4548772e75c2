"""Inputs that trained networks really have, and what ``compress`` does with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sd_tvm
from sd_tvm._tvm import relax, tvm
from sd_tvm.calibration.interpreter import Interpreter
from sd_tvm.execute import Runner, compile_module
from sd_tvm.recipe import Recipe

SHAPE = (1, 3, 8, 8)
EXAMPLE = (torch.zeros(SHAPE),)
DATA = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype(np.float32)


def everywhere(form: dict[str, Any], **rest: Any) -> Recipe:
    """One form for all layers."""
    rule = {"op": "*", "kind": "sd", "even_if_larger": True, "form": form}
    return Recipe.from_dict({"version": 1, "rules": [rule], **rest})


RECIPES = {
    "filter": everywhere({}),
    "slice": everywhere({"basis": "slice", "slice_rows": 16}),
    "codebook": everywhere({"basis": "codebook", "bases": 8}),
    "8:16": everywhere({"pattern": "8:16"}),
    "shared": everywhere({"pattern": "shared", "kept": 0.9}),
    "levels5": everywhere({"alphabet": "levels5"}),
    "official": everywhere({"alphabet": "pow2-7"}, solver={"method": "official"}),
    "int8": Recipe.named("int8"),
}
#: Squared error of the output relative to its variance: a bound for wrong, not a claim of accuracy.
LOOSE = {"8:16": 0.5, "official": 0.1, "levels5": 0.2}


class Net(nn.Module):
    """Convolution with batch norm, two more, dense."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.bn = nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 24, 3, padding=1)
        self.point = nn.Conv2d(24, 32, 1)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.bn(self.stem(x)))
        x = torch.relu(self.conv(x))
        return self.fc(torch.relu(self.point(x)).mean((2, 3)))


def net() -> Net:
    """Always the same weights."""
    torch.manual_seed(0)
    return Net().eval()


def wanted(model: nn.Module, data: np.ndarray) -> np.ndarray:
    """Output of torch."""
    with torch.no_grad():
        return model(torch.from_numpy(data)).numpy()


def rebuilt(model: sd_tvm.CompressedModel, data: np.ndarray) -> np.ndarray:
    """Output with rebuilt weights, activations not quantised."""
    interpreter = Interpreter(model.to_relax())
    return np.concatenate([interpreter.run([x[None]]) for x in data])


def integer(model: sd_tvm.CompressedModel, data: np.ndarray) -> np.ndarray:
    """Output of the integer layers; the CPU's and the accelerator's are the same."""
    found = []
    for target in ("llvm", "sd_accel"):
        runner = Runner(compile_module(model, target).executable)
        found.append(np.concatenate([runner(x[None])[0] for x in data]))
    np.testing.assert_array_equal(found[0], found[1])
    return found[0]


def through_file(model: sd_tvm.CompressedModel, folder: Path) -> sd_tvm.CompressedModel:
    """The model as it is after saving and loading."""
    model.save(folder / "model.sd")
    return sd_tvm.load(folder / "model.sd")


def close(found: np.ndarray, reference: np.ndarray, bound: float) -> None:
    """Finite, and within a bound relative to the reference's power."""
    assert np.isfinite(found).all()
    assert ((found - reference) ** 2).mean() < bound * (reference**2).mean()


# --- weights that are no numbers ---


@pytest.mark.parametrize("calibration", [None, DATA], ids=["data-free", "calibrated"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ("conv.weight", "the weight of 'conv'"),
        ("conv.bias", "the bias of 'conv'"),
        ("fc.weight", "the weight of 'fc'"),
        ("fc.bias", "the bias of 'fc'"),
        ("stem.weight", "the weight of 'stem'"),
        ("bn.weight", "the scale of 'bn'"),
        ("bn.running_mean", "the mean of 'bn'"),
    ],
)
def test_weights_that_are_not_finite(tensor: str, message: str, value: float, calibration: Any) -> None:
    model = net()
    with torch.no_grad():
        model.state_dict()[tensor].view(-1)[1] = value
    kind = "NaN" if np.isnan(value) else "infinite"
    with pytest.raises(sd_tvm.NumericsError, match=rf"{message} .*not finite: \d+ {kind}"):
        sd_tvm.compress(model, EXAMPLE, calibration=calibration)


def test_compile_refuses_them_too() -> None:
    model = net()
    with torch.no_grad():
        model.fc.bias[3] = np.nan
    with pytest.raises(sd_tvm.NumericsError, match="the bias of 'fc'"):
        tvm.compile(sd_tvm.load_model(model, EXAMPLE), target="sd_accel")


class Masked(nn.Module):
    """Adds minus infinity on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(24, 24)
        self.register_buffer("mask", torch.zeros(24).masked_fill(torch.arange(24) > 11, -torch.inf))

    def forward(self, x: Any) -> Any:
        return torch.softmax(torch.relu(self.fc(x)) + self.mask, dim=-1)


def test_an_infinite_mask_is_meant() -> None:
    torch.manual_seed(0)
    model = sd_tvm.compress(Masked().eval(), (torch.zeros(1, 24),))
    assert [row["node"] for row in model.report] == ["fc"]


# --- zeros and constants ---


@pytest.mark.parametrize("calibration", [None, DATA], ids=["data-free", "calibrated"])
@pytest.mark.parametrize("name", RECIPES)
def test_filters_of_zeros(name: str, calibration: Any, tmp_path: Path) -> None:
    model = net()
    with torch.no_grad():
        model.conv.weight[[3, 7]] = 0
        model.stem.weight[2] = 0
        model.point.weight[:] = 0  # a whole layer: only its bias is left
        model.fc.weight[1] = 0
    found = sd_tvm.compress(model, EXAMPLE, recipe=RECIPES[name], calibration=calibration)
    found = through_file(found, tmp_path)
    for layer, filters in (("conv", [3, 7]), ("point", range(32)), ("fc", [1])):
        weight = found.weights[layer]
        assert (weight.scale > 0).all()
        assert np.isfinite(weight.dequantize()).all()
        assert not weight.dequantize()[list(filters)].any()
    close(rebuilt(found, DATA), wanted(model, DATA), 0.05)


def test_filters_of_zeros_on_the_accelerator() -> None:
    model = net()
    with torch.no_grad():
        model.conv.weight[[3, 7]] = 0
        model.point.weight[:] = 0
    found = sd_tvm.compress(model, EXAMPLE, recipe=RECIPES["codebook"], calibration=DATA)
    close(integer(found, DATA[:2]), wanted(model, DATA[:2]), 0.05)


@pytest.mark.parametrize("value", [0.0, 0.7])
@pytest.mark.parametrize("name", RECIPES)
def test_constant_activations(name: str, value: float, tmp_path: Path) -> None:
    """Nothing is known but one image without structure: the weights stay near the trained ones."""
    constant = np.full((3, *SHAPE[1:]), value, np.float32)
    model = net()
    found = sd_tvm.compress(model, EXAMPLE, recipe=RECIPES[name], calibration=constant)
    found = through_file(found, tmp_path)
    close(rebuilt(found, constant), wanted(model, constant), 0.01)
    close(rebuilt(found, DATA), wanted(model, DATA), LOOSE.get(name, 0.05))


def test_constant_activations_on_the_accelerator() -> None:
    zeros = np.zeros((2, *SHAPE[1:]), np.float32)
    found = sd_tvm.compress(net(), EXAMPLE, recipe=RECIPES["filter"], calibration=zeros)
    close(integer(found, zeros[:1]), wanted(net(), zeros[:1]), 0.01)


class Dead(nn.Module):
    """Its second layer gets zeros whatever comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.dead = nn.Conv2d(16, 16, 1)

    def forward(self, x: Any) -> Any:
        return self.dead(torch.relu(self.conv(x) - 1e3)).mean((2, 3))


@pytest.mark.parametrize("name", ["filter", "codebook", "int8"])
def test_a_layer_that_gets_only_zeros(name: str) -> None:
    torch.manual_seed(0)
    model = Dead().eval()
    found = sd_tvm.compress(model, EXAMPLE, recipe=RECIPES[name], calibration=DATA)
    close(rebuilt(found, DATA), wanted(model, DATA), 1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_one_calibration_image(name: str, tmp_path: Path) -> None:
    model = net()
    for one in (DATA[:1], [DATA[0]]):
        found = sd_tvm.compress(model, EXAMPLE, recipe=RECIPES[name], calibration=one)
    found = through_file(found, tmp_path)
    assert found.is_calibrated
    close(rebuilt(found, DATA), wanted(model, DATA), LOOSE.get(name, 0.05))


# --- models that are special ---


class Shared(nn.Module):
    """One convolution used twice, another that holds the same weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.conv = nn.Conv2d(24, 24, 3, padding=1)
        self.tied = nn.Conv2d(24, 24, 3, padding=1, bias=False)
        self.tied.weight = self.conv.weight

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.conv(torch.relu(self.stem(x))))
        return self.tied(torch.relu(self.conv(x))).mean((2, 3))


@pytest.mark.parametrize("calibration", [None, DATA], ids=["data-free", "calibrated"])
@pytest.mark.parametrize("name", ["filter", "codebook", "int8"])
def test_shared_weights(name: str, calibration: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Shared().eval()
    found = sd_tvm.compress(model, EXAMPLE, recipe=RECIPES[name], calibration=calibration)
    (note,) = [x for x in found.notes if "same weight" in x]
    names = [row["node"] for row in found.report]
    assert all(name in note for name in names[1:])
    assert names[0] not in note
    found = through_file(found, tmp_path)
    assert len(found.weights) == 4
    if calibration is None:  # the same weight, fitted the same way
        values = [w.dequantize() for w in list(found.weights.values())[1:]]
        np.testing.assert_array_equal(values[0], values[1])
        np.testing.assert_array_equal(values[0], values[2])
    close(rebuilt(found, DATA), wanted(model, DATA), 0.05)


def test_shared_weights_on_the_accelerator() -> None:
    torch.manual_seed(0)
    model = Shared().eval()
    found = sd_tvm.compress(model, EXAMPLE, recipe=RECIPES["filter"], calibration=DATA)
    close(integer(found, DATA[:2]), wanted(model, DATA[:2]), 0.05)


@pytest.mark.parametrize("calibration", [None, DATA], ids=["data-free", "calibrated"])
def test_compressed_already(calibration: Any, tmp_path: Path) -> None:
    found = sd_tvm.compress(net(), EXAMPLE)
    path = tmp_path / "model.sd"
    found.save(path)
    for again in (found, str(path), path):
        with pytest.raises(sd_tvm.UnsupportedModelError, match="compressed"):
            sd_tvm.compress(again, calibration=calibration)
    with pytest.raises(sd_tvm.UnsupportedModelError, match="the weight of 'stem' is compressed already"):
        sd_tvm.compress(found.to_relax(), calibration=calibration)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_weights_of_another_float(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(sd_tvm.UnsupportedDTypeError, match=rf"'stem.weight' is {name}.*float32"):
        sd_tvm.compress(net().to(dtype), (EXAMPLE[0].to(dtype),))


class IntegerWeight(nn.Module):
    """Its weight is stored as integers and converted when it runs."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("w", torch.randint(0, 2, (16, 3, 3, 3)).to(dtype))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        return self.fc(nn.functional.conv2d(x, self.w.float() * 0.1).mean((2, 3)))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool])
def test_integer_weights_that_the_model_converts(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = IntegerWeight(dtype).eval()
    found = sd_tvm.compress(model, EXAMPLE, calibration=DATA)
    assert len(found.weights) == 2
    close(rebuilt(found, DATA), wanted(model, DATA), 0.05)


def test_a_convolution_of_integers_stays_as_it_is() -> None:
    x = relax.Var("x", relax.TensorType((1, 4, 4, 4), "int8"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            weight = relax.const(np.ones((4, 4, 1, 1), np.int8))
            out = builder.emit_output(relax.op.nn.conv2d(x, weight, out_dtype="int32"))
        builder.emit_func_output(out)
    found = sd_tvm.compress(builder.get())
    assert found.weights == {}
    assert found.report == []
