"""Activation scales at run time, for layers that were never calibrated."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import te, tirx
from sd_tvm.numerics.qparams import QParams
from sd_tvm.schedules.ops.tir import const, dims, finish, i64

#: Symmetric around 128, q in [1, 255]: bias' does not depend on the scale.
DYNAMIC = QParams(1.0, 128, "uint8")
LEVELS = 127
#: Scale of an input that is all zero.
_TINY = 1e-30


def build_scale(shape: tuple[int, ...], symbol: str) -> Any:
    """Scale of a float32 tensor, max(|x|) / 127, as float32 (1,). Operands: x, result."""
    x = te.placeholder(dims(*shape), "float32", name="x")
    axes = [te.reduce_axis((i64(0), i64(n)), name=f"r{i}") for i, n in enumerate(shape)]
    top = te.compute(dims(1), lambda _: te.max(tirx.abs(x[tuple(axes)]), axis=axes), name="top")
    tiny, levels = const(_TINY, "float32"), const(LEVELS, "float32")
    scale = te.compute(dims(1), lambda i: tirx.max(top[i], tiny) / levels, name="scale")
    return finish([x, scale], symbol)
