"""Weight formats of our array: how many elements are stored, in how many bytes, and what rebuilding costs."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from sd_tvm.accelerator.baselines.shapes import LayerShape

BASIS_BYTES = 16  # a filter: 9 bytes, scale, padding


@dataclass(frozen=True)
class Format:
    """A weight format.

    Parameters
    ----------
    name
        Name in reports.
    bits
        Of a stored element.
    kept
        N of N:16 rows; 16: dense; 0: rows as the mask of the statistics says, a bitmap for each
        filter (the paper counts 1 bit a row).
    rebuilt
        SD form: a basis for each filter, weights of 13 bits.
    """

    name: str
    bits: int
    kept: int = 16
    rebuilt: bool = False

    def rows(self, layer: LayerShape, sparsity: float) -> int:
        """Stored rows of a filter."""
        if self.kept == 0:
            return ceil(layer.rows * (1 - sparsity))
        if self.kept == 16 and not self.rebuilt:
            return layer.rows
        return self.kept * ceil(layer.rows / 16)

    def weight_bytes(self, layer: LayerShape, sparsity: float) -> int:
        """Bytes in DRAM. A kept row of N:16 has an index of 4 bits, a masked filter a bit a row."""
        if self.kept == 16 and not self.rebuilt:
            return ceil(layer.weights * self.bits / 8)
        index = 4 if 0 < self.kept < 16 else 0
        row_bits = self.bits * layer.row_taps + index
        stored = layer.out_channels * ceil(self.rows(layer, sparsity) * row_bits / 8)
        bitmap = ceil(layer.rows / 8) * layer.out_channels if self.kept == 0 else 0
        return stored + bitmap + (BASIS_BYTES * layer.out_channels if self.rebuilt else 0)


DENSE8 = Format("dense int8", 8)
FORMATS = (
    DENSE8,
    Format("dense int4", 4),
    Format("sparse int8 4:16", 8, kept=4),
    Format("sparse int4 4:16", 4, kept=4),
    Format("SD 16:16", 4, rebuilt=True),
    Format("SD 4:16", 4, kept=4, rebuilt=True),
)
#: The published pruning: rows as the mask says.
SD_MASK = Format("SD mask", 4, kept=0, rebuilt=True)
