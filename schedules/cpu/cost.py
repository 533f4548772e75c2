"""What a kernel takes for a layer, relatively: products of vectors of sixteen filters, a pixel of the result.

Of the rows that can compute a layer on an instruction set the cheapest is taken. One unit is a dense product
of int16 pairs. Factors were fitted to times on Zen 4 (2026-11): convolutions 3x3 of 64 to 512 channels, 1x1
of 256, dense layers of 4096; requantisation and what lays x out cost every row about the same and are left
out.
"""

from __future__ import annotations

from math import inf, prod

from sd_tvm.layers import ConvLayer
from sd_tvm.schedules.cpu.gemv import chain
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.taps import TapUnits, image_columns
from sd_tvm.weights.tensor import ROWS_KEPT

#: A product of int16 whose operand is picked by a shuffle: with four-byte products (VNNI), and without.
_PICKED, _PICKED_AVX2 = 2.2, 1.6
#: A product of the basis with an int32 sum; an int16 sum that is widened and added.
_BASIS, _WIDEN = 1.5, 1.5
#: A product of four bytes whose operand is picked, with its share of the shuffle, in ``gemm``.
_CODES = 11 / 9


def none(_: ConvLayer, __: Isa) -> float:
    """A kernel that has no rival."""
    return 0.0


def never(_: ConvLayer, __: Isa) -> float:
    """``shiftadd``: measured, not used."""
    return inf


def rebuilt(layer: ConvLayer, _: Isa) -> float:
    """``conv``: every weight, two at a time."""
    return prod(layer.kernel) * layer.in_channels / 2


def kept(layer: ConvLayer, isa: Isa) -> float:
    """``sparse``: the kept weights, two at a time, each picked."""
    assert layer.form is not None
    geometry = layer.geometry
    weights = geometry.blocks * ROWS_KEPT[layer.form.pattern] * geometry.s
    return weights / 2 * (_PICKED if isa.dot else _PICKED_AVX2)


def pixels(layer: ConvLayer, isa: Isa) -> float:
    """``gemm``: S * S products of a unit of codes, then those with the basis."""
    units, squares = TapUnits(layer, isa), layer.geometry.s**2
    return squares * (units.steps * units.step[0] * _CODES + _BASIS)


def columns(layer: ConvLayer, isa: Isa) -> float:
    """``taps``: S products of a unit of codes for every column, then those with the basis."""
    assert layer.form is not None
    units, s, ow = TapUnits(layer, isa), layer.geometry.s, layer.out_hw[1]
    each = 1.0 if isa.dot else 1 + _WIDEN / chain(layer.form)
    each += units.tables / s  # shuffles, which the S products share
    return image_columns(layer)[1] * s * (units.steps * units.step[0] * each + 1) / ow + _BASIS * s * s
