"""Which Relax operators become integer layers, and under which conditions: one table.

:data:`OPERATORS` is the only place that names supported operators. The passes ask :func:`check`;
``docs/operators.md`` holds :func:`markdown` of it; the tests run over it. To support an operator, add a row
here and its layer in ``relay_passes/_integer.py`` and ``_emit.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sd_tvm._tvm import relax
from sd_tvm.relay_passes._elementwise import HOST, UNARY, channels_side_by_side, enlarges, factors
from sd_tvm.relay_passes._rewrite import Expr, constant, static_shape

Role = Literal[
    "conv",
    "dense",
    "bias",
    "add",
    "pool",
    "activation",
    "view",
    "matmul",
    "lut",
    "mul",
    "concat",
    "resize",
    "interleave",
]
Shape = tuple[int, ...]

#: Largest kernel extent and stride an instruction can express (bits of GEMM's loops and strides).
MAX_KERNEL = 15
MAX_STRIDE = 15


@dataclass(frozen=True)
class Node:
    """One call as the constraints see it.

    Attributes
    ----------
    call, result
        The call and the variable it is bound to.
    has_weight
        The second operand is a weight that ``Decompose`` made.
    """

    call: Expr
    result: Expr
    has_weight: bool = False

    @property
    def inputs(self) -> list[Expr]:
        """Tensor operands, those of a tuple one by one."""
        args = [f for a in self.call.args for f in (a.fields if isinstance(a, relax.Tuple) else [a])]
        return [a for a in args if isinstance(a.ty, relax.TensorType)]

    @property
    def shape(self) -> Shape | None:
        """Shape of the first operand."""
        return static_shape(self.inputs[0]) if self.inputs else None


@dataclass(frozen=True)
class Constraint:
    """A condition with a name; ``reason`` gives "" or why a node does not satisfy it."""

    name: str
    doc: str
    reason: Callable[[Node], str]


@dataclass(frozen=True)
class Operator:
    """One row of the table.

    Attributes
    ----------
    op
        Relax operator.
    role
        What it becomes: a layer (``conv``, ``dense``, ``add``, ``pool``, ``lut``, ``mul``, ``concat``,
        ``resize``), the tail of one (``bias``), either (``activation``), or nothing at all (``view``: the
        blocked layout does not change).
    doc
        One sentence for the documentation.
    constraints
        All must hold; the first that does not gives the reason.
    """

    op: str
    role: Role
    doc: str
    constraints: tuple[Constraint, ...]


def as_nchw(shape: Shape) -> tuple[int, int, int, int]:
    """Shape of rank 2 (N, C), 3 (N, C, W) or 4 as (N, C, H, W)."""
    if len(shape) == 2:
        return (shape[0], shape[1], 1, 1)
    if len(shape) == 3:
        return (shape[0], shape[1], 1, shape[2])
    return (shape[0], shape[1], shape[2], shape[3])


def _static(node: Node) -> str:
    for value in (*node.inputs, node.result):
        if static_shape(value) is None:
            return "dynamic shape"
    return ""


def _float32(node: Node) -> str:
    for value in (*node.inputs, node.result):
        if str(value.ty.dtype) != "float32":
            return f"data type {value.ty.dtype}, not float32"
    return ""


def _rank_2_to_4(node: Node) -> str:
    shape = static_shape(node.result) or ()
    return "" if 2 <= len(shape) <= 4 else f"rank {len(shape)}, not 2, 3 or 4"


def _weight(node: Node) -> str:
    if node.has_weight:
        return ""
    if constant(node.call.args[1]) is not None:
        return "weight is float32: left out by the recipe, or Decompose did not run"
    return "weight is not a constant"


def _layout(data: str, kernel: str) -> Callable[[Node], str]:
    def reason(node: Node) -> str:
        a = node.call.attrs
        found = (a.data_layout, a.kernel_layout, a.out_layout or a.data_layout)
        return "" if found == (data, kernel, data) else f"layout {found}, not {data}/{kernel}"

    return reason


def _pool_layout(node: Node) -> str:
    a = node.call.attrs
    found = (a.layout, a.out_layout or a.layout)
    return "" if found == ("NCHW", "NCHW") else f"layout {found}, not NCHW"


def _kernel(node: Node) -> str:
    shape = static_shape(node.call.args[1]) or ()
    big = max((*shape[2:], 1))
    return "" if big <= MAX_KERNEL else f"kernel extent {big} > {MAX_KERNEL}"


def _stride(node: Node) -> str:
    big = max(int(s) for s in node.call.attrs.strides)
    return "" if big <= MAX_STRIDE else f"stride {big} > {MAX_STRIDE}"


def _matrix(node: Node) -> str:
    ranks = [len(static_shape(a) or ()) for a in node.inputs]
    return "" if 2 <= ranks[0] <= 4 and ranks[1] == 2 else f"ranks {ranks}, not (..., K) x (K, M)"


def _pair(node: Node) -> str:
    a, b = (static_shape(x) or () for x in node.inputs)
    if not 2 <= len(a) == len(b) or a[:-2] != b[:-2]:
        return f"{a} x {b} broadcasts"
    return ""


def _same_shapes(node: Node) -> str:
    shapes = [static_shape(a) for a in node.inputs]
    if any(constant(a) is not None for a in node.inputs):
        return "an operand is a constant that is no bias of a convolution or dense layer before it"
    return "" if shapes[0] == shapes[1] else f"broadcasts {shapes[0]} with {shapes[1]}"


def _pool_dilation(node: Node) -> str:
    return "" if {int(d) for d in node.call.attrs.dilation} == {1} else "dilated pooling"


def pool_geometry(node: Node) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    """(kernel, stride, padding) of a pooling, a mean over H, W or an adaptive pooling to 1 x 1."""
    call, shape = node.call, as_nchw(node.shape or (1, 1))
    if call.op.name in ("relax.mean", "relax.nn.adaptive_avg_pool2d"):
        return (shape[2], shape[3]), (1, 1), (0, 0, 0, 0)
    a = call.attrs
    (kh, kw), (sh, sw) = (tuple(int(v) for v in x) for x in (a.pool_size, a.strides))
    t, left, b, r = (int(p) for p in a.padding)
    return (kh, kw), (sh, sw), (t, left, b, r)


def _pool_floor(node: Node) -> str:
    (kh, kw), (sh, sw), (t, left, b, r) = pool_geometry(node)
    _, _, h, w = as_nchw(node.shape or (1, 1))
    out = ((h + t + b - kh) // sh + 1, (w + left + r - kw) // sw + 1)
    found = (static_shape(node.result) or ())[2:]
    return "" if found == out else f"ceil_mode adds a row or column ({found}, not {out})"


def _pool_padding(node: Node) -> str:
    (kh, kw), _, (t, left, b, r) = pool_geometry(node)
    return "" if max(t, b) < kh and max(left, r) < kw else "a window holds padding only"


def _counts_padding(node: Node) -> str:
    a = node.call.attrs
    if any(int(p) for p in a.padding) and not a.count_include_pad:
        return "average that does not count padding"
    return ""


def _over_hw(node: Node) -> str:
    shape = node.shape or ()
    axes = node.call.attrs.axis
    found = sorted(int(x) % len(shape) for x in axes) if axes is not None else None
    return "" if len(shape) == 4 and found == [2, 3] else f"axes {axes} of rank {len(shape)}, not H and W"


def _to_one(node: Node) -> str:
    size = tuple(int(s) for s in node.call.attrs.output_size or ())
    return "" if size == (1, 1) else f"output size {size}, not (1, 1)"


def clip_bounds(call: Expr) -> tuple[float, float]:
    """(low, high) of a ReLU or clip; infinite where there is no bound."""
    if call.op.name == "relax.nn.relu":
        return 0.0, float("inf")
    if call.op.name == "relax.nn.relu6":
        return 0.0, 6.0
    return float(call.args[1].value), float(call.args[2].value)


def _bounds(node: Node) -> str:
    args = node.call.args[1:]
    if not all(hasattr(a, "value") for a in args):
        return "bounds are not numbers"
    low, high = clip_bounds(node.call)
    return "" if low <= high else f"empty range [{low}, {high}]"


STATIC = Constraint("static-shape", "every shape is known", _static)
FLOAT32 = Constraint("float32", "operands and result are float32", _float32)
RANK = Constraint("rank", "rank 2 (N, C), 3 (N, C, W) or 4 (N, C, H, W)", _rank_2_to_4)
WEIGHT = Constraint("weight", "the weight is a constant that Decompose turned into SD form or int8", _weight)
NCHW = Constraint("layout", "layouts NCHW and OIHW", _layout("NCHW", "OIHW"))
NCW = Constraint("layout", "layouts NCW and OIW", _layout("NCW", "OIW"))
KERNEL = Constraint("kernel", f"kernel extents at most {MAX_KERNEL}", _kernel)
STRIDE = Constraint("stride", f"strides at most {MAX_STRIDE}", _stride)
MATRIX = Constraint("matrix", "(..., K) x (K, M) of rank 2 to 4", _matrix)
PAIR = Constraint("pair", "two activations (..., P, K) x (..., K, M) of the same batch", _pair)
SAME_SHAPES = Constraint("same-shapes", "two tensors of one shape, none of them constant", _same_shapes)
POOL_NCHW = Constraint("layout", "layout NCHW", _pool_layout)
POOL_DILATION = Constraint("dilation", "no dilation", _pool_dilation)
POOL_FLOOR = Constraint("floor", "ceil_mode does not change the result's shape", _pool_floor)
POOL_PADDING = Constraint("padding", "padding is smaller than the window", _pool_padding)
COUNTS_PADDING = Constraint("count-include-pad", "no padding, or it counts", _counts_padding)
OVER_HW = Constraint("axes", "rank 4, over H and W", _over_hw)
TO_ONE = Constraint("output-size", "output size (1, 1)", _to_one)
BOUNDS = Constraint("bounds", "bounds are numbers", _bounds)
FACTORS = Constraint(
    "factors", "two tensors of one shape, or (N, C, 1, 1) with (N, C, H, W); none of them constant", factors
)
SIDE_BY_SIDE = Constraint("axis", "along channels (axis 1), no constants", channels_side_by_side)
ENLARGES = Constraint("nearest", "NCHW, nearest neighbours, whole factors", enlarges)
#: Row of a matrix product whose second operand is no weight.
PRODUCT = "relax.matmul of activations"
_ANY = (STATIC, FLOAT32)
_POOL = (*_ANY, POOL_NCHW, POOL_DILATION, POOL_FLOOR, POOL_PADDING)

OPERATORS: dict[str, Operator] = {
    row.op: row
    for row in (
        Operator(
            "relax.nn.conv2d",
            "conv",
            "Any kernel, stride, padding, dilation and groups, depthwise included.",
            (*_ANY, NCHW, KERNEL, STRIDE, WEIGHT),
        ),
        Operator(
            "relax.nn.conv1d",
            "conv",
            "As a two-dimensional convolution of height 1.",
            (*_ANY, NCW, KERNEL, STRIDE, WEIGHT),
        ),
        Operator("relax.matmul", "dense", "Dense layer; rows (tokens) are pixels.", (*_ANY, MATRIX, WEIGHT)),
        Operator(
            PRODUCT,
            "matmul",
            "Attention's products; the second operand stands where raw weights stand.",
            (*_ANY, PAIR),
        ),
        Operator(
            "relax.add",
            "add",
            "Sum of two tensors; the sum with a bias joins the layer before it.",
            (*_ANY, RANK, SAME_SHAPES),
        ),
        Operator("relax.nn.relu", "activation", "Joins the layer before it, else a layer.", (*_ANY, RANK)),
        Operator(
            "relax.clip",
            "activation",
            "ReLU6 and any other clip; joins the layer before it, else a layer.",
            (*_ANY, RANK, BOUNDS),
        ),
        Operator("relax.nn.max_pool2d", "pool", "Maximum of a window.", _POOL),
        Operator("relax.nn.avg_pool2d", "pool", "Average of a window.", (*_POOL, COUNTS_PADDING)),
        Operator("relax.mean", "pool", "Global average, dimensions kept or not.", (*_ANY, OVER_HW)),
        Operator("relax.nn.adaptive_avg_pool2d", "pool", "Global average.", (*_ANY, POOL_NCHW, TO_ONE)),
        *(
            Operator(op, "lut", f"{doc} A table of 256 entries, with what is joined to it.", (*_ANY, RANK))
            for op, doc in UNARY.items()
        ),
        Operator(
            "relax.multiply",
            "mul",
            "Product of two tensors (gates, squeeze-and-excite); with a number or of one value: a table.",
            (*_ANY, RANK, FACTORS),
        ),
        Operator(
            "relax.concat",
            "concat",
            "Channels side by side, rescaled; on sd_accel if all parts but the last are multiples of 16.",
            (*_ANY, RANK, SIDE_BY_SIDE),
        ),
        Operator("relax.image.resize2d", "resize", "Enlargement.", (*_ANY, ENLARGES)),
        *(
            Operator(op, "view", "No code where it names the same bytes of the blocked layout anew.", _ANY)
            for op in (
                "relax.reshape",
                "relax.flatten",
                "relax.squeeze",
                "relax.expand_dims",
                "relax.permute_dims",
            )
        ),
    )
}


def check(node: Node) -> tuple[Operator | None, str]:
    """The operator's row and "", or the reason why the node is not an integer layer."""
    op = node.call.op
    name = getattr(op, "name", None) or getattr(op, "name_hint", None) or type(op).__name__
    if name == "relax.matmul" and not node.has_weight and constant(node.call.args[1]) is None:
        name = PRODUCT
    row = OPERATORS.get(name)
    if row is None:
        return None, HOST.get(name, f"operator {name} is not supported")
    for constraint in row.constraints:
        reason = constraint.reason(node)
        if reason:
            return row, reason
    return row, ""


def host_markdown() -> str:
    """The operators that stay in float32, and why, for ``docs/operators.md``."""
    lines = ["| operator | why it stays in float32 |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{op}` | {reason} |" for op, reason in HOST.items())]) + "\n"


def markdown() -> str:
    """The table of supported operators and what their conditions mean, for ``docs/operators.md``."""
    lines = ["| operator | becomes | what | conditions |", "|---|---|---|---|"]
    for row in OPERATORS.values():
        conditions = "; ".join(c.doc for c in row.constraints)
        lines.append(f"| `{row.op}` | {row.role} | {row.doc} | {conditions} |")
    return "\n".join(lines) + "\n"
