"""What may become one expression: any arithmetic keeps its values, everything else is left as it was."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm._tvm import s_tir, structural_equal, te, tirx, tvm
from sd_tvm.relay_passes import VectorizeInjective
from sd_tvm.schedules.cpu.injective import vectorize_injective

#: Without an instruction for a product and a sum: what is rounded is then known.
TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64"})
SHAPE = (6, 32)
PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv,
    "least": tirx.min, "largest": tirx.max,
}  # fmt: skip
#: What takes a step back, but for rounding.
BACK = {"add": "subtract", "subtract": "add", "multiply": "divide", "divide": "multiply"}
#: 1.5 * 2^23: adding and taking it away rounds.
CONSTANTS = [1.0, 3.0, 12582912.0, 0.0]


def called(func: Any, arrays: list[np.ndarray]) -> np.ndarray:
    library = tvm.compile(tvm.IRModule({"f": func.with_attr("global_symbol", "f")}), target=TARGET)
    tensors = [tvm.runtime.tensor(a) for a in arrays]
    library["f"](*tensors)
    out: np.ndarray = tensors[-1].numpy()
    return out


def stages(body: Callable[..., Any], operands: int = 2, dtype: str = "float32", shape: Any = SHAPE) -> Any:
    """PrimFunc of TE stages; body gets and returns tensors."""
    given_ = [te.placeholder(shape, dtype, f"x{i}") for i in range(operands)]
    return te.create_prim_func([*given_, body(*given_)])


def each(function: Callable[..., Any], *tensors: Any) -> Any:
    """A stage over the elements of tensors."""
    return te.compute(tensors[0].shape, lambda *i: function(*(x[i] for x in tensors)))


def _step(pair: Callable[[Any, Any], Any], value: Any, other: Any, number: float | None) -> Any:
    """A stage of two operands, or of one and a number."""
    if number is None:
        return each(pair, value, other)
    if pair is operator.truediv and not number:
        number = 7.0  # TVM refuses a division by a constant zero
    return each(lambda a: pair(a, tirx.FloatImm("float32", number)), value)


def turned(x: Any) -> Any:
    """A copy twice: transposed and back."""
    once = te.compute(tuple(reversed(x.shape)), lambda i, j: x[j, i])
    return te.compute(x.shape, lambda i, j: once[j, i])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_values_do_not_change(data: st.DataObject) -> None:
    """Operands are used again, taken away again, and are no numbers."""
    names = data.draw(st.lists(st.sampled_from([*PAIRS, "copy", "root"]), min_size=1, max_size=3))
    picks = [(data.draw(st.integers(0, 6)), data.draw(st.sampled_from([*CONSTANTS, None]))) for _ in names]
    undone = data.draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names)))

    def body(*operands: Any) -> Any:
        values = list(operands)
        for name, (pick, number), undo in zip(names, picks, undone, strict=True):
            last = values[-1]
            if name == "copy":
                values.append(turned(last))
                if undo:
                    values.append(each(operator.sub, values[-1], last))
            elif name == "root":
                values.append(each(tirx.sqrt, last))
            else:
                other = values[pick % len(values)]
                for step in [name, BACK[name]] if undo and name in BACK else [name]:
                    values.append(_step(PAIRS[step], values[-1], other, number))
        return values[-1]

    func = stages(body)
    made = vectorize_injective(func)
    assert made is not None
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    operands = [rng.normal(size=SHAPE) * rng.choice([1, 100, 1e-6], size=SHAPE) for _ in range(2)]
    arrays = [a.astype(np.float32) for a in operands]
    arrays[0].ravel()[:10] = [np.nan, np.inf, -np.inf, 0, -0.0] * 2
    out = np.zeros(SHAPE, dtype=np.float32)
    np.testing.assert_array_equal(called(made, [*arrays, out]), called(func, [*arrays, out]))


def test_rounding_by_a_large_number() -> None:
    """(x + c) - c in NumPy, which does not see through it either."""
    large = tirx.FloatImm("float32", CONSTANTS[2])
    func = stages(lambda x: each(lambda a: a - large, each(lambda a: a + large, x)), 1)
    x = np.linspace(-3, 3, 192, dtype=np.float32).reshape(SHAPE)
    made = vectorize_injective(func)
    assert made is not None
    got = called(made, [x, np.zeros_like(x)])
    np.testing.assert_array_equal(got, np.rint(x))


def _sum_of_bytes(x: Any) -> Any:
    return each(lambda a: a.astype("float32"), each(lambda a: a + tirx.const(100, "uint8"), x))


LEFT: dict[str, Callable[[], Any]] = {
    "a function that vectors do not have": lambda: stages(lambda x: each(tirx.cosh, x), 1),
    "a comparison": lambda: stages(lambda x, y: each(lambda a, b: tirx.Select(a < b, a, b), x, y)),
    "integers computed in two stages": lambda: stages(_sum_of_bytes, 1, "uint8"),
    "no elements": lambda: stages(lambda x: each(lambda a: a + a, x), 1, shape=(5, 0)),
    "a schedule": lambda: stages(lambda x: each(lambda a: a + a, x), 1).with_attr("tirx.is_scheduled", True),
}


@pytest.mark.parametrize("case", LEFT)
def test_left_as_it_was(case: str) -> None:
    assert vectorize_injective(LEFT[case]()) is None


def test_a_loop_of_threads_is_left() -> None:
    schedule = s_tir.Schedule(stages(lambda x: each(lambda a: a + a, x), 1))
    (block,) = schedule.get_child_blocks(schedule.get_sblock("root"))
    schedule.parallel(schedule.get_loops(block)[0])
    assert vectorize_injective(schedule.mod["main"]) is None


def test_other_statements_are_left() -> None:
    func = stages(lambda x: each(lambda a: a + a, x), 1)
    assert vectorize_injective(func) is not None
    root = func.body.block
    call = tirx.Evaluate(tirx.call_packed("print", 1))
    block = s_tir.stmt.SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint, tirx.SeqStmt([root.body, call]), root.init,
        root.alloc_buffers, root.match_buffers, root.annotations,
    )  # fmt: skip
    body = s_tir.stmt.SBlockRealize([], tirx.const(True, "bool"), block)
    assert vectorize_injective(func.with_body(body)) is None


def test_other_targets_are_left() -> None:
    func = stages(lambda x: each(lambda a: a + a, x), 1)
    mod = tvm.IRModule({"f": func})
    with tvm.target.Target("c"):
        assert VectorizeInjective()(mod).same_as(mod)
    with TARGET:
        assert not structural_equal(VectorizeInjective()(mod), mod)
