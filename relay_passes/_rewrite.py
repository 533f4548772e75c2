"""The one rewriting helper that the graph passes share.

A pass is a *rule*: a function that sees every binding of a function once, in order, with the operands
already rewritten, and returns what to bind instead (or None to keep it). Names of variables survive, dead
bindings are dropped, everything that a rule does not touch stays the same object.

>>> def rule(ctx: Rewriter, var: Expr, value: Expr) -> Expr | None:
...     if is_call(value, "relax.nn.relu") and is_call(ctx.value_of(value.args[0]), "relax.nn.relu"):
...         return value.args[0]
...     return None
>>> mod = rewrite(mod, rule)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import ir, relax, structural_equal
from sd_tvm.schedules.ops.tir import scheduled

#: TVM nodes carry no static types; the alias says what is meant.
Expr = Any
IRModule = Any
Rule = Callable[["Rewriter", Expr, Expr], "Expr | None"]

#: Module attribute: JSON, variable name -> name of the layer in the user's model.
NAMES_ATTR = "sd.names"


def is_call(expr: Expr, *ops: str) -> bool:
    """Whether ``expr`` is a call of one of the named operators (``"relax.nn.conv2d"``)."""
    return isinstance(expr, relax.Call) and isinstance(expr.op, ir.Op) and expr.op.name in ops


def constant(expr: Expr) -> npt.NDArray[Any] | None:
    """Value of a tensor constant, or None for anything else."""
    if isinstance(expr, ir.GenericConst):
        value: npt.NDArray[Any] = expr.value.numpy()
        return value
    return None


def const(array: npt.NDArray[Any]) -> Expr:
    """Relax constant of an array, with the array's own type."""
    return relax.const(np.asarray(array, order="C"), str(array.dtype))


def static_shape(expr: Expr) -> tuple[int, ...] | None:
    """Shape of a tensor expression, or None if unknown or symbolic."""
    ty = expr.ty
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        return None
    try:
        return tuple(int(d) for d in ty.shape)
    except TypeError:
        return None


def source_names(mod: IRModule) -> dict[str, str]:
    """Variable name -> name of the layer in the user's model, as the front ends record it."""
    text = mod.attrs[NAMES_ATTR] if mod.attrs is not None and NAMES_ATTR in mod.attrs else "{}"
    names: dict[str, str] = json.loads(str(text))
    return names


def source_name(mod: IRModule, var: Expr) -> str:
    """Name to show for a variable: the user's, else the variable's own."""
    return source_names(mod).get(var.name, str(var.name))


def bindings_of(func: Expr) -> Iterator[tuple[Expr, Expr]]:
    """(variable, value) of every binding of a function, in order."""
    if isinstance(func.body, relax.SeqExpr):
        for block in func.body.blocks:
            for binding in block.bindings:
                if isinstance(binding, relax.VarBinding):
                    yield binding.var, binding.value


class Rewriter:
    """State of one walk; what a rule may ask and do.

    Parameters
    ----------
    mod
        Module that holds the function; rules may add functions with :meth:`add_func`.
    func
        Function to walk.
    """

    def __init__(self, mod: IRModule, func: Expr) -> None:
        self.mod = mod
        self.func = func
        self.builder = relax.BlockBuilder(mod)
        self._values: dict[Expr, Expr] = {}
        self._replaced: dict[Expr, Expr] = {}
        self._uses = use_counts(func)
        self._emitted: list[Expr] = []
        self._dataflow = True  # whether the current block is a dataflow block

    def value_of(self, expr: Expr) -> Expr:
        """What a variable is bound to after rewriting (parameters and other expressions: themselves)."""
        return self._values.get(expr, expr) if isinstance(expr, ir.Var) else expr

    def uses(self, expr: Expr) -> int:
        """How often a variable is used; what :meth:`emit` made counts as used once."""
        return self._uses.get(expr, 0)

    def emit(self, value: Expr, name: str) -> Expr:
        """Bind ``value`` (a call without nested calls) to a new variable of that name."""
        value = self.builder.normalize(value)
        var = (relax.DataflowVar if self._dataflow else ir.Var)(name, value.ty)
        self._bind(var, value)
        self._uses[var] = 1
        return var

    def add_func(self, func: Expr, name: str) -> Expr:
        """Add a function (TIR or Relax) to the module; returns its global variable (name made unique)."""
        return self.builder.add_func(func, name)

    def add_scheduled(self, func: Expr, name: str) -> Expr:
        """Add a PrimFunc that has its own schedule, for this module alone."""
        return self.add_func(scheduled(func).without_attr("global_symbol"), name)

    def _bind(self, var: Expr, value: Expr) -> None:
        self._values[var] = value
        self._emitted.append(relax.VarBinding(var, value))

    def _take(self, var: Expr, value: Expr) -> None:
        """Bind the result of a rule for ``var``."""
        is_output = not isinstance(var, relax.DataflowVar)
        if isinstance(value, relax.DataflowVar | ir.Var) and not is_output:
            self._replaced[var] = value
            self._uses[value] = self._uses.get(value, 0) + self._uses.get(var, 0) - 1
            return
        value = self.builder.normalize(value)
        if not structural_equal(value.ty, var.ty):
            kind = ir.Var if is_output else relax.DataflowVar
            new = kind(var.name, value.ty)
            self._replaced[var] = new
            self._uses[new] = self._uses.get(var, 0)
            var = new
        self._bind(var, value)

    def _substituted(self, expr: Expr) -> Expr:
        """``expr`` with replaced variables; nested functions and branches get aliases instead."""
        if isinstance(expr, ir.Var):
            return self._replaced.get(expr, expr)
        if isinstance(expr, relax.Call):
            args = [self._substituted(a) for a in expr.args]
            if all(a.same_as(b) for a, b in zip(args, expr.args, strict=True)):
                return expr
            return relax.Call(expr.op, args, expr.attrs, expr.ty_args, expr.span)
        if isinstance(expr, relax.Tuple):
            fields = [self._substituted(f) for f in expr.fields]
            if all(a.same_as(b) for a, b in zip(fields, expr.fields, strict=True)):
                return expr
            return relax.Tuple(fields)
        if isinstance(expr, relax.TupleGetItem):
            tup = self._substituted(expr.tuple_value)
            return expr if tup.same_as(expr.tuple_value) else relax.TupleGetItem(tup, expr.index)
        if isinstance(expr, relax.If | relax.Function | relax.SeqExpr):
            for var in relax.analysis.free_vars(expr):
                if var in self._replaced and var not in self._values:
                    self._bind(var, self._replaced[var])
        return expr

    def run(self, rule: Rule) -> Expr:
        """Walk the function; returns the new one (the old one if nothing changed)."""
        blocks = []
        for block in self.func.body.blocks:
            self._emitted, self._dataflow = [], isinstance(block, relax.DataflowBlock)
            for binding in block.bindings:
                if not isinstance(binding, relax.VarBinding):
                    self._emitted.append(binding)
                    continue
                value = self._substituted(binding.value)
                if not value.same_as(binding.value):
                    value = self.builder.normalize(value)
                result = rule(self, binding.var, value)
                self._take(binding.var, value) if result is None else self._take(binding.var, result)
            blocks.append((self._dataflow, self._emitted))
        body = self._substituted(self.func.body.body)
        return self._rebuild(blocks, body)

    def _rebuild(self, blocks: list[tuple[bool, list[Expr]]], body: Expr) -> Expr:
        live = set(_vars_in(body))
        kept: list[tuple[bool, list[Expr]]] = []
        for dataflow, bindings in reversed(blocks):
            alive = []
            for binding in reversed(bindings):
                if dataflow and isinstance(binding, relax.VarBinding) and binding.var not in live:
                    continue
                alive.append(binding)
                live.update(_vars_in(binding.value))
            kept.append((dataflow, alive[::-1]))
        new_blocks = [
            (relax.DataflowBlock if dataflow else relax.BindingBlock)(bindings)
            for dataflow, bindings in reversed(kept)
            if bindings
        ]
        attrs = self.func.attrs
        ret_ty = body.ty
        return relax.Function(
            list(self.func.params),
            self.builder.normalize(relax.SeqExpr(new_blocks, body)),
            ret_ty,
            bool(self.func.is_pure),
            attrs,
            self.func.span,
        )


def _vars_in(expr: Expr) -> list[Expr]:
    """Variables that an expression reads, with repetitions."""
    if isinstance(expr, ir.Var) and not isinstance(expr, ir.GlobalVar):
        return [expr]
    if isinstance(expr, relax.Call):
        return [v for a in expr.args for v in _vars_in(a)]
    if isinstance(expr, relax.Tuple):
        return [v for f in expr.fields for v in _vars_in(f)]
    if isinstance(expr, relax.TupleGetItem):
        return _vars_in(expr.tuple_value)
    if isinstance(expr, relax.If | relax.Function | relax.SeqExpr):
        return list(relax.analysis.free_vars(expr))
    return []


def use_counts(func: Expr) -> dict[Expr, int]:
    """How often each variable of a function is read, its result included."""
    counts: dict[Expr, int] = {}
    bound = [b.value for block in func.body.blocks for b in block.bindings]  # those of MatchCast, too
    for value in (*bound, func.body.body):
        for var in _vars_in(value):
            counts[var] = counts.get(var, 0) + 1
    return counts


def rewrite(mod: IRModule, rule: Rule, function: str | None = None) -> IRModule:
    """Apply a rule to one function of a module, or to all its Relax functions.

    Parameters
    ----------
    mod
        Any module.
    rule
        Called as ``rule(rewriter, var, value)`` for every binding; returns None to keep ``value``, a
        variable to use it instead, or a new value. A changed type is allowed.
    function
        Name of the function; None for every Relax function that is not ``Primitive``.

    Returns
    -------
    IRModule
        New module; attributes, other functions and untouched expressions are those of ``mod``.
    """
    for gvar, func in list(mod.functions_items()):
        if not isinstance(func, relax.Function) or not isinstance(func.body, relax.SeqExpr):
            continue
        if function is not None and gvar.name_hint != function:
            continue
        if func.attrs is not None and "Primitive" in func.attrs:
            continue
        context = Rewriter(mod, func)
        new = context.run(rule)
        built = context.builder.get()
        # the builder knows the added functions; the module keeps its attributes
        for other, added in built.functions_items():
            if other.name_hint not in {g.name_hint for g in mod.get_global_vars()}:
                mod = mod.clone()
                mod[other] = added
        out = mod.clone()
        out.update_func(out.get_global_var(gvar.name_hint), new)
        mod = out
    return mod


def set_attr(mod: IRModule, key: str, value: Any) -> IRModule:
    """Module with a JSON attribute (sorted keys)."""
    return mod.with_attr(key, json.dumps(value, sort_keys=True))
