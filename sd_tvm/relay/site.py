"""One call under translation: operands as Relax expressions, attributes, and refusals that name the node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sd_tvm._tvm import ir, relax
from sd_tvm.errors import UnsupportedModelError
from sd_tvm.relay.attrs import Attr
from sd_tvm.relay.graph import Array, Call

Expr = Any
#: Where NHWC's axes are in NCHW, and the other way.
TO_NCHW = (0, 3, 1, 2)
TO_NHWC = (0, 2, 3, 1)


@dataclass(frozen=True)
class Operator:
    """A row of the table.

    Attributes
    ----------
    op
        Relay's name.
    build
        Makes the Relax expression (or a tuple of them) of a call.
    attrs
        Every attribute that the operator has, with its kind and default.
    weights
        Operands that are parameters of a network: an input of the function there is a missing parameter.
    data
        Operands that may come in another layout: an operator that treats all axes alike (or whose ``axes``
        are given) runs on the NCHW value where an NHWC value was made from one.
    axes
        Attributes that count the axes of ``data``.
    """

    op: str
    build: Callable[[Site], Any]
    attrs: Mapping[str, Attr]
    weights: tuple[int, ...] = ()
    data: tuple[int, ...] = ()
    axes: tuple[str, ...] = ()


class Layouts:
    """NHWC values that were made from NCHW ones; what Relay calls NHWC then costs no transposition."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        self._nchw: dict[Expr, Expr] = {}

    def nchw_of(self, value: Expr) -> Expr | None:
        """The NCHW value that an NHWC value was made from, if any."""
        return self._nchw.get(value)

    def to_nchw(self, value: Expr) -> Expr:
        """NCHW of an NHWC value."""
        known = self._nchw.get(value)
        return self._builder.emit(relax.op.permute_dims(value, list(TO_NCHW))) if known is None else known

    def to_nhwc(self, value: Expr) -> Expr:
        """NHWC of an NCHW value; dead code if only :meth:`to_nchw` of it is used."""
        nchw = value if isinstance(value, ir.Var) else self._builder.emit(value)
        result = self._builder.emit(relax.op.permute_dims(nchw, list(TO_NHWC)))
        self._nchw[result] = nchw
        return result


class Site:
    """What :attr:`Operator.build` gets.

    Attributes
    ----------
    call
        The call.
    args
        Operands: Relax expressions, a list of them where the operand is a tuple.
    attrs
        Attributes, defaults included.
    version
        TVM that wrote the file.
    """

    def __init__(
        self,
        call: Call,
        args: Sequence[Any],
        builder: Any,
        layouts: Layouts,
        version: str = "",
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        self.call, self.args, self.version = call, list(args), version
        self.attrs = call.attrs if attrs is None else attrs
        self.layouts = layouts
        self._builder = builder

    def __getitem__(self, k: int) -> Any:
        """Operand ``k``."""
        if not -len(self.args) <= k < len(self.args):
            raise self.fail(f"{len(self.args)} operands", f"at least {k + 1}")
        return self.args[k]

    def attr(self, name: str) -> Any:
        """An attribute."""
        return self.attrs[name]

    def ints(self, name: str) -> tuple[int, ...]:
        """An attribute that is a number or a list of numbers."""
        value = self.attrs[name]
        value = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(v, int) for v in value):
            raise self.fail(f"{name} is {value}", "integers")
        return value

    def axis(self, name: str = "axis", k: int = 0) -> int:
        """An attribute that counts the axes of operand ``k``, not negative."""
        rank, (value, *_) = len(self.shape(k)), self.ints(name)
        if not -rank <= value < rank:
            raise self.fail(f"{name} {value} of a tensor of rank {rank}", "one of its axes")
        return value % rank

    def emit(self, expr: Expr) -> Expr:
        """Bind an expression; the result has a type."""
        return expr if isinstance(expr, ir.Var | ir.GenericConst) else self._builder.emit(expr)

    def shape(self, k: int | Expr = 0) -> tuple[int, ...]:
        """Shape of operand ``k``, or of an expression that is bound."""
        return tuple(int(d) for d in self._tensor(k).ty.shape)

    def dtype(self, k: int | Expr = 0) -> str:
        """Data type of operand ``k``, or of an expression that is bound."""
        return str(self._tensor(k).ty.dtype)

    def _tensor(self, k: int | Expr) -> Expr:
        expr = self[k] if isinstance(k, int) else k
        expr = expr if isinstance(expr, list) else self.emit(expr)
        if isinstance(expr, list) or not isinstance(expr.ty, relax.TensorType):
            raise self.fail("a tuple", "a tensor as operand")
        return expr

    def tensors(self, k: int = 0) -> list[Expr]:
        """Operand ``k``, which is a tuple."""
        value = self[k]
        if not isinstance(value, list):
            raise self.fail(f"operand {k} is no tuple", "a tuple of tensors")
        return value

    def maybe_constant(self, k: int | Expr) -> Array | None:
        """Value of an operand, None if it is computed."""
        expr = self[k] if isinstance(k, int) else k
        return expr.value.numpy() if isinstance(expr, ir.GenericConst) else None

    def constant(self, k: int | Expr, what: str) -> Array:
        """Value of an operand that has to be a constant."""
        value = self.maybe_constant(k)
        if value is None:
            raise self.fail(f"{what} is computed", "a constant", "run relay.transform.FoldConstant() first")
        return value

    def const(self, value: Any, dtype: str | None = None) -> Expr:
        """Relax constant."""
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype))
        array = array.reshape(np.shape(value))  # ascontiguousarray makes rank 0 rank 1
        return relax.const(array, str(array.dtype))

    def cast(self, expr: Expr, dtype: str) -> Expr:
        """An expression as another type; constants at once."""
        value = self.maybe_constant(expr)
        if value is not None:
            return self.const(value.astype(dtype))
        bound = self.emit(expr)
        return bound if str(bound.ty.dtype) == dtype else self.emit(relax.op.astype(bound, dtype))

    def transpose(self, expr: Expr, axes: Sequence[int]) -> Expr:
        """Permuted axes; constants at once."""
        value = self.maybe_constant(expr)
        if value is not None:
            return self.const(value.transpose(axes))
        same = list(axes) == list(range(len(axes)))
        return expr if same else self.emit(relax.op.permute_dims(expr, list(axes)))

    def reshape(self, expr: Expr, shape: Sequence[int]) -> Expr:
        """Another shape; constants at once."""
        value = self.maybe_constant(expr)
        if value is not None:
            return self.const(value.reshape(shape))
        if self.shape(expr) == tuple(shape):
            return expr
        return self.emit(relax.op.reshape(expr, tuple(shape)))

    def fail(self, found: str, expected: str, fix: str = "") -> UnsupportedModelError:
        """The error for this node."""
        return UnsupportedModelError(f"{self.call}: {found}", expected=expected, fix=fix)


def axis_in_nchw(axis: int) -> int:
    """Where an axis of an NHWC tensor is in NCHW."""
    return (0, 2, 3, 1)[axis % 4]
