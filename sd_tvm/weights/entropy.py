"""Entropy coding of small integers: asymmetric numeral systems with one model for each array.

A coded array is, byte by byte: 1, its least value (int8), how many values above it may occur (uint8), their
frequencies (uint8 each, the largest 255), and the words of the coder (uint32, little-endian). Where that is
not smaller, it is 0 and the values as int8. Coder: constriction (an optional dependency), stack of 32-bit
words, categorical model of 24 bits. All numbers in the model are integers of the file, so that every machine
decodes the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import MissingExtraError
from sd_tvm.weights.verify import bad

U8 = npt.NDArray[np.uint8]
I8 = npt.NDArray[np.int8]
_RAW, _CODED = 0, 1
_TOP = 255


def encode(values: npt.NDArray[Any]) -> U8:
    """Coded form of integers within int8, any shape.

    Raises
    ------
    MissingExtraError
        If the coder is not installed.
    """
    ans = coder()
    flat = values.astype(np.int32).reshape(-1)
    low, high = int(flat.min()), int(flat.max())
    raw = np.concatenate([np.array([_RAW], np.uint8), flat.astype(np.int8).view(np.uint8)])
    head = np.array([_CODED, low & 0xFF, high - low], dtype=np.uint8)
    if low == high:
        return head if head.size < raw.size else raw
    counts = np.bincount(flat - low)
    # A value that occurs has a frequency of at least 1, one that does not has 0.
    frequencies = np.where(counts > 0, np.maximum(1, counts * _TOP // counts.max()), 0).astype(np.uint8)
    stack = ans.stack.AnsCoder()
    stack.encode_reverse(flat - low, _model(ans, frequencies))
    words = stack.get_compressed().astype("<u4").view(np.uint8)
    coded = np.concatenate([head, frequencies, words])
    return coded if coded.size < raw.size else raw


def decode(data: U8, n: int) -> I8:
    """The n integers that :func:`encode` coded.

    What is not the code of any n integers is refused here or decodes to something whose code is another:
    compare :func:`encode` of the result.

    Raises
    ------
    FormatError
        If the data are cut short or malformed.
    MissingExtraError
        If the coder is not installed.
    """
    ans = coder()
    if data.size == 0 or data[0] not in (_RAW, _CODED):
        raise bad("coded: no array stands here")
    if data[0] == _RAW:
        if data.size != 1 + n:
            raise bad(f"coded: {data.size - 1} values", f"{n}")
        return data[1:].view(np.int8)
    if data.size < 3:
        raise bad("coded: an array is cut short")
    low, span = int(data[1:2].view(np.int8)[0]), int(data[2])
    if low + span > 127:
        raise bad(f"coded: values from {low} to {low + span}", "at most 127")
    if span == 0:
        if data.size != 3:
            raise bad(f"coded: {data.size - 3} bytes after a constant array", "none")
        return np.full(n, low, dtype=np.int8)
    frequencies, rest = data[3 : 4 + span], data[4 + span :]
    if frequencies.size != span + 1 or rest.size == 0 or rest.size % 4 or not rest[-4:].any():
        raise bad("coded: an array is cut short")
    if frequencies.max() != _TOP:
        raise bad(f"coded: the largest frequency is {int(frequencies.max())}", f"{_TOP}")
    words = np.frombuffer(rest.tobytes(), dtype="<u4").astype(np.uint32)
    stack = ans.stack.AnsCoder(words)
    symbols: npt.NDArray[np.int32] = stack.decode(_model(ans, frequencies), n)
    if not stack.is_empty():
        raise bad("coded: bytes are left after the last value", "none")
    return (symbols + low).astype(np.int8)


def _model(ans: Any, frequencies: U8) -> Any:
    """The coder's model; it gives values of frequency 0 its least probability."""
    return ans.model.Categorical(frequencies.astype(np.float64), perfect=False)


def coder() -> Any:
    """The streams of constriction.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import constriction
    except ImportError as error:
        raise MissingExtraError(
            "constriction is not installed, which codes and decodes storage 'entropy'",
            expected="constriction",
            fix="pip install 'sd-tvm[entropy]'",
        ) from error
    return constriction.stream
