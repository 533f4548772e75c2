"""Which functions may become one expression without a value changing, and what keeps the values apart.

Stages that are written one after the other are rounded, and wrap around, at each; as one expression TVM and
LLVM would see through them: (x + c) - c is then x. So a stage is inlined only if what it computes is fenced
off, or only moved. Everything that is not in the tables below leaves a function as it was.
"""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import ir, s_tir, structural_walk, tirx
from sd_tvm.schedules.cpu.vec import Expr

IF = "tirx.if_then_else"
#: Functions with vectors of LLVM's own for all types and processors, under TVM's name.
FUNCTIONS = frozenset(
    {IF, "tirx.nearbyint", "tirx.sqrt", "tirx.fabs", "tirx.floor", "tirx.ceil", "tirx.trunc"}
)
_MOVES = (ir.TensorLoad, tirx.IntImm, tirx.FloatImm)
_ARITHMETIC = (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Min, tirx.Max)
_STATEMENTS = (tirx.BufferStore, tirx.For, tirx.SeqStmt, s_tir.stmt.SBlock, s_tir.stmt.SBlockRealize)
#: Attribute of a function that somebody scheduled.
_SCHEDULED = "tirx.is_scheduled"


def is_plain(func: Any) -> bool:
    """Whether a function is loops of assignments and nothing else, none of them scheduled by hand."""
    if _SCHEDULED in (func.attrs or {}):
        return False
    statements: list[Any] = []
    structural_walk(func.body, (tirx.Stmt, statements.append))
    return all(isinstance(s, _STATEMENTS) and _is_serial(s) for s in statements)


def _is_serial(statement: Any) -> bool:
    if isinstance(statement, tirx.For):
        return statement.kind == tirx.ForKind.SERIAL and not statement.annotations
    if isinstance(statement, s_tir.stmt.SBlockRealize):
        return isinstance(statement.predicate, tirx.IntImm) and int(statement.predicate) == 1
    return True


def is_known(value: Expr) -> bool:
    """Whether all that a value is made of is in the tables; indices and conditions may be anything."""
    if isinstance(value, _MOVES):
        return True
    if isinstance(value, tirx.Cast):
        return is_known(value.value)
    if isinstance(value, _ARITHMETIC):
        return is_known(value.a) and is_known(value.b)
    if isinstance(value, ir.Call) and called_name(value) in FUNCTIONS:
        first = 1 if called_name(value) == IF else 0
        return all(is_known(argument) for argument in list(value.args)[first:])
    return False


def only_moves(value: Expr) -> bool:
    """Whether a value is an element of an operand or a number, unchanged."""
    if isinstance(value, ir.Call) and called_name(value) == IF:
        return all(only_moves(argument) for argument in list(value.args)[1:])
    return isinstance(value, _MOVES)


def fenced(value: Expr) -> Expr | None:
    """A stage's value as another computes with it; None for integers that are computed: no fence keeps them.

    The fence is no instruction. It also keeps LLVM from making one of a product and a sum, which rounds once.
    """
    dtype = str(value.ty.dtype)
    if dtype in ("float32", "float64", "float16"):
        return tirx.call_llvm_pure_intrin(dtype, "llvm.arithmetic.fence", value)
    return value if only_moves(value) else None


def called_name(call: Any) -> str:
    """Name of what is called, empty if it is no operation of TVM."""
    return str(getattr(call.op, "name", ""))
