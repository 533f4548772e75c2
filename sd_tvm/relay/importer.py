"""A Relay graph becomes a Relax module: every call by its row of the table, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sd_tvm._tvm import ir, relax
from sd_tvm.errors import UnsupportedDTypeError, UnsupportedModelError
from sd_tvm.frontends.checks import DTYPES, finish
from sd_tvm.frontends.naming import apply_names, identifier, propose, spread_scopes
from sd_tvm.relay.graph import (
    Array,
    Call,
    Constant,
    GetItem,
    Graph,
    Names,
    Node,
    TensorType,
    Tuple,
    Var,
    in_order,
    rewrite,
)
from sd_tvm.relay.site import TO_NCHW, Expr, Layouts, Operator, Site, axis_in_nchw
from sd_tvm.relay.table import OPERATORS


def bind(graph: Graph, params: Mapping[str, Array]) -> tuple[Graph, dict[int, str]]:
    """The graph with inputs replaced by the parameters of their names.

    Returns
    -------
    (Graph, dict)
        The graph, and the names of the constants that it got, by identity.

    Raises
    ------
    UnsupportedModelError
        If a parameter has another shape or type than its input, or an input that is a weight has none.
    """
    constants: dict[str, Constant] = {}
    for var in graph.params:
        array = params.get(var.name)
        if array is None:
            continue
        found = TensorType(array.shape, str(array.dtype))
        if var.type is not None and found != var.type:
            raise UnsupportedModelError(
                f"the parameter {var.name!r} is {found}",
                expected=f"{var.type}, as the module says",
                fix="pass the parameters that belong to this module",
            )
        constants[var.name] = Constant(f"the parameter {var.name!r}", array)

    def leaf(node: Node) -> Node:
        return constants.get(node.name, node) if isinstance(node, Var) else node

    bound = rewrite(graph, leaf)
    inputs = tuple(v for v in graph.params if v.name not in constants)
    _check_weights(bound, inputs)
    return Graph(inputs, bound.body, graph.version), {id(c): name for name, c in constants.items()}


def _check_weights(graph: Graph, inputs: tuple[Var, ...]) -> None:
    missing: dict[str, Call] = {}
    for node in in_order(graph.body):
        if isinstance(node, Call):
            for k in OPERATORS[node.op].weights:
                if k < len(node.args) and isinstance(node.args[k], Var):
                    missing.setdefault(node.args[k].name, node)  # type: ignore[attr-defined]
    if missing:
        name, call = next(iter(missing.items()))
        raise UnsupportedModelError(
            f"{len(missing)} weights are inputs without a value, first {name!r} of {call}",
            expected="params= with an array for each",
            fix="pass params=, a mapping or a file of relay.save_param_dict, or bind them before saving: "
            "mod['main'] = relay.build_module.bind_params_by_name(mod['main'], params)",
        )
    for var in inputs:
        if var.type is None:
            raise UnsupportedModelError(
                f"{var.where} has no type", expected="typed inputs", fix="run relay.transform.InferType()"
            )


def to_relax(graph: Graph, params: Mapping[str, Array] | None = None) -> Any:
    """Relax module of a graph.

    Returns
    -------
    tvm.IRModule
        As :func:`sd_tvm.load_model` returns it: ``main``, weights as constants, names of layers recorded.

    Raises
    ------
    UnsupportedModelError
        Missing or wrong parameters, or a node that cannot be translated; the message names it.
    UnsupportedDTypeError
        A floating-point type other than float32.
    """
    bound, names = bind(graph, params or {})
    return _Importer(bound, names).run()


class _Importer:
    def __init__(self, graph: Graph, constants: Mapping[int, str]) -> None:
        self.graph = graph
        self.constants = constants
        self.builder = relax.BlockBuilder()
        self.layouts = Layouts(self.builder)
        self.values: dict[int, Any] = {}
        self.scopes: dict[str, str] = {}
        self.names = Names()

    def run(self) -> Any:
        inputs, taken = [], Names()
        for var in self.graph.params:
            assert var.type is not None  # bind() has checked it
            _check_dtype(var.type.dtype, var.where)
            kind = relax.TensorType(var.type.shape, var.type.dtype)
            value = relax.Var(taken.of(identifier(var.name)), kind)
            self.values[id(var)] = value
            inputs.append(value)
        with self.builder.function("main", inputs):
            with self.builder.dataflow():
                for node in in_order(self.graph.body):
                    if not isinstance(node, Var):
                        self.values[id(node)] = self.translate(node)
                result = self.output(self.values[id(self.graph.body)])
                output = self.builder.emit_output(result)
            self.builder.emit_func_output(output)
        mod = relax.transform.DeadCodeElimination()(self.builder.finalize())
        func = mod["main"]
        scopes = spread_scopes(func, self.scopes)
        return finish(apply_names(mod, propose(func, {}, scopes, nested=False)))

    def output(self, value: Any) -> Expr:
        if isinstance(value, list):
            return relax.Tuple([self.output(v) for v in value])
        return value

    def translate(self, node: Node) -> Any:
        if isinstance(node, Constant):
            _check_dtype(str(node.array.dtype), node.where)
            array = np.array(node.array, order="C")
            return relax.const(array, str(array.dtype))
        if isinstance(node, Tuple):
            return [self.values[id(f)] for f in node.fields]
        if isinstance(node, GetItem):
            value = self.values[id(node.value)]
            if not isinstance(value, list) or node.index >= len(value):
                size = f"a tuple of {len(value)}" if isinstance(value, list) else "a tensor"
                raise UnsupportedModelError(f"{node.where}: field {node.index} of {size}", expected="a field")
            return value[node.index]
        assert isinstance(node, Call)
        return self.call(node)

    def call(self, call: Call) -> Any:
        row = OPERATORS[call.op]
        args = [self.values[id(a)] for a in call.args]
        name = self.name_of(call)
        try:
            value = self.in_nchw(row, call, args)
            if value is None:
                value = row.build(Site(call, args, self.builder, self.layouts, self.graph.version))
            result = self.bound(value, name)
        except UnsupportedModelError:
            raise
        except Exception as error:  # what TVM raises about a shape or type that does not fit
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise UnsupportedModelError(
                f"{call}: {lines[-1][:300]}",
                expected="operands and attributes that fit each other",
                fix="run relay.transform.InferType() before the module is saved",
            ) from error
        _check_type(call, call.type, result)
        return result

    def bound(self, value: Any, name: str) -> Any:
        if isinstance(value, tuple | list):
            return [self.bound(v, name) for v in value]
        if not isinstance(value, ir.Var | ir.GenericConst):
            value = self.builder.emit(value)
        for made in (self.layouts.nchw_of(value), value):
            if isinstance(made, ir.Var):
                self.scopes.setdefault(str(made.name), name)
        return value

    def name_of(self, call: Call) -> str:
        """Name of the layer: its weight's, the source model's, else the operator's and a number."""
        for k in OPERATORS[call.op].weights[:1]:
            weight = call.args[k] if k < len(call.args) else None
            name = self.constants.get(id(weight))
            if name is not None and call.op not in ("nn.bias_add", "nn.batch_norm"):
                for ending in ("_weight", ".weight"):
                    name = name.removesuffix(ending)
                return self.names.of(name)
        if call.span:
            return self.names.of(call.span.strip("/").replace("/", "."))
        return self.names.numbered(call.op.rpartition(".")[2])

    def in_nchw(self, row: Operator, call: Call, args: list[Any]) -> Any:
        """The call on the NCHW values that its NHWC operands were made from; None if there are none."""
        new, attrs = list(args), dict(call.attrs)
        found = False
        for k in row.data:
            if k >= len(args):
                return None
            parts = args[k] if isinstance(args[k], list) else [args[k]]
            nchw = [self.layouts.nchw_of(p) for p in parts]
            found = found or any(v is not None for v in nchw)
            turned = [v if v is not None else _turned(p) for v, p in zip(nchw, parts, strict=True)]
            if any(v is None for v in turned):
                return None
            new[k] = turned if isinstance(args[k], list) else turned[0]
        if not found:
            return None
        for axis in row.axes:
            if not isinstance(attrs[axis], int) or not -4 <= attrs[axis] < 4:
                return None
            attrs[axis] = axis_in_nchw(attrs[axis])
        site = Site(call, new, self.builder, self.layouts, self.graph.version, attrs)
        value = row.build(site)
        first, *rest = value if isinstance(value, tuple) else (value,)
        first = self.layouts.to_nhwc(site.emit(first))
        return (first, *rest) if rest else first


def _turned(value: Expr) -> Expr | None:
    """A constant that broadcasts with NHWC values, so that it broadcasts with NCHW ones."""
    if not isinstance(value, ir.GenericConst):
        return None
    array = value.value.numpy()
    if array.size == 1 and array.ndim <= 1:
        return value
    if array.ndim > 4:
        return None
    whole = array.reshape((1,) * (4 - array.ndim) + array.shape)
    return relax.const(np.array(whole.transpose(TO_NCHW), order="C"), str(array.dtype))


def _check_dtype(dtype: str, where: str) -> None:
    if dtype not in DTYPES:
        raise UnsupportedDTypeError(
            f"{where} is {dtype}",
            expected=f"one of {', '.join(sorted(DTYPES))}",
            fix="convert the model to float32 in Relay before it is saved",
        )


def _check_type(call: Call, expected: Any, value: Any) -> None:
    """What was made has the type that Relay inferred."""
    if isinstance(expected, tuple) and isinstance(value, list):
        for e, v in zip(expected, value, strict=False):
            _check_type(call, e, v)
    elif isinstance(expected, TensorType) and not isinstance(value, list):
        found = TensorType(tuple(int(d) for d in value.ty.shape), str(value.ty.dtype))
        if found != expected:
            raise UnsupportedModelError(
                f"{call}: imported as {found}",
                expected=f"{expected}, as Relay inferred",
                fix="this is an error of the importer: report it with the node",
            )
