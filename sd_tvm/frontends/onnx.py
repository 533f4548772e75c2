"""ONNX files and protobufs; needs the onnx package and not torch."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from sd_tvm._tvm import relax
from sd_tvm.errors import MissingExtraError, UnsupportedModelError
from sd_tvm.frontends.checks import check_dtype, dynamic_shape, finish, translate
from sd_tvm.frontends.naming import apply_names, propose, spread_scopes
from sd_tvm.relay_passes._rewrite import constant

_WEIGHTED = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}


def _onnx() -> Any:
    try:
        return import_module("onnx")
    except ImportError as error:
        raise MissingExtraError(
            "the onnx package is not installed", expected="onnx", fix="pip install 'sd-tvm[onnx]'"
        ) from error


def from_file(path: str, example_inputs: Sequence[Any] | Any | None = None) -> Any:
    """Import an ``.onnx`` file (external data beside it included)."""
    onnx = _onnx()
    try:
        model = onnx.load(path)
    except Exception as error:
        raise UnsupportedModelError(
            f"onnx cannot load {path!r}: {error!r:.200}",
            expected="an ONNX model",
            fix="export the model again",
        ) from error
    return from_proto(model, example_inputs)


def from_proto(model: Any, example_inputs: Sequence[Any] | Any | None = None) -> Any:
    """Import an ``onnx.ModelProto``; example inputs, in order, replace symbolic dimensions."""
    from tvm.relax.frontend.onnx import onnx_frontend

    onnx = _onnx()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    shapes = _check_inputs(copy.graph, example_inputs, onnx)
    for tensor in copy.graph.initializer:
        check_dtype(_dtype(tensor.data_type, onnx), f"the initializer {tensor.name!r}")
    _name_nodes(copy.graph)

    scopes: dict[str, str] = {}

    class Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
        """Binds every node to a variable, so that it can carry the node's name."""

        def _convert_operator(self, op_name: str, inputs: Any, attrs: Any, opset: int) -> Any:
            bounds = _clip_bounds(inputs, attrs) if op_name == "Clip" else None
            if bounds is not None:
                result = self.bb.normalize(relax.op.clip(inputs[0], *bounds))
            else:
                result = super()._convert_operator(op_name, inputs, attrs, opset)
            if isinstance(result, relax.Call) and isinstance(result.ty, relax.TensorType | relax.TupleType):
                result = self.bb.emit(result)
            if isinstance(result, relax.DataflowVar):
                scopes.setdefault(result.name, attrs["tvm_custom"]["name"])
            return result

    def run() -> Any:
        importer = Importer(shapes, "float32", keep_params_in_input=False, sanitize=True)
        opset = next((o.version for o in copy.opset_import if o.domain in ("", "ai.onnx")), 1)
        # the importer prints and warns what the error says anyway
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return importer.from_onnx(copy.graph, opset)

    mod = translate(run, "the ONNX model")
    func = mod["main"]
    return finish(apply_names(mod, propose(func, {}, spread_scopes(func, scopes), nested=False)))


def _clip_bounds(inputs: Any, attrs: Any) -> tuple[float, float] | None:
    """Bounds of a Clip node if they are constants (TVM's importer makes TIR functions of them)."""
    bounds = []
    for at, key, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        operand = inputs[at] if len(inputs) > at else None
        if operand is None:
            bounds.append(float(attrs.get(key, default)))
            continue
        value = constant(operand)
        if value is None or value.size != 1 or np.isnan(value).any():
            return None
        bounds.append(float(value.reshape(())))
    lo, hi = bounds
    return lo, hi


def _dtype(code: int, onnx: Any) -> str:
    try:
        return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code)))
    except (KeyError, TypeError, ValueError):
        return f"ONNX type {code}"


def _check_inputs(graph: Any, example_inputs: Any, onnx: Any) -> dict[str, list[int]]:
    """Static shape of every input."""
    weights = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in weights]
    examples: list[Any] = []
    if example_inputs is not None:
        examples = list(example_inputs) if isinstance(example_inputs, tuple | list) else [example_inputs]
        if len(examples) != len(inputs):
            raise UnsupportedModelError(
                f"{len(examples)} example inputs for a model with {len(inputs)}",
                expected=f"one for each of {[i.name for i in inputs]}",
            )
    shapes: dict[str, list[int]] = {}
    for index, value in enumerate(inputs):
        what = f"the input {value.name!r}"
        tensor = value.type.tensor_type
        check_dtype(_dtype(tensor.elem_type, onnx), what)
        if examples:
            shapes[value.name] = [int(d) for d in examples[index].shape]
            continue
        if not tensor.HasField("shape"):
            raise dynamic_shape(what, None)
        for i, dim in enumerate(tensor.shape.dim):
            if dim.WhichOneof("value") != "dim_value" or dim.dim_value <= 0:
                raise dynamic_shape(what, i, dim.dim_param or "unknown")
        shapes[value.name] = [int(d.dim_value) for d in tensor.shape.dim]
    return shapes


def _name_nodes(graph: Any) -> None:
    """Give every node the name that reports will show: its weight's, else its own, else its output's."""
    weights = {t.name for t in graph.initializer}
    for node in graph.node:
        at = _WEIGHTED.get(node.op_type)
        weight = node.input[at] if at is not None and len(node.input) > at else ""
        if weight in weights and weight.endswith(".weight"):
            node.name = weight.removesuffix(".weight")
        if not node.name:
            node.name = node.output[0]
        node.name = node.name.strip("/").replace("/", ".")
