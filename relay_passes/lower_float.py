"""LowerFloat: softmax, layer normalisation and products that stay in float32 get code of ours."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import relax, tvm
from sd_tvm.relay_passes._rewrite import Expr, IRModule, Rewriter, bindings_of, is_call, rewrite, static_shape
from sd_tvm.relay_passes._weights import relax_functions
from sd_tvm.schedules.float.table import OPERATORS, Operator

_BY_NAME = {row.op: row for row in OPERATORS}


@tvm.transform.module_pass(opt_level=0, name="sd.LowerFloat")
class LowerFloat:
    """Give the float32 operators of :data:`sd_tvm.schedules.float.table.OPERATORS` their code for the CPU.

    The code is the same for every processor. What the table does not have (another type, axis, or a shape
    that is not known) stays as it is, and TVM makes its own code. ``LowerToCPU`` begins with this pass.
    """

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        return lower_float(mod)


def lower_float(mod: IRModule) -> IRModule:
    """What :class:`LowerFloat` makes of a module."""
    built: dict[Any, Expr] = {}
    for name, func in list(relax_functions(mod)):
        if any(is_call(value, *_BY_NAME) for _, value in bindings_of(func)):
            mod = rewrite(mod, lambda *args: _rule(built, *args), name)
    return mod


def _rule(built: dict[Any, Expr], context: Rewriter, var: Expr, value: Expr) -> Expr | None:
    """A call of an operator becomes one of its PrimFunc (a rule of ``rewrite``); one PrimFunc a shape."""
    if not is_call(value, *_BY_NAME):
        return None
    operator = _BY_NAME[value.op.name]
    known = [_float32(e) for e in (var, *value.args)]
    shapes = tuple(s for s in known if s is not None)
    attributes = {name: _plain(getattr(value.attrs, name)) for name in operator.attributes}
    if len(shapes) < len(known) or not operator.accepts(shapes[1:], attributes):
        return None
    key = (operator.op, shapes, tuple(attributes.values()))
    if key not in built:
        built[key] = _added(context, operator, shapes[1:], attributes)
    return relax.call_tir(built[key], list(value.args), out_ty=var.ty)


def _float32(expr: Expr) -> tuple[int, ...] | None:
    """Shape of a float32 tensor that has elements, None for anything else."""
    shape = static_shape(expr)
    return shape if shape is not None and str(expr.ty.dtype) == "float32" and 0 not in shape else None


def _plain(value: Any) -> Any:
    """An attribute as a number or a tuple of numbers."""
    return value if isinstance(value, int | float) else tuple(int(v) for v in value)


def _added(context: Rewriter, operator: Operator, shapes: Any, attributes: dict[str, Any]) -> Expr:
    return context.add_scheduled(operator.build(shapes, attributes, operator.symbol), operator.symbol)
