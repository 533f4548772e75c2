"""Requantisation by one float32 multiply-add, for layers that :mod:`sd_tvm.numerics.single` has proved."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import tirx
from sd_tvm.layers import LANES
from sd_tvm.numerics.qp import unpack_qp
from sd_tvm.numerics.single import CENTRE, Single
from sd_tvm.schedules.cpu.fields import BlockReader, Fields
from sd_tvm.schedules.cpu.vec import Buffer, Expr, as_type, bind, plus, saturated, splat

PLAIN = Fields({"bias": 4, "factor": 4, "constant": 4, "low": 1, "high": 1})
#: Of layers some of whose filters have an exception.
WITH_EXCEPTIONS = Fields({**PLAIN.sizes, "exception": 4})


def fields_of(found: Single) -> Fields:
    """How the constants of a layer lie."""
    return PLAIN if found.exception is None else WITH_EXCEPTIONS


def single_block(
    found: Single,
    words: npt.NDArray[np.int32],
    dtype: str,
    offset: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.uint8]:
    """uint8 (MB, bytes of :func:`fields_of`) from the constants of a layer's filters.

    Parameters
    ----------
    found
        Of the M filters; those that fill the last block give zero.
    words, dtype, offset
        As for :func:`~sd_tvm.schedules.cpu.requant.quantisation_block`.
    """
    f = unpack_qp(words, dtype)
    bias, more = f["bias"] if offset is None else f["bias"] + offset, len(words) - len(found.factor)
    values = {
        "bias": bias.astype("<i4"),
        "factor": np.pad(found.factor, (0, more)).astype("<f4"),
        "constant": np.pad(found.constant, (0, more), constant_values=-CENTRE[dtype]).astype("<f4"),
        "low": f["lo"].astype("u1"),
        "high": f["hi"].astype("u1"),
    }
    if found.exception is not None:
        values["exception"] = np.pad(found.exception, (0, more), constant_values=-1).astype("<i4")
    return fields_of(found).pack(values)


class SingleReader(BlockReader):
    """As :class:`~sd_tvm.schedules.cpu.requant.Requantizer`, of a buffer of :func:`single_block`."""

    def __init__(self, fields: Fields, buffer: Buffer, block: Expr) -> None:
        super().__init__(fields, buffer, block)
        self._exceptions = fields is WITH_EXCEPTIONS
        self._words: dict[str, Expr] = {}

    def prepare(self, dtype: str) -> None:
        """Read the words, once: a store in between could change them, for all that the compiler knows."""
        if self._words:
            return
        kinds = {"factor": "float32", "constant": "float32", "low": dtype, "high": dtype}
        if self._exceptions:
            kinds["exception"] = "int32"
        self._words = {name: bind(self.field(name, kind)) for name, kind in kinds.items()}

    def wide(self, sums: Expr, dtype: str) -> Expr:
        """Results of int32x16 sums (bias included), int32x16 within the range of ``dtype``."""
        return self.narrow(sums, dtype).astype(f"int32x{LANES}")

    def narrow(self, sums: Expr, dtype: str) -> Expr:
        """Results of int32x16 sums (bias included) in ``dtype``: packed with saturation, then clipped."""
        self.prepare(dtype)
        x, words = bind(sums), self._words
        floats = x.astype(f"float32x{LANES}")
        scaled = _llvm("float32", "llvm.fma", floats, words["factor"], words["constant"])
        value = _llvm("int32", "llvm.lrint", scaled)
        if self._exceptions:
            less = tirx.Select(
                tirx.EQ(x, words["exception"]), splat(-1, "int32", LANES), splat(0, "int32", LANES)
            )
            value = plus(value, less)
        byte = as_type(saturated(value, "int8"), f"{dtype}x{LANES}")
        if CENTRE[dtype]:
            byte = tirx.bitwise_xor(byte, splat(CENTRE[dtype], dtype, LANES))
        return tirx.min(tirx.max(byte, words["low"]), words["high"])


def _llvm(dtype: str, name: str, *operands: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(f"{dtype}x{LANES}", name, *operands)
