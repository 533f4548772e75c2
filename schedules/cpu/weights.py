"""The weight of a layer, from the operands it is called with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm.layers import ConvLayer
from sd_tvm.weights.packing import unpack_raw, unpack_sd
from sd_tvm.weights.tensor import Weight
from sd_tvm.weights.verify import array_names


def weight_of(layer: ConvLayer, operands: Sequence[npt.NDArray[Any]]) -> Weight:
    """Weight of a layer (scales are one) from its operands between x and the quantisation words."""
    ones = np.ones(layer.out_channels, dtype=np.float32)
    if layer.form is None:
        return unpack_raw(operands[0], layer.weight_shape, ones)
    arrays = dict(zip(array_names(layer.form), operands, strict=False))
    return unpack_sd(arrays, layer.weight_shape, layer.form, ones)
