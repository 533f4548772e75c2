"""The float32 operators that have code of their own, as one table: what each takes, and what builds it.

``relay_passes/lower_float.py`` and the tests (``tests/schedules/float``) go through :data:`OPERATORS`; a new
operator is a row here and the function that builds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sd_tvm.schedules.float.layer_norm import build_layer_norm
from sd_tvm.schedules.float.matmul import build_matmul
from sd_tvm.schedules.float.softmax import build_softmax

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Operator:
    """One row.

    Attributes
    ----------
    op
        Relax's name.
    attributes
        Names of its attributes that matter: a number, or a list of them.
    accepts
        Whether there is code for operands of these shapes and attributes; all axes are at least one.
    build
        PrimFunc: the operands, the result; float32. Its last argument is its name.
    """

    op: str
    attributes: tuple[str, ...]
    accepts: Callable[[Sequence[Shape], Attributes], bool]
    build: Callable[[Sequence[Shape], Attributes, str], Any]

    @property
    def symbol(self) -> str:
        """Name of the functions that are built."""
        return f"float_{self.op.rpartition('.')[2]}"


def _is_last(shape: Shape, axis: int) -> bool:
    return bool(shape) and axis % len(shape) == len(shape) - 1


def _are_last(shape: Shape, axes: Sequence[int]) -> bool:
    first = len(shape) - len(axes)
    return [a % len(shape) for a in axes] == list(range(first, len(shape)))


#: Any other operator, shape or type is TVM's.
OPERATORS: tuple[Operator, ...] = (
    Operator(
        "relax.nn.softmax",
        ("axis",),
        lambda shapes, attrs: _is_last(shapes[0], attrs["axis"]),
        lambda shapes, _, symbol: build_softmax(shapes[0], symbol),
    ),
    Operator(
        "relax.nn.layer_norm",
        ("axes", "epsilon"),
        lambda shapes, attrs: _are_last(shapes[0], attrs["axes"]),
        lambda shapes, attrs, symbol: build_layer_norm(
            shapes[0], len(attrs["axes"]), attrs["epsilon"], symbol
        ),
    ),
    Operator(
        "relax.matmul",
        (),
        lambda _shapes, _attrs: True,
        lambda shapes, _, symbol: build_matmul(shapes[0], shapes[1], symbol),
    ),
)
