"""Float32 operators against NumPy in double precision: any shape, every processor, numbers that are none."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan, prod
from typing import Any

import kernelcases as cases
import neonrun
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm._tvm import ir_builder, tvm
from sd_tvm.layers import LANES
from sd_tvm.schedules.cpu.vec import bind, i64, load, store, t
from sd_tvm.schedules.float.lanes import DTYPE, exponential
from sd_tvm.schedules.float.layer_norm import build_layer_norm
from sd_tvm.schedules.float.matmul import Product, build_matmul
from sd_tvm.schedules.float.softmax import build_softmax

HOST = {"kind": "llvm", "mcpu": tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()}
ANY_X86 = {"kind": "llvm", "mcpu": "x86-64"}
ANY_ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a53"}
TARGETS = {"host": HOST, "any x86": ANY_X86, "any arm": ANY_ARM}
EPS = 2.0**-24

Array = np.ndarray[Any, Any]
shapes = st.lists(st.integers(1, 7), max_size=2).flatmap(
    lambda outer: st.integers(1, 70).map(lambda last: (*outer, last))
)


def run(func: Any, operands: list[Array], shape: tuple[int, ...], target: dict[str, str] = HOST) -> Array:
    """Result of a PrimFunc; what it does not write keeps a number that no test expects."""
    library = tvm.compile(
        tvm.IRModule({"f": func.with_attr("global_symbol", "f")}), target=tvm.target.Target(target)
    )
    arrays = [*(np.ascontiguousarray(a, np.float32) for a in operands), np.full(shape, 85, np.float32)]
    if target is ANY_ARM:
        return neonrun.Machine(cases.object_file(library)).call("f", arrays)[-1]
    tensors = [tvm.runtime.tensor(a) for a in arrays]
    library["f"](*tensors)
    result: Array = tensors[-1].numpy()
    return result


def softmax(x: Array) -> Array:
    """float64, of the float32 differences that everybody's softmax begins with."""
    with np.errstate(invalid="ignore"):
        e = np.exp((x - x.max(axis=-1, keepdims=True)).astype(np.float64))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))


def normalised(x: Array, gamma: Array, beta: Array, axes: int, epsilon: float) -> Array:
    wide, over = x.astype(np.float64), tuple(range(x.ndim - axes, x.ndim))
    d = wide - wide.mean(axis=over, keepdims=True)
    return np.asarray(d / np.sqrt((d * d).mean(axis=over, keepdims=True) + epsilon) * gamma + beta)


@pytest.mark.parametrize("target", TARGETS)
def test_exponential(target: str) -> None:
    """Within 1.2 units in the last place, 0 for minus infinity and below 2^-126, NaN for NaN."""
    rng = np.random.default_rng(3)
    n = 1 << (12 if target == "any arm" else 20)
    x = -np.concatenate([rng.uniform(0, 88, n), np.exp(rng.uniform(-30, 4.5, n))]).astype(np.float32)
    x[:6] = -0.0, -inf, nan, -3.4e38, -87.33654, -87.33655
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name("f")
        source, out = (t.arg(name, t.Buffer((i64(x.size),), DTYPE)) for name in ("x", "out"))
        with t.sblock("root"), t.serial(i64(x.size // LANES)) as i:
            store(out, i * i64(LANES), exponential(bind(load(source, i * i64(LANES), LANES))), LANES)
    got = run(frame.get(), [x], x.shape, TARGETS[target])
    want = np.exp(x.astype(np.float64))
    assert np.isnan(got[2])
    normal = want >= 2.0**-126
    ulps = np.abs(got[normal] - want[normal]) / np.spacing(want[normal].astype(np.float32))
    assert ulps.max() <= 1.2
    assert not got[~normal & ~np.isnan(x)].any()
    assert (got[0], got[1], got[3]) == (1, 0, 0)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=5)
@given(shape=shapes, seed=st.integers(0, 2**31), spread=st.sampled_from([0.1, 5.0, 60.0]))
def test_softmax(target: str, shape: tuple[int, ...], seed: int, spread: float) -> None:
    x = (np.random.default_rng(seed).normal(size=shape) * spread).astype(np.float32)
    got = run(build_softmax(shape, "f"), [x], shape, TARGETS[target])
    np.testing.assert_allclose(got, softmax(x), rtol=6 * EPS + shape[-1] * EPS / 4, atol=2.0**-125)


@settings(max_examples=15)
@given(data=st.data(), last=st.integers(1, 40))
def test_softmax_of_masked_rows_and_of_no_numbers(data: Any, last: int) -> None:
    """Zero for minus infinity; rows of it alone, with a NaN or with plus infinity are NaN as NumPy's are."""
    numbers = st.sampled_from([-inf, -inf, -inf, 0.0, 1.5, -3e38, 3e38, inf, nan])
    rows = data.draw(st.lists(st.lists(numbers, min_size=last, max_size=last), min_size=1, max_size=12))
    x = np.array(rows, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        want = softmax(x)
    got = run(build_softmax(x.shape, "f"), [x], x.shape)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=5)
@given(shape=shapes, data=st.data(), seed=st.integers(0, 2**31), mean=st.sampled_from([0.0, 3.0]))
def test_layer_norm(target: str, shape: tuple[int, ...], data: Any, seed: int, mean: float) -> None:
    axes = data.draw(st.integers(1, len(shape)))
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=shape) + mean).astype(np.float32)
    gamma, beta = rng.normal(size=(2, *shape[len(shape) - axes :])).astype(np.float32)
    got = run(build_layer_norm(shape, axes, 1e-5, "f"), [x, gamma, beta], shape, TARGETS[target])
    want = normalised(x, gamma, beta, axes, 1e-5)
    # two elements may lie so close that their difference is all rounding; epsilon bounds what it becomes
    few = 30 if prod(shape[len(shape) - axes :]) < LANES else 1
    assert np.abs(got - want).max() <= 1e-6 * few * max(1, np.abs(want).max())


def test_layer_norm_of_equal_elements_and_of_no_numbers() -> None:
    x = np.array([[7.25] * 20, [nan] + [1.0] * 19, [inf] + [1.0] * 19], np.float32)
    one, zero = np.ones(20, np.float32), np.zeros(20, np.float32)
    got = run(build_layer_norm(x.shape, 1, 1e-12, "f"), [x, one, zero], x.shape)
    np.testing.assert_array_equal(got[0], zero)
    assert np.isnan(got[1:]).all()


def near_product(a: Array, b: Array, got: Array) -> None:
    """Every element within the bound of a sum in any order."""
    wide = np.matmul(a.astype(np.float64), b.astype(np.float64))
    bound = np.matmul(np.abs(a).astype(np.float64), np.abs(b).astype(np.float64))
    assert got.shape == wide.shape
    assert (np.abs(got - wide) <= (a.shape[-1] + 1) * EPS * bound).all()


@st.composite
def products(draw: Callable[[Any], Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that ``relax.matmul`` takes: batches that broadcast, vectors."""
    m, k, n = (draw(st.integers(1, most)) for most in (20, 40, 120))
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    a, b = ([1 if draw(st.booleans()) else axis for axis in batch] for _ in range(2))
    a, b = a[draw(st.integers(0, len(a))) :], b[draw(st.integers(0, len(b))) :]
    first = (k,) if not a and draw(st.integers(0, 4)) == 0 else (*a, m, k)
    return first, (k,) if not b and draw(st.integers(0, 4)) == 0 else (*b, k, n)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=8)
@given(pair=products(), seed=st.integers(0, 2**31))
def test_matmul(target: str, pair: tuple[tuple[int, ...], tuple[int, ...]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=s).astype(np.float32) for s in pair)
    result = Product(*pair).result
    near_product(a, b, run(build_matmul(*pair, "f"), [a, b], result, TARGETS[target]))


@pytest.mark.parametrize(("rows", "columns"), [(1, 100), (2, 50), (3, 17), (4, 15), (5, 3), (7, 2), (9, 1)])
def test_tiles_of_matmul(rows: int, columns: int) -> None:
    """Rows in registers, with whole tiles of columns, what is left of one, and one that begins earlier."""
    a, b = (np.random.default_rng(i).normal(size=s) for i, s in enumerate([(rows, 9), (9, columns)]))
    a, b = a.astype(np.float32), b.astype(np.float32)
    near_product(a, b, run(build_matmul(a.shape, b.shape, "f"), [a, b], (rows, columns)))


def test_work_for_all_threads() -> None:
    """Parts on TVM's pool: the same code, the loop is parallel."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(300, 200)).astype(np.float32), rng.normal(size=(200, 170)).astype(np.float32)
    near_product(a, b, run(build_matmul(a.shape, b.shape, "f"), [a, b], (300, 170)))
    x = rng.normal(size=(1500, 301)).astype(np.float32)
    for func in (build_softmax(x.shape, "f"), build_matmul((300, 200), (200, 170), "f")):
        assert "T.parallel" in func.script()
    np.testing.assert_allclose(run(build_softmax(x.shape, "f"), [x], x.shape), softmax(x), rtol=1e-5)
