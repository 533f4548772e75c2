"""Which Relay operators may enter a region, and under which conditions: one table.

A region is compiled whole by sd-tvm, which decides for each of its operators whether it becomes integers
(:data:`sd_tvm.relay_passes.legality.OPERATORS`); this table says what is handed over at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sd_tvm.relay_passes.relay._tvm import relay, tvm

COMPILER = "sd_accel"
#: Operators whose weights make a region worth its while.
WEIGHTED = ("nn.conv2d", "nn.dense", "nn.conv1d", "nn.conv2d_transpose")
Reason = Callable[[Any], str]


def _constants(*positions: int) -> Reason:
    def reason(call: Any) -> str:
        for i in positions:
            if not isinstance(call.args[i], relay.Constant):
                return f"operand {i} is not a constant"
        return ""

    return reason


def _weight(call: Any) -> str:
    return "" if isinstance(call.args[1], relay.Constant) else "the weight is not a constant"


def _conv2d(call: Any) -> str:
    a = call.attrs
    found = (str(a.data_layout), str(a.kernel_layout), str(a.out_layout) or str(a.data_layout))
    layouts = {("NCHW", "OIHW", "NCHW"), ("NHWC", "HWIO", "NHWC")}
    return _weight(call) or ("" if found in layouts else f"layout {found}")


def _layout(call: Any) -> str:
    return "" if str(call.attrs.layout) in ("NCHW", "NHWC") else f"layout {call.attrs.layout}"


def _any(_call: Any) -> str:
    return ""


#: Operators without conditions, beside float32 and static shapes. Softmax stays in float32; it is here so
#: that a classifier is one region, and the same net becomes the same program however it came.
_PLAIN = (
    "nn.relu clip add subtract multiply divide maximum minimum power sigmoid tanh exp log sqrt rsqrt "
    "negative abs erf nn.leaky_relu mean concatenate nn.softmax nn.log_softmax nn.dropout nn.batch_flatten "
    "reshape squeeze expand_dims transpose"
)

#: Operator -> "" or why a call of it does not enter a region. All of them are ones that sd_tvm.relay reads.
OPERATORS: dict[str, Reason] = {
    "nn.conv2d": _conv2d,
    "nn.conv1d": _weight,
    "nn.conv2d_transpose": _weight,
    "nn.dense": _weight,
    "nn.bias_add": _constants(1),
    "nn.batch_norm": _constants(1, 2, 3, 4),
    "nn.max_pool2d": _layout,
    "nn.avg_pool2d": _layout,
    "nn.global_avg_pool2d": _layout,
    "nn.global_max_pool2d": _layout,
    "nn.adaptive_avg_pool2d": _layout,
    "nn.upsampling": _layout,
    "image.resize2d": _layout,
    "nn.pad": _constants(1),
    **dict.fromkeys(_PLAIN.split(), _any),
}


def reason_against(call: Any) -> str:
    """Empty if a call may enter a region, else why not. Types are inferred.

    Parameters
    ----------
    call
        ``relay.Call`` of an operator.
    """
    name = call.op.name
    if name not in OPERATORS:
        return f"operator {name} is left to TVM"
    for ty in (*(a.checked_type for a in call.args), call.checked_type):
        problem = _type_problem(ty)
        if problem:
            return problem
    return OPERATORS[name](call)


def _type_problem(ty: Any) -> str:
    if isinstance(ty, relay.TupleType):
        return next((p for p in map(_type_problem, ty.fields) if p), "")
    if not isinstance(ty, relay.TensorType):
        return "an operand is no tensor"
    if any(not isinstance(d, tvm.tir.IntImm) for d in ty.shape):
        return "dynamic shape"
    return "" if str(ty.dtype) == "float32" else f"data type {ty.dtype}, not float32"


def register_operators() -> None:
    """Tell TVM's ``AnnotateTarget`` what may enter a region."""
    for name in OPERATORS:
        tvm.ir.register_op_attr(name, f"target.{COMPILER}", lambda call: not reason_against(call))
