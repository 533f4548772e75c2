"""Coefficient alphabets: 16-entry code tables whose entries are sums of at most two powers of two.

A coefficient is stored as a 4-bit index (nibble) into a table. Bit 3 of the nibble is the sign and
bits 2..0 select one of eight magnitudes, so nibble 0 is always zero and nibble 8 is never used.
An alphabet with few levels is stored in fewer bits (:mod:`sd_tvm.weights.rownumbers`).
Source of the alphabets: SmartExchange (arXiv 2005.03403) for powers of two; the two-term
table halves the error at the same cost (measured on EfficientNet-Lite0, docs/accuracy.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sd_tvm.errors import RecipeError

N_CODES = 16
UNUSED_NIBBLE = 8


@dataclass(frozen=True)
class Alphabet:
    """A named set of eight magnitudes, the first of which is zero."""

    name: str
    magnitudes: tuple[int, ...]
    doc: str

    @property
    def table(self) -> npt.NDArray[np.int8]:
        """Value of each nibble, shape (16,), int8; entry 8 is zero and unused."""
        mags = np.array(self.magnitudes, dtype=np.int8)
        return np.concatenate([mags, -mags])

    @property
    def n_levels(self) -> int:
        """Distinct values, zero included."""
        return 2 * len(set(self.magnitudes)) - 1

    @property
    def max_code(self) -> int:
        """Largest magnitude."""
        return max(self.magnitudes)

    def nibbles(self, values: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
        """Nibble of each coefficient value (any shape).

        Raises
        ------
        RecipeError
            If a value is not in the alphabet.
        """
        lut = np.full(256, 255, dtype=np.uint8)
        for nibble, value in enumerate(self.table.tolist()):
            if nibble != UNUSED_NIBBLE and lut[value & 0xFF] == 255:
                lut[value & 0xFF] = nibble
        out = lut[values.astype(np.int8).view(np.uint8)]
        if (out == 255).any():
            bad = sorted({int(v) for v in values[out == 255].ravel()[:1000]})
            raise RecipeError(
                f"coefficients {bad[:8]} are not in alphabet {self.name!r}",
                expected=f"magnitudes {self.magnitudes}",
                fix="choose an alphabet that holds every coefficient",
            )
        return out


def two_power_terms(value: int) -> tuple[int, int | None]:
    """Exponents (p1, p2) with abs(value) = 2^p1 + 2^p2, p2 None for a single power of two.

    Raises
    ------
    RecipeError
        If the value is zero or needs more than two terms, or an exponent exceeds 7.
    """
    bits = [i for i in range(8) if (abs(value) >> i) & 1]
    if abs(value) >= 256 or not 1 <= len(bits) <= 2:
        raise RecipeError(
            f"{value} is not a sum of at most two powers of two",
            expected="2^p1 or 2^p1 + 2^p2 with exponents 0..7",
            fix="use an alphabet of such values",
        )
    return (bits[-1], bits[0] if len(bits) == 2 else None)


ALPHABETS: dict[str, Alphabet] = {
    a.name: a
    for a in (
        Alphabet("pow2-7", (0, 1, 2, 4, 8, 16, 32, 64), "strict powers of two, 2^0..2^6"),
        Alphabet("pow2-5", (0, 1, 2, 4, 8, 16, 0, 0), "strict powers of two, 2^0..2^4"),
        Alphabet("two-term", (0, 1, 2, 3, 4, 5, 6, 8), "at most two powers of two"),
        Alphabet("levels9", (0, 1, 2, 3, 4, 0, 0, 0), "-4..4: 10 bits for a row of three"),
        Alphabet("levels7", (0, 1, 2, 3, 0, 0, 0, 0), "-3..3: 9 bits for a row of three"),
        Alphabet("levels5", (0, 1, 2, 0, 0, 0, 0, 0), "-2..2: 7 bits for a row of three"),
        Alphabet("ternary", (0, 1, 0, 0, 0, 0, 0, 0), "-1..1: 5 bits for a row of three"),
    )
}


def get_alphabet(name: str) -> Alphabet:
    """Alphabet by name.

    Raises
    ------
    RecipeError
        If there is none of that name.
    """
    try:
        return ALPHABETS[name]
    except KeyError:
        raise RecipeError(
            f"unknown alphabet {name!r}",
            expected=f"one of {sorted(ALPHABETS)}",
            fix="correct the recipe",
        ) from None
