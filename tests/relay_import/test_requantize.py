"""Relay's fixed-point arithmetic, against Python's integers and fractions."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm._tvm import relax, tvm
from sd_tvm.relay.fixedpoint import decompose
from sd_tvm.relay.graph import Call, Constant, Graph, TensorType, Var
from sd_tvm.relay.importer import to_relax
from sd_tvm.relay.table import OPERATORS, attributes_of

Array = npt.NDArray[Any]


def parts_of(factor: float) -> tuple[int, int]:
    """(multiplier, shift) by exact fractions."""
    exact, shift = Fraction(factor), 0
    while exact >= 1:
        exact, shift = exact / 2, shift + 1
    while exact < Fraction(1, 2):
        exact, shift = exact * 2, shift - 1
    multiplier = floor(exact * 2**31 + Fraction(1, 2))
    return (multiplier, shift) if multiplier < 2**31 else (2**30, shift + 1)


@given(st.floats(2.0**-30, 2.0**30))
def test_factors_are_decomposed(factor: float) -> None:
    assert decompose(factor) == parts_of(factor)


def test_factors_at_the_edge() -> None:
    assert decompose(0.0) == (0, 0)
    assert decompose(0.5) == (2**30, 0)
    assert decompose(1.0) == (2**30, 1)
    assert decompose(1 - 2.0**-40) == (2**30, 1)  # rounds up to a power of two


def requantized(x: int, factor: float, zero: int, out_zero: int, rounding: str, dtype: str) -> int:
    """One integer on another scale."""
    multiplier, shift = parts_of(factor)
    product = (
        Fraction(x - zero) if factor == 1 else (x - zero) * Fraction(multiplier) * Fraction(2) ** (shift - 31)
    )
    if rounding == "UPWARD":
        nearest = floor(product + Fraction(1, 2))
    else:
        size = floor(abs(product) + Fraction(1, 2))
        nearest = size if product >= 0 else -size
    info = np.iinfo(dtype)
    return int(min(max(nearest + out_zero, info.min), info.max))


def run(x: Array, scale: Any, zero: int, out_scale: float, out_zero: int, rounding: str, dtype: str) -> Any:
    """The Relax function of one ``qnn.requantize``."""
    var = Var("x", "x", TensorType(x.shape, "int32"))
    channels = isinstance(scale, list)
    zeros = [zero] * len(scale) if isinstance(scale, list) else zero
    operands = [
        np.asarray(scale, "float32"),
        np.asarray(zeros, "int32"),
        np.asarray(out_scale, "float32"),
        np.asarray(out_zero, "int32"),
    ]
    given_attrs = {"axis": 0 if channels else -1, "rounding": rounding, "out_dtype": dtype}
    row = OPERATORS["qnn.requantize"]
    attrs = attributes_of(row, given_attrs, lambda _k, _a, v: v, "test")
    call = Call("test", row.op, (var, *(Constant("c", o) for o in operands)), attrs)
    return to_relax(Graph((var,), call))["main"]


SCALES = st.floats(2.0**-9, 8.0, width=32)
ROUNDINGS = st.sampled_from(["UPWARD", "TONEAREST"])
CONFIGS = st.tuples(
    st.one_of(SCALES, st.sampled_from([0.25, 0.5, 1.0, 2.0]), st.lists(SCALES, min_size=2, max_size=5)),
    st.integers(-130, 130),
    st.one_of(SCALES, st.sampled_from([0.25, 0.5, 1.0, 2.0])),
    st.integers(-128, 255),
    ROUNDINGS,
    st.sampled_from(["int8", "uint8", "int32"]),
)


@settings(max_examples=4)
@given(st.lists(CONFIGS, min_size=10, max_size=10), st.integers(0, 2**32))
def test_requantize_is_exact(configs: list[Any], seed: int) -> None:
    r = np.random.default_rng(seed)
    inputs, functions = [], {}
    for k, config in enumerate(configs):
        rows = len(config[0]) if isinstance(config[0], list) else 4
        limit = 2 ** int(r.integers(3, 17))
        inputs.append(r.integers(-limit, limit + 1, size=(rows, 16)).astype("int32"))
        functions[f"f{k}"] = run(inputs[k], *config).with_attr("global_symbol", f"f{k}")
    target = tvm.target.Target({"kind": "llvm", "opt-level": 0})
    machine = relax.VirtualMachine(tvm.compile(tvm.IRModule(functions), target=target), tvm.cpu())
    for k, (scale, zero, out_scale, out_zero, rounding, dtype) in enumerate(configs):
        got = machine[f"f{k}"](tvm.runtime.tensor(inputs[k])).numpy()
        assert got.dtype == dtype
        scales = scale if isinstance(scale, list) else [scale] * len(got)
        for row, values, s in zip(got, inputs[k], scales, strict=True):
            factor = float(np.float32(s)) / float(np.float32(out_scale))
            expected = [requantized(int(x), factor, zero, out_zero, rounding, dtype) for x in values]
            np.testing.assert_array_equal(row, expected)
