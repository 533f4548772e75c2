"""Element-wise functions in vectors: NumPy is the oracle, and TVM's own code to the bit."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import kernelcases as cases
import layerrun
import neonrun
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from passes.running import run

from sd_tvm._tvm import relax, s_tir, structural_walk, te, tirx, tvm
from sd_tvm.numerics import golden
from sd_tvm.relay_passes.vectorize import VectorizeInjective
from sd_tvm.schedules import ops
from sd_tvm.schedules.cpu.injective import vectorize_injective
from sd_tvm.schedules.cpu.isa import ISAS, NEON_DOT

Array = np.ndarray
SIZES = st.sampled_from([1, 2, 3, 5, 7, 8, 15, 16, 17, 24, 31, 32, 40])
SHAPES = st.lists(SIZES, min_size=1, max_size=4).filter(lambda s: prod(s) <= 6000).map(tuple)
#: As in production: what has one instruction for a product and a sum may use it.
HOST = layerrun.target(optimised=True)
STEPS = ["transpose", "reshape", "add", "channel", "scale"]
CHANNELS = st.sampled_from([3, 16, 24, 40, 48])
ACTS = [("uint8", 7), ("int8", -3)]


def module(shape: tuple[int, ...], body: Callable[[Any, Any], Any], dtype: str = "float32") -> Any:
    """``main``, one dataflow block."""
    x = relax.Var("x", relax.TensorType(shape, dtype))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            out = builder.emit_output(body(builder, x))
        builder.emit_func_output(out)
    return builder.get()


def prim_funcs(mod: Any) -> list[Any]:
    return [f for _, f in mod.functions_items() if isinstance(f, tirx.PrimFunc)]


def both(mod: Any, x: Array) -> tuple[Array, Any]:
    """Result of the fused module in vectors, which has to be that without; the functions in vectors."""
    fused = relax.get_pipeline("zero")(mod)
    made = VectorizeInjective()(fused)
    (want,), (got,) = run(fused, x), run(made, x)
    np.testing.assert_array_equal(got, want)
    funcs = prim_funcs(made)
    if any(vectors(f) for f in funcs):  # in scalar code LLVM may contract what small tensors need
        np.testing.assert_array_equal(run(made, x, HOST)[0], want)
    return got, funcs


def vectors(func: Any) -> list[int]:
    """Extents of the vector loops of a function."""
    loops: list[Any] = []
    structural_walk(func.body, (tirx.For, loops.append))
    return [int(loop.extent) for loop in loops if loop.kind == tirx.ForKind.VECTORIZED]


def divisions(func: Any) -> int:
    """Divisions in it; those by a vector's count, of an outer loop, cost nothing."""
    found: list[Any] = []
    structural_walk(func.body, ((tirx.FloorDiv, tirx.FloorMod), found.append))
    return len(found)


def factors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_layouts_and_arithmetic(data: st.DataObject) -> None:
    """Transposes, reshapes, sums with what is broadcast, products, in any order."""
    shape = data.draw(SHAPES)
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    steps = data.draw(
        st.lists(st.sampled_from(["transpose", "reshape", "add", "channel", "scale"]), max_size=5)
    )
    plan: list[tuple[str, Any]] = []
    want = x
    for step in ["scale", *steps]:
        if step == "transpose":
            axes = data.draw(st.permutations(range(want.ndim)))
            plan.append((step, axes))
            want = want.transpose(axes)
        elif step == "reshape":
            first = data.draw(st.sampled_from(factors(want.size)))
            second = data.draw(st.sampled_from(factors(want.size // first)))
            new = (first, second, want.size // first // second)
            plan.append((step, new))
            want = want.reshape(new)
        elif step in ("add", "channel"):
            other = rng.normal(size=want.shape[-1:] if step == "channel" else want.shape).astype(np.float32)
            plan.append((step, other))
            want = want + other
        else:
            plan.append((step, np.float32(1.7)))
            want = want * np.float32(1.7)

    def body(builder: Any, value: Any) -> Any:
        for step, what in plan:
            if step == "transpose":
                value = relax.op.permute_dims(value, [int(a) for a in what])
            elif step == "reshape":
                value = relax.op.reshape(value, what)
            else:
                op = relax.op.multiply if step == "scale" else relax.op.add
                value = op(value, relax.const(what))
            value = builder.emit(value)
        return value

    got, _ = both(module(shape, body), x)
    np.testing.assert_array_equal(got, want)


@settings(max_examples=12, deadline=None)
@given(
    st.tuples(st.sampled_from([1, 2]), st.sampled_from([3, 16, 24, 40, 48]), SIZES, SIZES),
    st.sampled_from(ACTS),
)
def test_conversions_between_layouts(shape: tuple[int, int, int, int], act: tuple[str, int]) -> None:
    """Quantised from (N, H, W, C), back to it: the golden model, lanes beyond the channels zero."""
    dtype, zero_point = act
    n, c, h, w = shape
    x = (np.random.default_rng(1).normal(size=(n, h, w, c)) * 3).astype(np.float32)
    x.flat[: min(6, x.size)] = [0.125, 0.175, -0.025, 1e30, -1e30, 0.15][: min(6, x.size)]
    nchw = x.transpose(0, 3, 1, 2)
    q = golden.to_blocked(golden.quantize(nchw, 0.05, zero_point, dtype))
    build = ops.build_quantize(shape, 0.05, zero_point, dtype, "quantize").without_attr("global_symbol")

    def to_blocks(builder: Any, value: Any) -> Any:
        value = builder.emit(relax.op.permute_dims(value, [0, 3, 1, 2]))
        call = relax.call_tir(builder.add_func(build, "q"), [value], relax.TensorType(q.shape, dtype))
        return builder.emit(call)

    got, _ = both(module(x.shape, to_blocks), x)
    np.testing.assert_array_equal(got, q)
    back = ops.build_dequantize(shape, 0.05, zero_point, dtype, "dequantize").without_attr("global_symbol")

    def to_pixels(builder: Any, value: Any) -> Any:
        call = relax.call_tir(builder.add_func(back, "d"), [value], relax.TensorType(shape, "float32"))
        return builder.emit(relax.op.permute_dims(builder.emit(call), [0, 2, 3, 1]))

    got, _ = both(module(q.shape, to_pixels, dtype), q)
    want = golden.dequantize(golden.from_blocked(q, c), 0.05, zero_point)
    np.testing.assert_array_equal(got, want.transpose(0, 2, 3, 1))


def attention() -> tuple[Any, Array]:
    """A module that quantises probabilities for a product, as between softmax and a matmul; its input."""
    x = np.random.default_rng(2).random((1, 3, 32, 48), dtype=np.float32)
    build = ops.build_quantize((3, 48, 1, 32), 1 / 255, 0, "uint8", "quantize").without_attr("global_symbol")

    def body(builder: Any, value: Any) -> Any:
        value = builder.emit(relax.op.permute_dims(value, [1, 3, 2, 0]))
        value = builder.emit(relax.op.reshape(value, (3, 48, 1, 32)))
        call = relax.call_tir(
            builder.add_func(build, "q"), [value], relax.TensorType((3, 3, 1, 32, 16), "uint8")
        )
        return builder.emit(relax.op.reshape(builder.emit(call), (1, 9, 1, 32, 16)))

    return module(x.shape, body), x


def test_the_hot_function_of_attention() -> None:
    """One loop nest with a vector of sixteen; what is left of the reshapes is outside of it."""
    mod, x = attention()
    got, funcs = both(mod, x)
    want = golden.to_blocked(golden.quantize(x[0].transpose(0, 2, 1)[:, :, None], 1 / 255, 0, "uint8"))
    np.testing.assert_array_equal(got.reshape(want.shape), want)
    assert [vectors(f) for f in funcs] == [[16]]
    assert divisions(funcs[0]) <= 2  # which block of which head
    assert s_tir.__name__ not in funcs[0].script()


@pytest.mark.parametrize("cpu", ["x86-64", *(isa.cpu for isa in ISAS)])
def test_compiles_for_any_processor(cpu: str) -> None:
    where = {isa.cpu: isa.triple for isa in ISAS}.get(cpu, "")
    target = tvm.target.Target({"kind": "llvm", "mcpu": cpu, **({"mtriple": where} if where else {})})
    assert tvm.compile(VectorizeInjective()(attention()[0]), target=target) is not None


def test_on_aarch64() -> None:
    """In the emulator: quantisation, and a product of one stage that is added by the next."""
    added = np.random.default_rng(4).normal(size=(5, 37)).astype(np.float32)
    mod = module(
        added.shape,
        lambda b, x: b.emit(relax.op.add(b.emit(relax.op.multiply(x, relax.const(np.float32(1.7)))), x)),
    )
    quantize, x = attention()
    q = golden.to_blocked(golden.quantize(x[0].transpose(0, 2, 1)[:, :, None], 1 / 255, 0, "uint8"))
    for made, operand, want in ((mod, added, added * np.float32(1.7) + added), (quantize, x, q)):
        (func,) = prim_funcs(VectorizeInjective()(made))
        assert vectors(func)
        func = func.with_attr("global_symbol", "f")
        library = tvm.compile(tvm.IRModule({"f": func}), target=tvm.target.Target(NEON_DOT.target))
        code = neonrun.Machine(cases.object_file(library))
        got = code.call("f", [operand, layerrun.result_like(func)])[-1]
        np.testing.assert_array_equal(got.reshape(want.shape), want)


def place(*shape: int, dtype: str = "float32") -> Any:
    return te.placeholder(ops.tir.dims(*shape), dtype, name="x")


def kept(*stages: Any) -> bool:
    return vectorize_injective(te.create_prim_func(list(stages))) is None


def test_what_stays_as_it_is() -> None:
    x, k = place(32, 32), te.reduce_axis((0, 32), "k")
    assert kept(x, te.compute((32,), lambda i: te.sum(x[i, k], axis=k), name="sums"))
    double = te.compute(x.shape, lambda i, j: x[i, j] * 2, name="double")
    assert kept(x, double, te.compute(x.shape, lambda i, j: double[i, j] + 1, name="second"))
    few, index, table = place(3), place(32, dtype="int32"), place(7)
    assert kept(few, te.compute((3,), lambda i: few[i] * 2, name="few"))
    assert kept(table, index, te.compute((32,), lambda i: table[index[i]], name="gathered"))
    once = te.compute((1,), lambda i: te.exp(x[i, 0]), name="once")
    assert kept(x, te.compute(x.shape, lambda i, j: x[i, j] * once[0], name="shared"))


def test_a_copy_is_a_view() -> None:
    """TVM then moves nothing: the default pipeline has no call of a function left."""
    mod = module((4, 24), lambda b, x: b.emit(relax.op.reshape(b.emit(relax.op.reshape(x, (8, 12))), (96,))))
    got, _ = both(mod, np.arange(96, dtype=np.float32).reshape(4, 24))
    np.testing.assert_array_equal(got, np.arange(96))


@pytest.mark.parametrize("function", ["exp", "erf", "tanh", "sigmoid", "sqrt", "round", "floor", "rsqrt"])
def test_functions_of_the_library(function: str) -> None:
    """As TVM computes them one by one, to the bit, with and without a part that is no vector."""
    for n in (32, 37):
        x = np.random.default_rng(3).random(n, dtype=np.float32) + np.float32(0.1)
        both(module((n,), lambda b, v: b.emit(relax.op.abs(b.emit(getattr(relax.op, function)(v))))), x)
