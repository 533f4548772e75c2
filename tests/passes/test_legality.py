"""The table of operators: every row works, every constraint refuses with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd_tvm._tvm import relax
from sd_tvm.relay_passes.legality import OPERATORS, PRODUCT, Node, check, host_markdown, markdown


def tensor(*shape: Any, dtype: str = "float32") -> Any:
    return relax.Var("x", relax.TensorType(shape, dtype))


def weight(*shape: int) -> Any:
    return relax.const(np.ones(shape, np.float32))


def node(value: Any, *, has_weight: bool = True) -> Node:
    value = relax.BlockBuilder().normalize(value)
    return Node(value, relax.DataflowVar("y", value.ty), has_weight)


X = (1, 8, 6, 6)
op = relax.op

#: One admitted call of every operator.
ADMITTED: dict[str, Any] = {
    "relax.nn.conv2d": lambda: op.nn.conv2d(tensor(*X), weight(4, 8, 3, 3), dilation=2),
    "relax.nn.conv1d": lambda: op.nn.conv1d(tensor(1, 8, 6), weight(4, 8, 3)),
    "relax.matmul": lambda: op.matmul(tensor(3, 8), weight(8, 4)),
    PRODUCT: lambda: op.matmul(tensor(2, 5, 8), tensor(2, 8, 5)),
    "relax.add": lambda: op.add(tensor(*X), tensor(*X)),
    "relax.nn.relu": lambda: op.nn.relu(tensor(*X)),
    "relax.clip": lambda: op.clip(tensor(*X), relax.prim_value(-1.0), relax.prim_value(1.0)),
    "relax.nn.max_pool2d": lambda: op.nn.max_pool2d(tensor(*X), (3, 3), padding=(1, 1), strides=(2, 2)),
    "relax.nn.avg_pool2d": lambda: op.nn.avg_pool2d(
        tensor(*X), (3, 3), padding=(1, 1), strides=(2, 2), count_include_pad=True
    ),
    "relax.mean": lambda: op.mean(tensor(*X), [-1, -2]),
    "relax.nn.adaptive_avg_pool2d": lambda: op.nn.adaptive_avg_pool2d(tensor(*X), (1, 1)),
    **{
        f"relax.{name}": (lambda f=f: f(tensor(*X)))
        for name, f in (
            ("sigmoid", op.sigmoid),
            ("tanh", op.tanh),
            ("exp", op.exp),
            ("log", op.log),
            ("sqrt", op.sqrt),
            ("rsqrt", op.rsqrt),
            ("square", op.square),
            ("negative", op.negative),
            ("abs", op.abs),
            ("erf", op.erf),
            ("nn.silu", op.nn.silu),
            ("nn.gelu", op.nn.gelu),
            ("nn.gelu_tanh", op.nn.gelu_tanh),
            ("nn.leakyrelu", op.nn.leakyrelu),
            ("nn.softplus", op.nn.softplus),
            ("nn.selu", op.nn.selu),
        )
    },
    "relax.multiply": lambda: op.multiply(tensor(1, 8, 1, 1), tensor(*X)),
    "relax.concat": lambda: op.concat([tensor(*X), tensor(1, 3, 6, 6)], axis=1),
    "relax.image.resize2d": lambda: op.image.resize2d(
        tensor(*X), (12, 18), layout="NCHW", method="nearest_neighbor"
    ),
    "relax.reshape": lambda: op.reshape(tensor(2, 8, 1, 1), (2, 8)),
    "relax.flatten": lambda: op.flatten(tensor(1)),
    "relax.squeeze": lambda: op.squeeze(tensor(2, 8, 1, 1), [2, 3]),
    "relax.expand_dims": lambda: op.expand_dims(tensor(2, 8), [2, 3]),
    "relax.permute_dims": lambda: op.permute_dims(tensor(2, 8, 4), [0, 2, 1]),
}
#: Operators of the table that Relax offers no admitted call of.
NEVER = {"relax.flatten"}

#: (call, part of the reason)
REFUSED: dict[str, tuple[Any, str]] = {
    "float64": (
        lambda: op.nn.relu(tensor(*X, dtype="float64")),
        "data type float64",
    ),
    "unknown shape": (
        lambda: op.nn.relu(relax.Var("x", relax.TensorType(dtype="float32", ndim=4))),
        "dynamic",
    ),
    "rank 5": (lambda: op.nn.relu(tensor(1, 2, 3, 4, 5)), "rank 5"),
    "NHWC": (
        lambda: op.nn.conv2d(tensor(1, 6, 6, 8), weight(4, 8, 3, 3), data_layout="NHWC"),
        "layout",
    ),
    "HWIO": (lambda: op.nn.conv2d(tensor(*X), weight(3, 3, 8, 4), kernel_layout="HWIO"), "layout"),
    "NWC": (lambda: op.nn.conv1d(tensor(1, 6, 8), weight(4, 8, 3), data_layout="NWC"), "layout"),
    "kernel": (lambda: op.nn.conv2d(tensor(1, 8, 40, 40), weight(4, 8, 1, 17)), "kernel extent 17"),
    "stride": (lambda: op.nn.conv2d(tensor(1, 8, 40, 40), weight(4, 8, 1, 1), strides=20), "stride 20"),
    "weight of rank 3": (lambda: op.matmul(tensor(1, 3, 8), weight(1, 8, 4)), "ranks [3, 3]"),
    "product of one matrix": (lambda: op.matmul(tensor(2, 5, 8), tensor(8, 5)), "broadcasts"),
    "broadcast": (lambda: op.add(tensor(*X), tensor(1, 8, 1, 1)), "broadcasts"),
    "product broadcast": (lambda: op.multiply(tensor(*X), tensor(1, 1, 6, 6)), "broadcasts"),
    "constant factor": (lambda: op.multiply(tensor(*X), weight(1, 8, 1, 1)), "constant"),
    "concatenated rows": (lambda: op.concat([tensor(*X), tensor(*X)], axis=2), "axis 2"),
    "concatenated constant": (lambda: op.concat([tensor(*X), weight(*X)], axis=1), "constant"),
    "bilinear": (
        lambda: op.image.resize2d(tensor(*X), (12, 12), layout="NCHW", method="linear"),
        "linear interpolation",
    ),
    "no whole factor": (
        lambda: op.image.resize2d(tensor(*X), (9, 12), layout="NCHW", method="nearest_neighbor"),
        "no whole factor",
    ),
    "aligned corners": (
        lambda: op.image.resize2d(
            tensor(*X),
            (12, 12),
            layout="NCHW",
            method="nearest_neighbor",
            coordinate_transformation_mode="align_corners",
        ),
        "align_corners",
    ),
    "softmax": (lambda: op.nn.softmax(tensor(*X)), "softmax divides by a sum"),
    "constant operand": (lambda: op.add(tensor(*X), weight(*X)), "constant"),
    "pool layout": (lambda: op.nn.max_pool2d(tensor(1, 6, 6, 8), (2, 2), layout="NHWC"), "layout"),
    "pool dilation": (lambda: op.nn.max_pool2d(tensor(*X), (2, 2), dilation=(2, 2)), "dilated"),
    "ceil_mode": (lambda: op.nn.max_pool2d(tensor(*X), (3, 3), strides=(2, 2), ceil_mode=True), "ceil_mode"),
    "padding not counted": (lambda: op.nn.avg_pool2d(tensor(*X), (2, 2), padding=(1, 1)), "does not count"),
    "only padding": (lambda: op.nn.max_pool2d(tensor(*X), (2, 2), padding=(2, 2)), "padding only"),
    "mean over channels": (lambda: op.mean(tensor(*X), [1]), "not H and W"),
    "mean over all": (lambda: op.mean(tensor(*X)), "not H and W"),
    "mean of rank 3": (lambda: op.mean(tensor(1, 8, 6), [2]), "not H and W"),
    "adaptive to 2": (lambda: op.nn.adaptive_avg_pool2d(tensor(*X), (2, 2)), "output size"),
    "unknown operator": (lambda: op.argmax(tensor(*X), 1), "not supported"),
}

#: Cases that are products of two activations.
PRODUCTS = {"product of one matrix"}


def test_every_row_has_a_case() -> None:
    assert set(ADMITTED) == set(OPERATORS)


@pytest.mark.parametrize("name", sorted(set(ADMITTED) - NEVER))
def test_admitted(name: str) -> None:
    row, reason = check(node(ADMITTED[name](), has_weight=name != PRODUCT))
    assert reason == ""
    assert row is OPERATORS[name]


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, part = REFUSED[name]
    _, reason = check(node(make(), has_weight=name not in PRODUCTS))
    assert part in reason


def test_weights() -> None:
    call = op.nn.conv2d(tensor(*X), weight(4, 8, 3, 3))
    assert "Decompose did not run" in check(node(call, has_weight=False))[1]
    call = op.nn.conv2d(tensor(*X), tensor(4, 8, 3, 3))
    assert "not a constant" in check(node(call, has_weight=False))[1]


def test_every_constraint_refuses_something() -> None:
    """A constraint that no case of this file trips is untested."""
    tripped = set()
    for name, (make, _) in REFUSED.items():
        case = node(make())
        row = OPERATORS.get(PRODUCT if name in PRODUCTS else case.call.op.name)
        if row is not None:
            tripped.add(next(c.name for c in row.constraints if c.reason(case)))
    names = {c.name for row in OPERATORS.values() for c in row.constraints}
    assert names - tripped == {
        "weight",
        "bounds",
    }  # test_weights; clip bounds that are no numbers do not parse


def test_documentation_names_every_operator() -> None:
    text = markdown()
    assert all(f"`{name}`" in text for name in OPERATORS)
    assert all(row.doc.endswith(".") for row in OPERATORS.values())


def test_page_of_operators_is_up_to_date() -> None:
    page = Path(__file__).resolve().parents[2].joinpath("docs", "operators.md").read_text(encoding="utf-8")
    for mark, make in (("operators", markdown), ("host", host_markdown)):
        table = page.partition(f"<!-- begin {mark} -->\n")[2].partition(f"<!-- end {mark} -->")[0]
        assert table == make(), f"paste relay_passes.legality.{make.__name__}() between the marks"
