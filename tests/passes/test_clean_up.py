"""Canonicalize, FoldBatchNorm, FoldPad: the same function, fewer operators, each pass alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from frontends import onnxnets, torchnets
from hypothesis import given, settings
from hypothesis import strategies as st
from passes.nets import NETS, Net
from passes.running import inputs, run

from sd_tvm._tvm import relax, tvm
from sd_tvm.calibration import Interpreter
from sd_tvm.frontends import load_model
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes._rewrite import bindings_of, constant, is_call
from sd_tvm.relay_passes.canonicalize import Canonicalize
from sd_tvm.relay_passes.decompose import Decompose
from sd_tvm.relay_passes.fold_batch_norm import FoldBatchNorm
from sd_tvm.relay_passes.fold_pad import FoldPad

PASSES = {
    "canonicalize": (Canonicalize,),
    "fold_batch_norm": (FoldBatchNorm,),
    "fold_pad": (FoldPad,),
    "all": (Canonicalize, FoldBatchNorm, FoldPad),
    "reversed": (FoldPad, FoldBatchNorm, Canonicalize),
}


def apply(mod: Any, which: str) -> Any:
    new = tvm.transform.Sequential([p() for p in PASSES[which]])(mod)
    relax.analysis.well_formed(new)
    return new


def ops(mod: Any) -> list[str]:
    return [v.op.name.rpartition(".")[2] for _, v in bindings_of(mod["main"]) if isinstance(v, relax.Call)]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    for x, y in zip(a, b, strict=True):
        assert np.abs(x - y).max() <= 1e-4 * max(np.abs(y).max(), 1e-3)


def execute(mod: Any, xs: list[np.ndarray]) -> list[np.ndarray]:
    value = Interpreter(mod).run(xs)
    return list(value) if isinstance(value, tuple) else [value]


@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("name", torchnets.NETS)
def test_torch_networks_keep_their_values(name: str, which: str) -> None:
    mod, model, xs = torchnets.loaded(name)
    mod = apply(mod, which)
    same(execute(mod, [x.numpy() for x in xs]), torchnets.outputs(model, xs))


@pytest.mark.parametrize("name", NETS)
def test_other_networks_keep_their_values_in_tvm(name: str) -> None:
    mod = NETS[name]()
    x = inputs(mod, 1)[0]
    same(run(apply(mod, "all"), x), run(mod, x))


@pytest.mark.parametrize("name", ["resnet", "mobile"])
def test_torch_networks_keep_their_values_in_tvm(name: str) -> None:
    mod, model, xs = torchnets.loaded(name)
    same(run(apply(mod, "all"), xs[0].numpy()), torchnets.outputs(model, xs))


def test_onnx_network() -> None:
    x = np.random.default_rng(1).normal(size=(1, 2, 5, 5)).astype(np.float32)
    mod = apply(load_model(onnxnets.classifier()), "all")
    same(execute(mod, [x]), [onnxnets.classifier_values(x)])
    # the norm follows a clip, so it stays; everything else has its canonical form
    assert ops(mod) == ["conv2d", "add", "clip", "batch_norm", "relu", "mean", "reshape", "matmul", "add"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mobile", "conv2d add clip conv2d add clip conv2d add clip mean"),
        ("dense", "matmul add relu matmul sigmoid"),
        ("sequence", "conv1d add clip"),
        ("unfoldable", "batch_norm relu conv2d add batch_norm"),
    ],
)
def test_what_is_left(name: str, wanted: str) -> None:
    mod, _, _ = torchnets.loaded(name)
    assert ops(apply(mod, "all")) == wanted.split()


def test_resnet_is_convolutions_adds_and_relus() -> None:
    found = ops(apply(torchnets.loaded("resnet")[0], "all"))
    assert not {"batch_norm", "permute_dims", "nn.pad", "dropout"} & set(found)
    assert found.count("conv2d") == 7
    assert found.count("add") == 7 + 2 + 1  # biases, residuals, the dense layer's bias


def test_biases_have_one_shape() -> None:
    for name in ("resnet", "mobile", "sequence"):
        mod = apply(torchnets.loaded(name)[0], "all")
        values = dict(bindings_of(mod["main"]))
        for var, value in values.items():
            if is_call(value, "relax.add") and is_call(
                values.get(value.args[0]), "relax.nn.conv2d", "relax.nn.conv1d"
            ):
                shape = [int(d) for d in var.ty.shape]
                bias = constant(value.args[1])
                assert bias is not None
                assert list(bias.shape) == [1, shape[1], *[1] * (len(shape) - 2)]


def _pad_net(widths: tuple[int, ...], mode: str, value: float, padding: int, pool: bool) -> Any:
    net = Net((1, 3, 9, 8))
    y = net.call(relax.op.nn.pad(net.x, list(widths), mode, value), "pad")
    if pool:
        last = relax.op.nn.avg_pool2d(y, (3, 2), strides=(2, 1), padding=(1, 0, 1, 0) if padding else 0)
    else:
        last = relax.op.nn.conv2d(y, net.const(4, 3, 3, 2), strides=(2, 1), padding=padding)
    return net.module(net.call(last, "last"))


@settings(max_examples=40)
@given(
    channels=st.sampled_from([(0, 0), (0, 1)]),
    hw=st.tuples(*[st.integers(0, 3)] * 4),
    mode=st.sampled_from(["constant", "constant", "constant", "reflect"]),
    value=st.sampled_from([0.0, 0.0, 0.5]),
    padding=st.integers(0, 1),
    pool=st.booleans(),
)
def test_pads_of_all_kinds(
    channels: tuple[int, int], hw: tuple[int, ...], mode: str, value: float, padding: int, pool: bool
) -> None:
    if mode == "reflect":
        channels, value = (0, 0), 0.0
    if not pool and channels != (0, 0):
        channels = (0, 0)
    mod = _pad_net((0, 0, *channels, *hw), mode, value, padding, pool)
    x = inputs(mod, 1)[0]
    new = apply(mod, "fold_pad")
    same(execute(new, [x]), execute(mod, [x]))
    zero = mode == "constant" and value == 0.0 and channels == (0, 0)
    if zero and not pool:
        assert ops(new) == ["conv2d"]
    if not zero:
        assert "pad" in ops(new)


def test_pad_with_two_readers() -> None:
    net = Net((1, 2, 5, 5))
    y = net.call(relax.op.nn.pad(net.x, [0, 0, 0, 0, 1, 1, 1, 1]), "pad")
    z = net.conv(y, 3, 3, "c")
    mod = net.module(z, net.relu(y))
    new = apply(mod, "fold_pad")
    assert ops(new) == ["pad", "conv2d", "add", "relu"]
    x = inputs(mod, 1)[0]
    same(execute(new, [x]), execute(mod, [x]))


CLIPS = {
    "minmax": lambda x, c: relax.op.minimum(relax.op.maximum(x, c(0.0)), c(6.0)),
    "maxmin": lambda x, c: relax.op.maximum(c(0.0), relax.op.minimum(c(6.0), x)),
    "relu_min": lambda x, c: relax.op.minimum(relax.op.nn.relu(x), c(6.0)),
    "relu6": lambda x, c: relax.op.nn.relu6(x),
    "clip_clip": lambda x, c: relax.op.clip(relax.op.clip(x, -1, 6), 0, 9),
    "relu_clip": lambda x, c: relax.op.clip(relax.op.nn.relu(x), -2, 6),
}


@pytest.mark.parametrize("form", CLIPS)
def test_relu6_in_all_its_forms(form: str) -> None:
    x = relax.Var("x", relax.TensorType((1, 4, 5), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            y = CLIPS[form](x, lambda v: relax.const(v, "float32"))
            out = builder.emit_output(builder.emit(y))
        builder.emit_func_output(out)
    mod = apply(builder.get(), "canonicalize")
    assert ops(mod) == ["clip"]
    data = np.random.default_rng(0).normal(size=(1, 4, 5)).astype(np.float32) * 6
    np.testing.assert_array_equal(run(mod, data)[0], np.clip(data, 0, 6))


@settings(max_examples=25)
@given(lo1=st.integers(-3, 3), hi1=st.integers(-3, 3), lo2=st.integers(-3, 3), hi2=st.integers(-3, 3))
def test_clip_of_clip(lo1: int, hi1: int, lo2: int, hi2: int) -> None:
    lo1, hi1, lo2, hi2 = min(lo1, hi1), max(lo1, hi1), min(lo2, hi2), max(lo2, hi2)
    net = Net((1, 40))
    mod = net.module(net.clip(net.clip(net.x, lo1, hi1, "one"), lo2, hi2, "two"))
    new = apply(mod, "canonicalize")
    x = np.linspace(-4, 4, 40, dtype=np.float32)[None]
    np.testing.assert_array_equal(execute(new, [x])[0], np.clip(np.clip(x, lo1, hi1), lo2, hi2))
    assert len(ops(new)) == 1


def test_training_norm_and_unknown_parameters_stay() -> None:
    net = Net((1, 3, 5, 5))
    y = net.conv(net.x, 3, 1, "c")
    stats = [net.const(3) for _ in range(3)] + [relax.const(np.ones(3, np.float32))]
    norm = net.call(relax.op.nn.batch_norm(y, *stats, axis=1, training=True), "norm")
    mod = net.module(net.call(relax.TupleGetItem(norm, 0), "y"))
    assert "batch_norm" in ops(apply(mod, "all"))


def test_zero_variance_channels_fold_to_finite_weights() -> None:
    net = Net((1, 3, 5, 5))
    y = net.conv(net.x, 4, 1, "c")
    stats = [relax.const(np.ones(4, np.float32) * v) for v in (1.0, 0.0, 0.0, 0.0)]
    norm = net.call(relax.op.nn.batch_norm(y, *stats, axis=1, epsilon=1e-5, training=False), "norm")
    mod = net.module(net.call(relax.TupleGetItem(norm, 0), "y"))
    x = inputs(mod, 1)[0]
    new = apply(mod, "all")
    assert ops(new) == ["conv2d", "add"]
    same(execute(new, [x]), execute(mod, [x]))


def test_a_layer_with_two_readers_is_not_scaled() -> None:
    net = Net((1, 3, 5, 5))
    y = net.conv(net.x, 4, 1, "c")
    mod = net.module(net.call(relax.op.multiply(y, net.const(1, 4, 1, 1)), "scaled"), y)
    new = apply(mod, "all")
    assert ops(new) == ["conv2d", "add", "multiply"]
    x = inputs(mod, 1)[0]
    same(execute(new, [x]), execute(mod, [x]))


def test_compressed_weights_stay_compressed() -> None:
    mod = NETS["classifier"]()
    decomposed = Decompose(Recipe.named("int8"))(mod)
    new = apply(decomposed, "all")
    assert ops(new) == ops(decomposed)
    x = inputs(mod, 1)[0]
    same(execute(new, [x]), run(decomposed, x))


def test_names_of_layers_survive() -> None:
    mod = torchnets.loaded("mobile")[0]
    new = apply(mod, "all")
    layers = {v.name for v, e in bindings_of(new["main"]) if is_call(e, "relax.nn.conv2d")}
    assert layers == {"stem", "depthwise", "point"}
    assert new.attrs["sd.names"] == mod.attrs["sd.names"]
