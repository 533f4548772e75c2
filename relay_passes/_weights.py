"""Weights in a Relax graph: finding the layers that have one, writing them compressed, reading them back.

A compressed weight is ``call_tir(rebuild_<layer>, (codes, basis, table, [bitmap], [ids], scale))`` or, for
int8, ``call_tir(decode_<layer>, (w8, scale))``; the result is float32 (M, Cg, KH, KW). Attribute
``sd.weight`` of the PrimFunc says what the operands are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import ir, relax, tirx, tvm
from sd_tvm.recipe import LayerInfo
from sd_tvm.recipe.layer import Op
from sd_tvm.relay_passes._rewrite import Expr, IRModule, bindings_of, const, constant, is_call, source_names
from sd_tvm.schedules.ops import build_rebuild_weight
from sd_tvm.weights.packing import pack_raw, pack_sd, unpack_raw, unpack_sd
from sd_tvm.weights.tensor import SDWeight, Weight, WeightForm
from sd_tvm.weights.verify import array_names

WEIGHT_ATTR = "sd.weight"
WEIGHTED = ("relax.nn.conv2d", "relax.nn.conv1d", "relax.matmul")


@dataclass(frozen=True)
class WeightedLayer:
    """A layer with a float32 constant weight.

    Attributes
    ----------
    function, var
        Relax function, and name of the variable the layer's call is bound to.
    info
        Name, operator, weight shape (as the operator has it, dense (M, K)), groups.
    array
        float32 (M, Cg, KH, KW).
    """

    function: str
    var: str
    info: LayerInfo
    array: npt.NDArray[np.float32]


def identifier(name: str) -> str:
    """A layer's name as a TIR identifier."""
    text = re.sub(r"\W+", "_", name).strip("_") or "layer"
    return f"_{text}" if text[0].isdigit() else text


def relax_functions(mod: IRModule) -> Iterator[tuple[str, Expr]]:
    """(name, function) of the Relax functions that passes rewrite."""
    for gvar, func in mod.functions_items():
        if not isinstance(func, relax.Function) or not isinstance(func.body, relax.SeqExpr):
            continue
        if func.attrs is None or "Primitive" not in func.attrs:
            yield str(gvar.name_hint), func


def weighted_layers(mod: IRModule) -> list[WeightedLayer]:
    """Layers whose weight is a float32 constant, in graph order, names made distinct."""
    names, taken, found = source_names(mod), set[str](), []
    for function, func in relax_functions(mod):
        for var, value in bindings_of(func):
            if not is_call(value, *WEIGHTED):
                continue
            array = constant(value.args[1])
            if array is None or array.dtype != np.float32 or array.ndim < 2:
                continue
            if value.op.name == "relax.matmul" and array.ndim != 2:
                continue
            base = names.get(var.name, str(var.name))
            name, i = base, 1
            while name in taken:
                i += 1
                name = f"{base}_{i}"
            taken.add(name)
            found.append(WeightedLayer(function, str(var.name), *_describe(name, value, array)))
    return found


def _describe(name: str, call: Expr, array: npt.NDArray[Any]) -> tuple[LayerInfo, npt.NDArray[np.float32]]:
    if call.op.name == "relax.matmul":
        weight = np.ascontiguousarray(array.T)
        return LayerInfo(name, "dense", weight.shape), weight[:, :, None, None]
    groups, m, cg = int(call.attrs.groups), array.shape[0], array.shape[1]
    op: Op = "conv1d" if array.ndim == 3 else "conv2d"
    if cg == 1 and groups == m > 1:
        op = "depthwise"
    shaped = array[:, :, None, :] if array.ndim == 3 else array
    return LayerInfo(name, op, array.shape, groups), np.ascontiguousarray(shaped)


def weight_primfunc(name: str, weight: Weight) -> tuple[Any, list[npt.NDArray[Any]]]:
    """PrimFunc that rebuilds a weight in float32, and its constant operands."""
    if isinstance(weight, SDWeight):
        arrays, symbol = list(pack_sd(weight).values()), f"rebuild_{identifier(name)}"
        form, n_bases = weight.form, weight.basis.shape[0]
        meta = {"form": asdict(form), "n_bases": n_bases}
        func = build_rebuild_weight(weight.shape, form, n_bases, symbol)
    else:
        arrays, symbol = [pack_raw(weight)], f"decode_{identifier(name)}"
        meta = {"form": None, "n_bases": 0}
        func = build_rebuild_weight(weight.shape, None, 0, symbol)
    meta |= {"name": name, "shape": list(weight.shape)}
    func = func.with_attr(WEIGHT_ATTR, json.dumps(meta, sort_keys=True))
    return func, [*arrays, weight.scale.astype(np.float32)]


def weight_call(builder: Expr, name: str, weight: Weight) -> Expr:
    """``call_tir`` of the weight's PrimFunc, which is added to the builder's module."""
    func, arrays = weight_primfunc(name, weight)
    # private: dead code elimination removes it when nothing calls it any more
    gvar = builder.add_func(func.without_attr("global_symbol"), str(func.attrs["global_symbol"]))
    return relax.call_tir(gvar, [const(a) for a in arrays], out_ty=relax.TensorType(weight.shape, "float32"))


def read_weight(mod: IRModule, value: Expr) -> tuple[str, Weight] | None:
    """(layer name, weight) of a ``call_tir`` that :func:`weight_call` made, None for anything else.

    Raises
    ------
    FormatError
        If its operands are not what the attribute says.
    """
    if not is_call(value, "relax.call_tir") or not isinstance(value.args[0], ir.GlobalVar):
        return None
    func = mod[value.args[0]]
    if not isinstance(func, tirx.PrimFunc) or func.attrs is None or WEIGHT_ATTR not in func.attrs:
        return None
    meta = json.loads(str(func.attrs[WEIGHT_ATTR]))
    shape = (meta["shape"][0], meta["shape"][1], meta["shape"][2], meta["shape"][3])
    arrays = [constant(a) for a in value.args[1].fields]
    scale = arrays.pop()
    if scale is None or any(a is None for a in arrays):
        return None
    weight: Weight
    if meta["form"] is None:
        packed: Any = arrays[0]
        weight = unpack_raw(packed, shape, scale)
    else:
        form = WeightForm(**meta["form"])
        named: dict[str, Any] = dict(zip(array_names(form), arrays, strict=True))
        weight = unpack_sd(named, shape, form, scale)
    return meta["name"], weight


def without(mod: IRModule, names: set[str]) -> IRModule:
    """The module without some functions."""
    kept = {g: f for g, f in mod.functions_items() if str(g.name_hint) not in names}
    return tvm.IRModule(kept, attrs=mod.attrs, global_infos=mod.global_infos)
