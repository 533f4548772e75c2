"""Constants of the accelerator in 9 bytes a word, where the other 7 say nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.layers import ConvLayer

RECORD_BYTES = 9
_WORD = 16
Records = tuple[npt.NDArray[np.uint8], tuple[int, int, int]]


def pack_records(layer: ConvLayer, operand: str, array: npt.NDArray[Any]) -> Records | None:
    """A constant of a convolution as records, and the 3 bytes that follow in every word.

    Quantisation words have bias, multiplier and shift in 9 bytes and, where all filters share them, zero
    point and bounds in the next 3; a basis of order 3 has 9 elements in 16 bytes.

    Parameters
    ----------
    layer
        The layer.
    operand
        ``qp`` or ``basis``; others are never packed.
    array
        The operand, whole 16-byte words in C order.

    Returns
    -------
    tuple or None
        uint8 (whole 16-byte words,) and the bytes; None where words cannot be packed without loss.
    """
    if operand not in ("qp", "basis") or (operand == "basis" and layer.geometry.s != 3):
        return None
    words = np.ascontiguousarray(array).view(np.uint8).reshape(-1, _WORD)
    used = words[: layer.out_channels] if operand == "qp" else words
    rest = np.unique(used[:, RECORD_BYTES:], axis=0)
    if len(rest) != 1 or rest[0, 3:].any():
        return None
    packed = words[:, :RECORD_BYTES].reshape(-1)
    padded = np.zeros(-(-packed.size // _WORD) * _WORD, np.uint8)
    padded[: packed.size] = packed
    zero, low, high = (int(b) for b in rest[0, :3])
    return padded, (zero, low, high)
