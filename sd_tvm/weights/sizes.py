"""Packed sizes of weights, from their form alone (``docs/weights.md``)."""

from __future__ import annotations

from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import WeightForm


def sd_bytes(form: WeightForm, geometry: RowGeometry, n_bases: int) -> int:
    """Packed bytes of an SD weight (``docs/weights.md``): codes, basis, ids, bitmap."""
    m, s = geometry.shape[0], geometry.s
    total = -(-m // 8) * (form.slots(geometry) // 4) * 16 * form.planes(s)
    total += n_bases * _ceil16(s * s)
    if form.basis_kind == "codebook":
        total += _ceil16(m)
    if form.pattern == "shared":
        total += -(-m // form.group_filters) * _ceil16(-(-geometry.rows // 8))
    return total


def int8_bytes(geometry: RowGeometry) -> int:
    """Packed bytes of an int8 weight (``docs/weights.md``)."""
    m, cg, kh, kw = geometry.shape
    return _ceil16(m) * cg * kh * kw


def _ceil16(n: int) -> int:
    return -(-n // 16) * 16
