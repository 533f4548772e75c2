"""Residual additions that become the end of a convolution's kernel; ``LowerToCPU`` asks.

The result of the convolution then is never in memory: the kernel reads the other side of the addition where
it stores. It runs where the addition stood, so that the other side is there whichever order they had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sd_tvm._tvm import relax
from sd_tvm.layers import AddLayer, Layer
from sd_tvm.relay_passes._rewrite import Expr, bindings_of, constant, is_call, use_counts
from sd_tvm.schedules.cpu.epilogue import Residual
from sd_tvm.schedules.cpu.linear_sum import LinearSum, linear_sum

_SIDES: tuple[Literal[0, 1], ...] = (0, 1)


@dataclass(frozen=True)
class Addition:
    """An addition that has the form of one sum.

    Attributes
    ----------
    layer, form
        The addition.
    own
        Which operand a convolution computes whose kernel adds; None: none, it stands alone.
    convolution
        The variable of that operand.
    """

    layer: AddLayer
    form: LinearSum
    own: Literal[0, 1] | None = None
    convolution: Expr = None

    @property
    def residual(self) -> Residual | None:
        """What the kernel is to do; None: it stands alone."""
        return None if self.own is None else Residual(self.layer, self.own)


def additions(
    func: Expr, layers: Mapping[str, Layer], has_kernel: Callable[[str, list[Any]], bool]
) -> dict[Expr, Addition]:
    """Additions of a Relax function by variable; those without the form of one sum are left out.

    A convolution takes an addition in if nothing else reads its result; of two that could, the later one.

    Parameters
    ----------
    func
        The function.
    layers
        Integer layers by name of their function.
    has_kernel
        Whether a kernel computes a layer, given its name and its constants (None where they are not known).
    """
    uses, values, order = use_counts(func), dict(bindings_of(func)), dict[Expr, int]()
    found: dict[Expr, Addition] = {}

    def known(expr: Expr) -> Any:
        return constant(values.get(expr, expr))

    def called(value: Expr) -> str:
        """Name of the layer that is called, empty for anything else."""
        name = str(value.args[0].name_hint) if is_call(value, "relax.call_tir") else ""
        return name if name in layers else ""

    def joins(side: Expr) -> bool:
        call: Expr = values.get(side)
        # a variable of its dataflow block alone is gone when nothing reads it
        if not isinstance(side, relax.DataflowVar) or uses[side] != 1 or not called(call):
            return False
        return has_kernel(called(call), [known(e) for e in call.args[1].fields[1:]])

    for var, value in values.items():
        order[var] = len(order)
        layer = layers.get(called(value))
        if not isinstance(layer, AddLayer):
            continue
        *sides, qp = value.args[1].fields
        words = known(qp)
        form = None if words is None else linear_sum(layer, words)
        if form is None:
            continue
        able = [own for own in _SIDES if joins(sides[own])]
        if able:
            own = max(able, key=lambda i: order[sides[i]])
            found[var] = Addition(layer, form, own, sides[own])
        else:
            found[var] = Addition(layer, form)
    return found
