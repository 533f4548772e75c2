"""Where the operands of a step are: in a segment of DRAM, or in a buffer that stays on chip.

A step's function sees every activation as a dense tensor. The tensor may really be a window of a larger
one (rows of an image, the inside of a padded buffer); a view turns dense addresses into real ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sd_tvm.accelerator.isa.spec import Mem


@dataclass(frozen=True)
class View:
    """A dense tensor inside a larger one.

    Attributes
    ----------
    shape
        Shape of the dense tensor, outermost first.
    strides
        Elements between neighbours of each dimension in the larger one.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def at(self, dense: Any) -> Any:
        """Address in the larger tensor, from its first element, of a dense address (integer or array)."""
        total = 0
        for extent, stride in zip(reversed(self.shape[1:]), reversed(self.strides[1:]), strict=True):
            total = total + dense % extent * stride
            dense = dense // extent
        return total + dense * self.strides[0]

    def stride(self, dense: int) -> int:
        """Stride in the larger tensor of a loop over one dimension, given its stride in the dense one."""
        size = int(np.prod(self.shape))
        total = 0
        for extent, stride in zip(self.shape, self.strides, strict=True):
            size //= extent
            if extent > 1:
                total += dense // size * stride
                dense %= size
        return total


@dataclass(frozen=True)
class Home:
    """What kind of place a parameter has; decides which instructions a function becomes.

    Attributes
    ----------
    mem
        Memory on chip; None: DRAM.
    view
        How the parameter lies in it; None: densely.
    """

    mem: Mem | None = None
    view: View | None = None

    def at(self, dense: Any) -> Any:
        """Real address of a dense one."""
        return dense if self.view is None else self.view.at(dense)

    def stride(self, dense: int) -> int:
        """Real stride of a dense one."""
        return dense if self.view is None else self.view.stride(dense)


@dataclass(frozen=True)
class Binding:
    """A parameter's place.

    Attributes
    ----------
    home
        Kind of place.
    segment
        Operand of the program (DRAM only).
    first
        First element in the segment, or first word on chip.
    words
        Words that the buffer has from ``first`` on (on chip only).
    records
        The segment holds the first 9 bytes of each 16-byte word, and these are the next 3 of all of them
        (SPREAD9); None: it holds whole words.
    """

    home: Home = Home()
    segment: int = 0
    first: int = 0
    words: int = 0
    records: tuple[int, int, int] | None = None
