"""What the table of operators says about functions of one value, products, concatenation, enlargement.

The conditions get a :class:`~sd_tvm.relay_passes.legality.Node` and return "" or why it is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sd_tvm._tvm import relax
from sd_tvm.relay_passes._rewrite import Expr, constant, static_shape

if TYPE_CHECKING:
    from sd_tvm.relay_passes.legality import Node

#: Functions of one value that become a table by themselves: operator -> what it is.
UNARY: dict[str, str] = {
    "relax.sigmoid": "Logistic function.",
    "relax.tanh": "Hyperbolic tangent.",
    "relax.exp": "Exponential.",
    "relax.log": "Logarithm.",
    "relax.sqrt": "Square root.",
    "relax.rsqrt": "Reciprocal square root.",
    "relax.square": "Square.",
    "relax.negative": "Negation.",
    "relax.abs": "Absolute value.",
    "relax.erf": "Error function.",
    "relax.nn.silu": "SiLU (swish).",
    "relax.nn.gelu": "GELU.",
    "relax.nn.gelu_tanh": "GELU, tanh form.",
    "relax.nn.leakyrelu": "Leaky ReLU.",
    "relax.nn.softplus": "Softplus.",
    "relax.nn.selu": "SELU.",
}
#: Operators that take part in a table when all their operands are numbers or functions of the same value.
COMBINING: tuple[str, ...] = (
    "relax.add",
    "relax.subtract",
    "relax.multiply",
    "relax.divide",
    "relax.maximum",
    "relax.minimum",
    "relax.power",
    "relax.where",
    "relax.greater",
    "relax.greater_equal",
    "relax.less",
    "relax.less_equal",
    "relax.nn.prelu",
)
#: Operators that stay in float32, and why.
HOST: dict[str, str] = {
    "relax.nn.softmax": "softmax divides by a sum over an axis: float32 on the host",
    "relax.nn.log_softmax": "log-softmax needs a sum over an axis: float32 on the host",
    "relax.nn.layer_norm": "layer norm needs the mean and variance of every position: float32 on the host",
    "relax.nn.group_norm": "group norm needs the mean and variance of every image: float32 on the host",
    "relax.nn.instance_norm": "instance norm needs the mean and variance of every image: float32 on the host",
    "relax.nn.batch_norm": "batch norm that FoldBatchNorm could not fold into a layer: float32 on the host",
    "relax.strided_slice": "a part of a tensor: the host copies it",
    "relax.split": "parts of a tensor: the host copies them",
    "relax.nn.pixel_shuffle": "moves channels into pixels: the host copies them",
    "relax.take": "table lookup by integers: the host copies rows",
    "relax.subtract": "difference of two tensors: float32 on the host",
    "relax.divide": "quotient of two tensors: float32 on the host",
    "relax.maximum": "maximum of two tensors: float32 on the host",
    "relax.minimum": "minimum of two tensors: float32 on the host",
    "relax.power": "power of two tensors: float32 on the host",
}


def factors(node: Node) -> str:
    """A product of two activations of one shape, or of one and a factor a channel."""
    if any(constant(a) is not None for a in node.inputs):
        return "a factor is a constant tensor"
    a, b = (static_shape(v) or () for v in node.inputs)
    if a == b or per_channel(a, b) or per_channel(b, a):
        return ""
    return f"broadcasts {a} with {b}"


def per_channel(full: tuple[int, ...], factor: tuple[int, ...]) -> bool:
    """Whether ``factor`` is (N, C, 1, 1) for a (N, C, H, W)."""
    return len(full) == len(factor) == 4 and factor == (*full[:2], 1, 1)


def channels_side_by_side(node: Node) -> str:
    """A concatenation of activations along axis 1."""
    if not isinstance(node.call.args[0], relax.Tuple):
        return "the tensors are not given one by one"
    if any(constant(a) is not None for a in node.inputs):
        return "one of the tensors is a constant"
    rank = len(static_shape(node.result) or ())
    axis = node.call.attrs.axis
    if axis is None or int(axis) % rank != 1:
        return f"axis {axis}, not 1 (channels)"
    return ""


#: (coordinate transformation, rounding) for which nearest neighbours at factor f are x[y // f].
_FLOORS = {
    ("asymmetric", "floor"),
    ("half_pixel", "round"),
    ("half_pixel", "round_prefer_floor"),
    ("half_pixel", "round_prefer_ceil"),
    ("half_pixel", ""),
}


def resize_factor(call: Expr) -> tuple[int, int] | None:
    """Whole factors of a resize, None if they are none."""
    before, after = static_shape(call.args[0]), [int(v) for v in call.args[1].values]
    if before is None or len(before) != 4 or any(a % b for a, b in zip(after, before[2:], strict=True)):
        return None
    return after[0] // before[2], after[1] // before[3]


def enlarges(node: Node) -> str:
    """Nearest neighbours by whole factors."""
    a = node.call.attrs
    if a.layout != "NCHW":
        return f"layout {a.layout}, not NCHW"
    if a.method != "nearest_neighbor":
        return f"{a.method} interpolation: float32 on the host"
    if resize_factor(node.call) is None:
        return f"{node.shape} -> {static_shape(node.result)} is no whole factor"
    found = (str(a.coordinate_transformation_mode), str(a.rounding_method))
    if found not in _FLOORS:
        return f"rounds positions by {found[0]}, {found[1] or 'no rule'}: not to x[y // factor]"
    return ""
