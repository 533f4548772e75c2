"""Quantisation words: 16 bytes a filter, the same in TensorIR, in DRAM and on chip.

Word = int32[4]: bias, multiplier M0, packed (byte 0 shift int8, byte 1 zero point, byte 2 lower
clip, byte 3 upper clip; the last three are uint8 or int8 as the output), 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sd_tvm.layers import blocks16


def pack_qp(
    bias: npt.NDArray[np.int64],
    m0: npt.NDArray[np.int64],
    shift: npt.NDArray[np.int64],
    zero_point: int,
    lo: int,
    hi: int,
    *,
    pad_to_16: bool = True,
) -> npt.NDArray[np.int32]:
    """int32 (ceil16(M), 4) words from (M,) integers; padding words have bias = M0 = shift = 0."""
    m = bias.shape[0]
    words = np.zeros((blocks16(m) * 16 if pad_to_16 else m, 4), dtype=np.int32)
    words[:m, 0] = bias
    words[:m, 1] = m0
    packed = np.zeros((words.shape[0], 4), dtype=np.uint8)
    packed[:m, 0] = shift.astype(np.int8).view(np.uint8)
    for i, value in enumerate((zero_point, lo, hi), start=1):
        packed[:, i] = value & 0xFF
    words[:, 2] = packed.view("<i4")[:, 0]
    return words


def unpack_qp(words: npt.NDArray[np.int32], out_dtype: str) -> dict[str, npt.NDArray[np.int64]]:
    """Fields (each (rows,) int64) of quantisation words: bias, m0, shift, zp, lo, hi."""
    packed = np.ascontiguousarray(words[:, 2]).astype("<i4").view(np.uint8).reshape(-1, 4)
    signed = packed.view(np.int8)
    act = signed if out_dtype == "int8" else packed
    return {
        "bias": words[:, 0].astype(np.int64),
        "m0": words[:, 1].astype(np.int64),
        "shift": signed[:, 0].astype(np.int64),
        "zp": act[:, 1].astype(np.int64),
        "lo": act[:, 2].astype(np.int64),
        "hi": act[:, 3].astype(np.int64),
    }
