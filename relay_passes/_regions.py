"""Regions: which integer layers of a function can be one program, and that program's place in the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sd_tvm._tvm import ir, relax
from sd_tvm.layers import PACKED_LANES, ConvLayer, Layer, constant_names, n_activations, packed_width
from sd_tvm.relay_passes._rewrite import Expr, _vars_in, const, constant, is_call, static_shape
from sd_tvm.schedules.accel.fusion import Node, Region, Value
from sd_tvm.schedules.ops import build_pack4, pack_records

#: Operands that a program can have, with room for results that only pass through DRAM.
MAX_OPERANDS = 960


@dataclass(frozen=True)
class Call:
    """One layer's binding."""

    var: Expr
    func: str
    layer: Layer
    args: tuple[Expr, ...]
    ty: Expr

    @property
    def activations(self) -> tuple[Expr, ...]:
        """Its activation operands."""
        return self.args[: n_activations(self.layer)]

    @property
    def constants(self) -> tuple[Expr, ...]:
        """Its other operands."""
        return self.args[n_activations(self.layer) :]


@dataclass
class Group:
    """Layers that become one program."""

    calls: list[Call] = field(default_factory=list)

    @property
    def operands(self) -> int:
        """Operands and results, at most."""
        return sum(len(c.args) + 1 for c in self.calls)


@dataclass(frozen=True)
class Built:
    """A group as a region.

    Attributes
    ----------
    region
        Its graph.
    inputs
        Expression of each value that comes from outside, by value.
    constants
        The distinct constant operands.
    numbers
        For each node, its constants' numbers.
    records
        Numbers of constants that are packed to 9 bytes a word, and the 3 bytes that follow.
    variables
        Variable of each value that a node makes.
    types
        Type of each such value.
    """

    region: Region
    inputs: dict[int, Expr]
    constants: list[Expr]
    numbers: list[list[int]]
    records: dict[int, tuple[int, int, int]]
    variables: dict[int, Expr]
    types: dict[int, Expr]


def layer_call(binding: Expr, layers: Mapping[str, Layer]) -> Call | None:
    """The layer of a binding, None for anything else."""
    value = getattr(binding, "value", None)
    if value is None or not is_call(value, "relax.call_tir") or not isinstance(value.args[0], ir.GlobalVar):
        return None
    name = str(value.args[0].name_hint)
    if name not in layers:
        return None
    return Call(binding.var, name, layers[name], tuple(value.args[1].fields), value.ty_args[0])


def pack_inputs(
    group: Group, add: Callable[[Any, str], Expr], fresh: Callable[[str, Any], Expr]
) -> list[Expr]:
    """Let convolutions of few channels read their outside input with 4 channels a pixel instead of 16.

    Parameters
    ----------
    group
        Its calls are changed.
    add
        Adds a function to the module.
    fresh
        Makes a variable of a name and a type.

    Returns
    -------
    list
        Bindings that pack the inputs, for in front of the group.
    """
    made = {c.var for c in group.calls}
    packed: dict[Expr, Expr] = {}
    bindings = []
    for i, call in enumerate(group.calls):
        layer = call.layer
        if not isinstance(layer, ConvLayer) or layer.groups > 1 or layer.in_channels > PACKED_LANES:
            continue
        x = call.args[0]
        if x in made or layer.packed_input or layer.in_hw == (1, 1):
            continue
        if x not in packed:
            n, cb, h, w = _shape(x)
            gvar = add(build_pack4((n, cb, h, w), layer.in_dtype, "pack4"), "pack4")
            ty = relax.TensorType((n, cb, h, packed_width(w), PACKED_LANES), layer.in_dtype)
            packed[x] = fresh("packed", ty)
            bindings.append(relax.VarBinding(packed[x], relax.call_tir(gvar, [x], out_ty=ty)))
        group.calls[i] = replace(
            call, layer=replace(layer, packed_input=True), args=(packed[x], *call.args[1:])
        )
    return bindings


def build(group: Group, leaves: Callable[[Expr], bool]) -> Built:
    """Graph of a group; ``leaves`` says whether somebody else reads a variable."""
    values: list[Value] = []
    inputs: dict[int, Expr] = {}
    made: dict[Expr, int] = {}
    known: dict[Expr, int] = {}
    constants: list[Expr] = []
    number: dict[tuple[Expr, str], int] = {}
    records: dict[int, tuple[int, int, int]] = {}
    nodes, numbers = [], []
    variables, types = {}, {}
    for call in group.calls:
        operands = []
        for arg in call.activations:
            at = made.get(arg, known.get(arg))
            if at is None:
                at = known[arg] = len(values)
                packed = isinstance(call.layer, ConvLayer) and call.layer.packed_input
                n, cb, h, w = _shape(arg)
                shape = (n, cb, h, call.layer.in_hw[1] if isinstance(call.layer, ConvLayer) else w)
                values.append(Value(shape, str(getattr(arg, "name", "constant")), packed=packed))
                inputs[at] = arg
            operands.append(at)
        mine = []
        for at, arg in enumerate(call.constants):
            key = (arg, _record_operand(call.layer, at))
            if key not in number:
                number[key] = len(constants)
                packed_arg = _packed(call.layer, key[1], arg)
                if packed_arg is None:
                    constants.append(arg)
                else:
                    constants.append(packed_arg[0])
                    records[number[key]] = packed_arg[1]
            mine.append(number[key])
        numbers.append(mine)
        result = len(values)
        values.append(Value(_shape(call.var), call.layer.name, leaves(call.var)))
        made[call.var], variables[result], types[result] = result, call.var, call.ty
        nodes.append(Node(call.layer, tuple(operands), len(mine), result))
    return Built(Region(tuple(nodes), tuple(values)), inputs, constants, numbers, records, variables, types)


def _record_operand(layer: Layer, constant: int) -> str:
    """``basis`` or ``qp`` if the constant of a convolution is that, else an empty string."""
    if not isinstance(layer, ConvLayer):
        return ""
    names = constant_names(layer)
    return names[constant] if names[constant] in ("basis", "qp") else ""


def _packed(layer: Layer, operand: str, expr: Expr) -> tuple[Expr, tuple[int, int, int]] | None:
    """A constant in 9 bytes a word, where that loses nothing."""
    array = constant(expr) if operand else None
    if array is None or not isinstance(layer, ConvLayer):
        return None
    found = pack_records(layer, operand, array)
    return None if found is None else (const(found[0]), found[1])


def _shape(expr: Expr) -> tuple[int, int, int, int]:
    """(images, blocks, height, width) of a blocked tensor."""
    shape = static_shape(expr)
    assert shape is not None
    assert len(shape) == 5
    return shape[0], shape[1], shape[2], shape[3]


def groups_of(
    bindings: list[Expr], layers: Mapping[str, Layer], *, reorder: bool
) -> Iterator[Group | Expr]:
    """Bindings of a block in an order in which layers stand together: groups and other bindings.

    Parameters
    ----------
    bindings
        In order.
    layers
        PrimFunc name -> layer, for layers that the accelerator takes.
    reorder
        Whether bindings may change places (a dataflow block).
    """
    group = Group()
    inside: set[Expr] = set()  # made by the group
    waiting: list[Expr] = []  # other bindings that read the group, or one another
    late: set[Expr] = set()  # what those make
    for binding in bindings:
        call = layer_call(binding, layers)
        reads = set(_vars_in(binding.value)) if hasattr(binding, "value") else set()
        if call is not None:
            weights = {v for c in call.constants for v in _vars_in(c)}
            full = group.operands + len(call.args) + 1 > MAX_OPERANDS
            if reads & late or weights & inside or full or (waiting and not reorder):
                if group.calls:
                    yield group
                yield from waiting
                group, inside, waiting, late = Group(), set(), [], set()
            group.calls.append(call)
            inside.add(binding.var)
        elif not group.calls or (reorder and not reads & (inside | late)):
            yield binding
        else:
            waiting.append(binding)
            if hasattr(binding, "var"):
                late.add(binding.var)
    if group.calls:
        yield group
    yield from waiting


def region_call(
    name: str, built: Built, inputs: list[int], results: list[int], fresh: Callable[[str, Any], Expr]
) -> list[Expr]:
    """Bindings that call a region's program and name its results.

    Parameters
    ----------
    name
        Function of the external module.
    built
        The region.
    inputs, results
        Values in the order of the program's operands.
    fresh
        Makes a variable of a name and a type.
    """
    args = relax.Tuple([*(built.inputs[v] for v in inputs), *built.constants])
    types = [built.types[v] for v in results]
    if len(results) == 1:
        call = relax.call_dps_packed(name, args, out_ty=types[0])
        return [relax.VarBinding(built.variables[results[0]], call)]
    call = relax.call_dps_packed(name, args, out_ty=types)
    whole = fresh(name, relax.TupleType(types))
    out = [relax.VarBinding(whole, call)]
    for i, v in enumerate(results):
        if built.region.values[v].leaves:
            out.append(relax.VarBinding(built.variables[v], relax.TupleGetItem(whole, i)))
    return out
