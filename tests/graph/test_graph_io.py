"""Relax -> graph -> JSON text -> Relax: the same module, name by name and bit by bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from frontends import onnxnets, torchnets
from passes.nets import NETS, Net
from passes.running import inputs

from sd_tvm._tvm import relax, structural_equal, te, tvm
from sd_tvm.calibration import Interpreter
from sd_tvm.errors import FormatError, UnsupportedModelError
from sd_tvm.frontends import load_model
from sd_tvm.graph import Graph
from sd_tvm.relay_passes._rewrite import bindings_of
from sd_tvm.relay_passes.calibrate import Calibrate, activation_qparams
from sd_tvm.relay_passes.canonicalize import Canonicalize
from sd_tvm.relay_passes.fold_batch_norm import FoldBatchNorm
from sd_tvm.relay_passes.fold_pad import FoldPad
from sd_tvm.relay_passes.graph_io import from_graph, graph_activations, graph_to_text, node_names, to_graph


def clean(mod: Any) -> Any:
    return tvm.transform.Sequential([Canonicalize(), FoldBatchNorm(), FoldPad()])(mod)


def through_json(mod: Any, **kw: Any) -> tuple[Any, Graph, dict[str, np.ndarray]]:
    graph, tensors = to_graph(mod, **kw)
    assert all(t.dtype == np.float32 for t in tensors.values())
    assert sorted(tensors) == sorted(graph.constants())
    return from_graph(json.loads(graph_to_text(graph)), tensors), graph, tensors


def check(mod: Any, xs: list[np.ndarray]) -> None:
    new, graph, tensors = through_json(mod)
    relax.analysis.well_formed(new)
    again, tensors_again = to_graph(new)
    assert graph_to_text(again) == graph_to_text(graph)
    assert all(np.array_equal(tensors[n], tensors_again[n]) for n in tensors)
    a, b = (Interpreter(m).run(xs) for m in (mod, new))
    for x, y in zip(*[v if isinstance(v, tuple) else (v,) for v in (a, b)], strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("cleaned", [False, True])
@pytest.mark.parametrize("name", torchnets.NETS)
def test_torch_networks(name: str, cleaned: bool) -> None:
    mod, _, xs = torchnets.loaded(name)
    mod = clean(mod) if cleaned else mod
    check(mod, [x.numpy() for x in xs])
    if cleaned:  # before that there are bindings of a variable to a variable, which a graph does not have
        assert structural_equal(through_json(mod)[0]["main"], mod["main"], True)


@pytest.mark.parametrize("name", NETS)
def test_other_networks(name: str) -> None:
    mod = NETS[name]()
    check(mod, inputs(mod, 1))


def test_onnx_network() -> None:
    mod = load_model(onnxnets.classifier())
    check(mod, inputs(mod, 1))
    check(clean(mod), inputs(mod, 1))


def test_nodes_have_the_users_names() -> None:
    model = torchnets.loaded("resnet")[0]
    graph, tensors = to_graph(clean(model))
    assert {"0", "4.conv1", "5.down.0", "9"} <= {n.name for n in graph.nodes}
    assert {"0.weight", "4.conv1.weight", "9.weight"} <= set(tensors)
    new, _, _ = through_json(clean(model))
    old_vars = [v.name for v, e in bindings_of(clean(model)["main"]) if isinstance(e, relax.Call)]
    assert [v.name for v, e in bindings_of(new["main"]) if isinstance(e, relax.Call)] == old_vars


def test_weights_stored_elsewhere() -> None:
    for name in ("resnet", "sequence", "dense"):
        model = torchnets.loaded(name)[0]
        mod = clean(model)
        full, tensors = to_graph(mod)
        layers = [n.name for n in full.nodes if n.op.endswith(("conv2d", "conv1d", "matmul"))]
        graph, rest = to_graph(mod, without_weights=layers)
        assert {t for t in tensors if t.endswith(".weight")} == {f"{n}.weight" for n in layers}
        assert set(rest) == set(tensors) - {f"{n}.weight" for n in layers}
        weights = {}
        for n in layers:
            w = tensors[f"{n}.weight"]
            weights[n] = {
                2: lambda w=w: w.T[:, :, None, None],
                3: lambda w=w: w[:, :, None],
                4: lambda w=w: w,
            }[w.ndim]()
        new = from_graph(graph, rest, weights=weights)
        assert structural_equal(new["main"], mod["main"], True)
        with pytest.raises(FormatError, match=f"node '{layers[0]}'.*weight is not stored"):
            from_graph(graph, rest)
    with pytest.raises(UnsupportedModelError, match=r"\['nothing'\]"):
        to_graph(mod, without_weights=["nothing"])


def test_calibration_goes_along() -> None:
    model, _, xs = torchnets.loaded("mobile")
    mod = Calibrate([x.numpy() for x in xs])(clean(model))
    graph, tensors = to_graph(mod)
    activations = graph_activations(mod)
    assert set(activations) == {v.name for v in [*graph.inputs, *graph.nodes]}
    new = from_graph(graph, tensors, activations=activations)
    old = activation_qparams(mod)
    assert activation_qparams(new) == {
        v: old[v] for v in (str(x.name) for x, n in node_names(mod).items() if n in activations)
    }


def test_constants_that_are_not_float32_are_literals() -> None:
    net = Net((4, 5))
    index = relax.const(np.array([3, 0, 1], np.int64), "int64")
    mod = net.module(net.call(relax.op.take(net.x, index, 0), "y"))
    graph, tensors = to_graph(mod)
    assert not tensors
    assert graph.nodes[0].attrs["$args"][1] == {
        "literal": {"shape": [3], "dtype": "int64", "data": [3, 0, 1]}
    }
    check(mod, inputs(mod, 1))
    big = relax.const(np.zeros(1 << 17, np.int64), "int64")
    net = Net((4, 5))
    with pytest.raises(UnsupportedModelError, match=r"'y'.*131072 elements"):
        to_graph(net.module(net.call(relax.op.take(net.x, big, 0), "y")))


def test_infinite_bounds_and_a_shared_constant() -> None:
    net = Net((2, 3))
    c = net.const(3)
    y = net.call(relax.op.clip(net.x, float("-inf"), 1.5), "clip")
    y = net.call(relax.op.add(y, c), "a")
    mod = net.module(net.call(relax.op.multiply(y, c), "b"))
    _, graph, tensors = through_json(mod)
    assert len(tensors) == 1
    assert "Infinity" not in graph_to_text(graph)
    check(mod, inputs(mod, 1))


def test_what_cannot_be_stored() -> None:
    a = te.placeholder((2, 3), "float32", "a")
    func = te.create_prim_func([a, te.compute((2, 3), lambda i, j: a[i, j] * 2, "b")])
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 3), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            gvar = builder.add_func(func, "twice")
            y = builder.emit(relax.call_tir(gvar, [x], out_ty=x.ty), "doubled")
            out = builder.emit_output(y)
        builder.emit_func_output(out)
    with pytest.raises(UnsupportedModelError, match=r"'doubled'.*relax\.call_tir calls a function"):
        to_graph(builder.get())
    with pytest.raises(UnsupportedModelError, match="no function 'main'"):
        to_graph(tvm.IRModule({}))


def damaged(change: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    graph, tensors = to_graph(clean(torchnets.loaded("sequence")[0]))
    data = json.loads(graph_to_text(graph))
    change(data["nodes"])
    return data, tensors


DAMAGE = {
    "unknown operator": (lambda n: n[0].update(op="relax.nn.conv9d"), "conv9d"),
    "no operator": (lambda n: n[0].update(op="os.system"), "no operator of a graph"),
    "packed function": (lambda n: n[0].update(op="relax.call_pure_packed"), "no operator of a graph"),
    "tir function": (lambda n: n[0].update(op="relax.call_tir"), "no operator of a graph"),
    "attribute missing": (lambda n: n[0]["attrs"].pop("strides"), "relax.nn.conv1d"),
    "attribute unknown": (lambda n: n[0]["attrs"].update(more=1), "relax.nn.conv1d"),
    "attribute of another type": (lambda n: n[0]["attrs"].update(strides="a"), "relax.nn.conv1d"),
    "attributes of another operator": (
        lambda n: n[0]["attrs"].update({"$type": "relax.attrs.PadAttrs"}),
        "conv1d",
    ),
    "attributes of no operator": (lambda n: n[0]["attrs"].update({"$type": "ffi.Function"}), "ffi.Function"),
    "operands missing": (lambda n: n[0].update(inputs=["input"]), "relax.nn.conv1d"),
    "shape": (lambda n: n[0].update(shape=[1, 6, 18]), "the graph states"),
    "dtype": (lambda n: n[1].update(dtype="float16"), "the graph states"),
    "dtype that is none": (lambda n: n[1].update(dtype="float7"), "relax.add"),
    "constant missing": (lambda n: n[1]["inputs"].__setitem__(1, "ghost"), "'ghost' is not stored"),
    "literal of a wrong size": (
        lambda n: n[1]["attrs"].update(
            {"$args": [{"value": 0}, {"literal": {"shape": [2], "dtype": "float32", "data": [1]}}]}
        ),
        "relax.add",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_graphs_are_refused_by_the_nodes_name(name: str) -> None:
    change, match = DAMAGE[name]
    data, tensors = damaged(change)
    with pytest.raises(FormatError, match=match) as caught:
        from_graph(data, tensors)
    assert "graph node" in str(caught.value)
