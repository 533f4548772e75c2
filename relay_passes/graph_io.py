"""Relax module <-> neutral graph (:mod:`sd_tvm.graph`); generic over all pure Relax operators."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import ir, relax, structural_equal, tvm
from sd_tvm.errors import FormatError, UnsupportedModelError
from sd_tvm.frontends.naming import identifier
from sd_tvm.graph import TUPLE_GET, Graph, GraphInput, GraphNode
from sd_tvm.numerics.qparams import QParams
from sd_tvm.relay_passes._attrs import (
    NotEncoded,
    arg_from_json,
    arg_to_json,
    attrs_from_json,
    attrs_to_json,
)
from sd_tvm.relay_passes._rewrite import (
    NAMES_ATTR,
    Expr,
    IRModule,
    bindings_of,
    constant,
    set_attr,
    source_names,
    static_shape,
)
from sd_tvm.relay_passes.calibrate import activation_qparams, with_activations

Array = npt.NDArray[Any]
#: Operators that a graph may hold all start with the first; those with the others run code of their own.
_PREFIX = "relax."
_FORBIDDEN = (
    "relax.call_",
    "relax.builtin",
    "relax.vm",
    "relax.memory",
    "relax.invoke",
    "relax.make_closure",
)
#: Operators whose second operand is a layer's weight.
_WEIGHTED = ("relax.nn.conv1d", "relax.nn.conv2d", "relax.matmul")
#: Constants that are not float32 are literals; larger ones have no place in a graph.
MAX_LITERAL = 1 << 16


def _type_of(var: Expr) -> tuple[list[int], str, list[Any]]:
    """(shape, dtype, types of the fields) of a variable."""
    if isinstance(var.ty, relax.TupleType):
        fields: list[Any] = []
        for i, ty in enumerate(var.ty.fields):
            if not isinstance(ty, relax.TensorType) or ty.shape is None:
                raise _unsupported(var.name, f"field {i} of its tuple is {ty}")
            fields.append([[int(d) for d in ty.shape], str(ty.dtype)])
        if not fields:
            raise _unsupported(var.name, "its tuple is empty")
        return fields[0][0], fields[0][1], fields
    shape = static_shape(var)
    if shape is None:
        raise _unsupported(var.name, f"its type {var.ty} is no tensor of static shape")
    return list(shape), str(var.ty.dtype), []


def _unsupported(name: str, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"node {name!r} cannot be stored: {what}",
        expected="pure Relax operators on tensors of static shape in one function 'main'",
        fix="store the module before passes that add functions, or remove the node",
    )


@dataclass
class _Writer:
    """State of :func:`to_graph`."""

    names: dict[Expr, str]
    without: frozenset[str]
    nodes: list[GraphNode] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)
    aliases: dict[Expr, Expr] = field(default_factory=dict)
    constants: dict[Expr, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    def resolve(self, expr: Expr) -> Expr:
        """Follow bindings that are no operators."""
        while isinstance(expr, ir.Var) and expr in self.aliases:
            expr = self.aliases[expr]
        if isinstance(expr, relax.TupleGetItem):
            tup = self.resolve(expr.tuple_value)
            if isinstance(tup, relax.Tuple):
                return self.resolve(tup.fields[expr.index])
        return expr

    def add(self, var: Expr, value: Expr) -> None:
        value = self.resolve(value)
        if isinstance(value, ir.Var | relax.Tuple | ir.GenericConst):
            self.aliases[var] = value
            return
        name = self.names[var]
        if isinstance(value, relax.TupleGetItem):
            source = self.resolve(value.tuple_value)
            shape, dtype, _ = _type_of(var)
            self.nodes.append(
                GraphNode(name, TUPLE_GET, [self.names[source]], shape, dtype, {"$index": int(value.index)})
            )
            return
        if not isinstance(value, relax.Call) or not isinstance(value.op, ir.Op):
            raise _unsupported(name, f"it is a {type(value).__name__}, not an operator")
        op = str(value.op.name)
        if not op.startswith(_PREFIX) or op.startswith(_FORBIDDEN):
            raise _unsupported(name, f"{op} calls a function")
        inputs: list[str] = []
        try:
            args = [self._arg(name, op, i, a, inputs) for i, a in enumerate(value.args)]
            attrs = attrs_to_json(value.attrs)
        except NotEncoded as error:
            raise _unsupported(name, f"{op}: {error}") from error
        shape, dtype, types = _type_of(var)
        if args != [{"value": i} for i in range(len(inputs))]:
            attrs["$args"] = args
        if types:
            attrs["$types"] = types
        self.nodes.append(GraphNode(name, op, inputs, shape, dtype, attrs))

    def _arg(self, node: str, op: str, position: int, arg: Expr, inputs: list[str]) -> dict[str, Any]:
        arg = self.resolve(arg)
        if isinstance(arg, ir.Var):
            return self._input(self.names[arg], inputs)
        array = constant(arg)
        if array is not None:
            is_weight = op in _WEIGHTED and position == 1
            if is_weight and node in self.without:
                self.left_out.add(node)
                return {"weight": True}
            if array.dtype == np.float32:
                return self._input(
                    self._tensor(arg, array, f"{node}.{'weight' if is_weight else position}"), inputs
                )
            if array.size > MAX_LITERAL:
                raise NotEncoded(f"a constant of type {array.dtype} with {array.size} elements")
            literal = {
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "data": array.reshape(-1).tolist(),
            }
            return {"literal": literal}
        if isinstance(arg, relax.Tuple):
            return {"tuple": [self._arg(node, "", position, f, inputs) for f in arg.fields]}
        return arg_to_json(arg)

    @staticmethod
    def _input(name: str, inputs: list[str]) -> dict[str, Any]:
        inputs.append(name)
        return {"value": len(inputs) - 1}

    def _tensor(self, expr: Expr, array: Array, name: str) -> str:
        if expr not in self.constants:
            taken = {*self.tensors, *self.names.values()}
            unique, i = name, 1
            while unique in taken:
                unique, i = f"{name}_{i}", i + 1
            self.constants[expr] = unique
            self.tensors[unique] = array
        return self.constants[expr]


def node_names(mod: IRModule) -> dict[Expr, str]:
    """Name that every variable of ``main`` has in the graph: the user's, where known; unique."""
    sources, taken = source_names(mod), set[str]()
    names: dict[Expr, str] = {}
    main = mod["main"]
    for var in [*main.params, *(v for v, _ in bindings_of(main))]:
        base = sources.get(str(var.name), str(var.name))
        name, i = base, 1
        while name in taken:
            i += 1
            name = f"{base}_{i}"
        taken.add(name)
        names[var] = name
    return names


def to_graph(mod: IRModule, without_weights: Collection[str] = ()) -> tuple[Graph, dict[str, Array]]:
    """Neutral graph of a module and its float32 constants.

    Parameters
    ----------
    mod
        One Relax function ``main``, static shapes, pure operators.
    without_weights
        Layers (names of nodes: convolutions and dense layers) whose weight is stored elsewhere.

    Returns
    -------
    Graph
        Nodes named after the user's layers.
    dict of ndarray
        float32 constants by name; other constants are literals in the graph.

    Raises
    ------
    UnsupportedModelError
        Names the node that cannot be stored.
    """
    if "main" not in {g.name_hint for g in mod.get_global_vars()}:
        raise UnsupportedModelError("the module has no function 'main'", expected="a function 'main'")
    main = mod["main"]
    writer = _Writer(node_names(mod), frozenset(without_weights))
    inputs = []
    for param in main.params:
        shape, dtype, types = _type_of(param)
        if types:
            raise _unsupported(str(param.name), "the input is a tuple")
        inputs.append(GraphInput(writer.names[param], shape, dtype))
    for block in main.body.blocks:
        for binding in block.bindings:
            if not isinstance(binding, relax.VarBinding):
                raise _unsupported(str(binding.var.name), f"it is a {type(binding).__name__}")
            writer.add(binding.var, binding.value)
    body = writer.resolve(main.body.body)
    fields = [writer.resolve(f) for f in body.fields] if isinstance(body, relax.Tuple) else [body]
    if isinstance(body, relax.Tuple) and len(fields) == 1:
        raise _unsupported("main", "it returns a tuple of one")
    for item in fields:
        if not isinstance(item, ir.Var) or isinstance(item.ty, relax.TupleType):
            raise _unsupported("main", f"an output is {type(item).__name__} of type {item.ty}")
    missing = sorted(writer.without - writer.left_out)
    if missing:
        raise UnsupportedModelError(
            f"no layers of the names {missing}", expected="names of nodes with a constant weight"
        )
    graph = Graph(inputs, writer.nodes, [writer.names[f] for f in fields])
    graph.validate()
    return graph, writer.tensors


def graph_activations(mod: IRModule) -> dict[str, QParams]:
    """Calibrated quantisation of a module by the names that :func:`to_graph` gives its values."""
    qparams, graph = activation_qparams(mod), to_graph(mod)[0]
    values = {i.name for i in graph.inputs} | {n.name for n in graph.nodes}
    named = [(n, str(v.name)) for v, n in node_names(mod).items() if n in values]
    return {node: qparams[var] for node, var in named if var in qparams}


def from_graph(
    graph: Graph | Mapping[str, Any],
    tensors: Mapping[str, Array],
    *,
    weights: Mapping[str, Array] | None = None,
    activations: Mapping[str, QParams] | None = None,
) -> IRModule:
    """Relax module of a graph.

    Parameters
    ----------
    graph
        A graph, or its JSON data (which is verified).
    tensors
        Constants by name.
    weights
        float32 (M, Cg, KH, KW) by node, for layers whose weight the graph leaves out.
    activations
        Quantisation by value name; becomes the module's calibration.

    Raises
    ------
    FormatError
        Names the node whose operator, operands, attributes or type are not valid.
    """
    if isinstance(graph, Graph):
        graph.validate()
    else:
        graph = Graph.from_json(graph)
    reader = _Reader(graph, tensors, weights or {})
    mod = reader.build()
    if activations:
        names = reader.variables
        mod = with_activations(mod, {names[n]: q for n, q in activations.items() if n in names})
    return mod


class _Reader:
    """State of :func:`from_graph`."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Array], weights: Mapping[str, Array]) -> None:
        self.graph = graph
        self.weights = weights
        self.constants = {n: relax.const(np.asarray(a, order="C"), str(a.dtype)) for n, a in tensors.items()}
        #: Name of a value -> name of its variable.
        self.variables: dict[str, str] = {}
        self.env: dict[str, Expr] = {}

    def _variable(self, name: str) -> str:
        base = identifier(name)
        taken, text, i = set(self.variables.values()), base, 1
        while text in taken:
            text, i = f"{base}_{i}", i + 1
        self.variables[name] = text
        return text

    def build(self) -> IRModule:
        """The module; nothing is half built when a node is refused."""
        builder = relax.BlockBuilder()
        params, bindings = [], []
        for item in self.graph.inputs:
            self.variables[item.name] = item.name
            params.append(relax.Var(item.name, relax.TensorType(item.shape, item.dtype)))
            self.env[item.name] = params[-1]
        for node in self.graph.nodes:
            value = self._checked(node, builder)
            self.env[node.name] = relax.DataflowVar(self._variable(node.name), value.ty)
            bindings.append(relax.VarBinding(self.env[node.name], value))
        outputs = [self.env[name] for name in self.graph.outputs]
        result = builder.normalize(outputs[0] if len(outputs) == 1 else relax.Tuple(outputs))
        out = ir.Var("output", result.ty)
        block = relax.DataflowBlock([*bindings, relax.VarBinding(out, result)])
        func = relax.Function(params, relax.SeqExpr([block], out), out.ty)
        mod = relax.transform.Normalize()(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}))
        nodes = {n.name for n in self.graph.nodes}
        names = {var: name for name, var in self.variables.items() if name in nodes}
        return set_attr(mod, NAMES_ATTR, names)

    def _checked(self, node: GraphNode, builder: Expr) -> Expr:
        """The node's expression, with the type that the graph states."""
        try:
            value = builder.normalize(self._value(node))
            stated = _stated_type(node)
            if not structural_equal(value.ty, stated):
                raise NotEncoded(f"its type is {value.ty}, the graph states {stated}")
        except FormatError:
            raise
        except Exception as error:
            first = (str(error).strip().splitlines() or [repr(error)])[0]
            raise FormatError(
                f"graph node {node.name!r} ({node.op}): {first[:200]}",
                expected="a Relax operator with valid operands and attributes",
                fix="export the model again with this version",
            ) from error
        return value

    def _value(self, node: GraphNode) -> Expr:
        if node.op == TUPLE_GET:
            return relax.TupleGetItem(self.env[node.inputs[0]], node.attrs["$index"])
        if not node.op.startswith(_PREFIX) or node.op.startswith(_FORBIDDEN):
            raise NotEncoded("no operator of a graph")
        op = ir.Op.get(node.op)
        stated = node.attrs.get("$args", [{"value": i} for i in range(len(node.inputs))])
        args = [self._arg(node, a) for a in stated]
        return relax.Call(op, args, attrs_from_json(op, node.attrs))

    def _arg(self, node: GraphNode, arg: Mapping[str, Any]) -> Expr:
        if "value" in arg:
            name = node.inputs[arg["value"]]
            if name in self.env:
                return self.env[name]
            if name not in self.constants:
                raise NotEncoded(f"the constant {name!r} is not stored")
            return self.constants[name]
        if "tuple" in arg:
            return relax.Tuple([self._arg(node, a) for a in arg["tuple"]])
        if "weight" in arg:
            return self._weight(node)
        return arg_from_json(arg)

    def _weight(self, node: GraphNode) -> Expr:
        if node.name not in self.weights:
            raise NotEncoded("its weight is not stored")
        array = np.asarray(self.weights[node.name], np.float32)
        if node.op == "relax.matmul":
            array = array.reshape(array.shape[:2]).T
        elif node.op == "relax.nn.conv1d":
            array = array[:, :, 0]
        return relax.const(np.asarray(array, order="C"), "float32")


def _stated_type(node: GraphNode) -> Expr:
    if "$types" in node.attrs:
        return relax.TupleType([relax.TensorType(s, d) for s, d in node.attrs["$types"]])
    return relax.TensorType(node.shape, node.dtype)


def graph_to_text(graph: Graph) -> str:
    """Canonical JSON text (sorted keys, no spaces)."""
    return json.dumps(graph.to_json(), sort_keys=True, separators=(",", ":"))
