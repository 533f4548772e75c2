"""Names: variables of the imported graph are called as the layers of the user's model.

A layer operator (convolution, matrix product) is named after its weight (``features.3.conv.weight`` gives
``features.3.conv``), everything else after the module it runs in. The variable's name is the same
text as an identifier; the text itself is kept in the module attribute ``sd.names``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sd_tvm._tvm import ir, relax
from sd_tvm.relay_passes._rewrite import NAMES_ATTR, bindings_of, is_call, set_attr

LAYER_OPS = (
    "relax.nn.conv1d",
    "relax.nn.conv2d",
    "relax.nn.conv3d",
    "relax.nn.conv2d_transpose",
    "relax.nn.conv1d_transpose",
    "relax.matmul",
)
#: Operators between a parameter and the layer that uses it.
_TRANSPARENT = ("relax.permute_dims", "relax.reshape", "relax.expand_dims", "relax.squeeze")


def identifier(source: str) -> str:
    """A variable name that reads like ``source``: ``_blocks.3._conv`` -> ``blocks_3_conv``."""
    text = re.sub(r"_+", "_", re.sub(r"[^0-9A-Za-z]", "_", source)).strip("_") or "value"
    return f"v_{text}" if text[0].isdigit() else text


def _op_name(value: Any) -> str:
    if isinstance(value, relax.Call) and isinstance(value.op, ir.Op):
        return str(value.op.name).rpartition(".")[2]
    return "get" if isinstance(value, relax.TupleGetItem) else "value"


def _weight_of(value: Any, params: Mapping[str, str], values: Mapping[Any, Any]) -> str | None:
    """Name of the parameter that a layer operator multiplies with."""
    for arg in value.args[::-1]:
        while is_call(values.get(arg), *_TRANSPARENT):
            arg = values[arg].args[0]
        if isinstance(arg, ir.Var) and arg.name in params:
            return params[arg.name]
    return None


def propose(
    func: Any, params: Mapping[str, str], scopes: Mapping[str, str], *, nested: bool = True
) -> dict[Any, str]:
    """Source name of every binding of a function, unique.

    Parameters
    ----------
    func
        Function whose weights are still parameters.
    params
        Parameter variable name -> name of the weight in the user's model (empty if weights are constants
        and the scopes name the layers).
    scopes
        Variable name -> path of the module (or name of the node) that made it.
    nested
        Whether scopes are modules: one that contains others then only prefixes its operators' names.
    """
    values = dict(bindings_of(func))
    inner = {s[:i] for s in scopes.values() for i, c in enumerate(s) if c == "." and nested}
    taken: set[str] = set()
    first_op: dict[str, str] = {}
    names: dict[Any, str] = {}

    def claim(var: Any, name: str) -> None:
        unique, i = name, 1
        while unique in taken:
            unique, i = f"{name}_{i}", i + 1
        taken.add(unique)
        names[var] = unique

    for var, value in values.items():
        if is_call(value, *LAYER_OPS):
            weight = _weight_of(value, params, values)
            scope = scopes.get(var.name, "")
            if weight is not None:
                claim(var, weight.removesuffix(".weight"))
            elif scope and scope not in inner:
                claim(var, scope)
    for var, value in values.items():
        if var in names or isinstance(value, ir.Var):
            continue
        scope, op = scopes.get(var.name, ""), _op_name(value)
        if scope and scope not in inner and op != "get" and scope not in taken:
            first_op[scope] = op
        # a module that runs several times gives "act", "act_1", ...; its other operators "act.add"
        bare = scope in first_op and first_op[scope] == op
        claim(var, scope if bare else f"{scope}.{op}" if scope else op)
    return names


def spread_scopes(func: Any, known: dict[str, str]) -> dict[str, str]:
    """Variable name -> scope; a node's inner bindings belong to the node that follows them."""
    result: dict[str, str] = {}
    pending: list[str] = []
    for var, _ in bindings_of(func):
        pending.append(var.name)
        if var.name in known:
            result.update(dict.fromkeys(pending, known[var.name]))
            pending = []
    return result


def apply_names(mod: Any, names: Mapping[Any, str]) -> Any:
    """Rename the variables of ``main`` and record ``sd.names``."""
    func = mod["main"]
    inputs = {p.name for p in func.params}
    taken, recorded = set(inputs), {}
    renamed: dict[Any, Any] = {}
    blocks = []
    for block in func.body.blocks:
        bindings = []
        for binding in block.bindings:
            var, value = binding.var, _substitute(binding.value, renamed)
            source = names.get(var)
            if source is not None:
                name, i = identifier(source), 1
                while name in taken:
                    name, i = f"{identifier(source)}_{i}", i + 1
                taken.add(name)
                recorded[name] = source
                kind = relax.DataflowVar if isinstance(var, relax.DataflowVar) else ir.Var
                renamed[var] = kind(name, var.ty)
                var = renamed[var]
            bindings.append(relax.VarBinding(var, value))
        kind = relax.DataflowBlock if isinstance(block, relax.DataflowBlock) else relax.BindingBlock
        blocks.append(kind(bindings))
    body = relax.SeqExpr(blocks, _substitute(func.body.body, renamed))
    mod = mod.clone()
    mod["main"] = relax.Function(func.params, body, func.ret_ty, func.is_pure, func.attrs)
    return set_attr(relax.transform.Normalize()(mod), NAMES_ATTR, recorded)


def _substitute(expr: Any, renamed: Mapping[Any, Any]) -> Any:
    if isinstance(expr, ir.Var):
        return renamed.get(expr, expr)
    if isinstance(expr, relax.Call):
        args = [_substitute(a, renamed) for a in expr.args]
        return relax.Call(expr.op, args, expr.attrs, expr.ty_args)
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([_substitute(f, renamed) for f in expr.fields])
    if isinstance(expr, relax.TupleGetItem):
        return relax.TupleGetItem(_substitute(expr.tuple_value, renamed), expr.index)
    return expr
