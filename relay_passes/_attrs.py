"""Attributes and non-tensor operands of Relax calls as JSON values, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sd_tvm._tvm import dtype as ffi_dtype
from sd_tvm._tvm import ir, relax, tirx, tvm
from sd_tvm.relay_passes._rewrite import Expr

#: Key of the type of a call's attributes, where the operator does not say it itself.
TYPE_KEY = "$type"


class NotEncoded(Exception):  # noqa: N818 - callers turn it into a typed error that names the node
    """A value has no JSON form, or a JSON value no meaning."""


def _float(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))


def value_to_json(value: Any) -> Any:
    """A field of an operator's attributes."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return _float(value) if math.isfinite(value) else {"float": _float(value)}
    if isinstance(value, ffi_dtype):
        return {"dtype": str(value)}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, tirx.IntImm):
        return {"int": int(value.value), "dtype": str(value.ty)}
    if isinstance(value, tirx.FloatImm):
        return {"float": _float(float(value.value)), "of": str(value.ty)}
    if isinstance(value, tvm.ir.Array | list | tuple):
        return [value_to_json(v) for v in value]
    raise NotEncoded(f"an attribute of type {type(value).__name__}")


def value_from_json(value: Any) -> Any:
    """Inverse of :func:`value_to_json`."""
    if isinstance(value, list):
        return [value_from_json(v) for v in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"dtype"}:
        return ffi_dtype(value["dtype"])
    if set(value) == {"int", "dtype"}:
        return tirx.IntImm(value["dtype"], value["int"])
    if set(value) == {"float", "of"}:
        return tirx.FloatImm(value["of"], float(value["float"]))
    if set(value) == {"float"}:
        return float(value["float"])
    raise NotEncoded(f"attribute {value!r:.60}")


def attrs_to_json(attrs: Any) -> dict[str, Any]:
    """All fields of a call's attributes."""
    if attrs is None:
        return {}
    info = type(attrs).__tvm_ffi_type_info__
    encoded = {f.name: value_to_json(getattr(attrs, f.name)) for f in info.fields}
    if any(name.startswith("$") for name in encoded):
        raise NotEncoded(f"attributes of type {info.type_key}")
    return {TYPE_KEY: str(info.type_key), **encoded}


def attrs_from_json(_op: Expr, attrs: Mapping[str, Any]) -> Any:
    """Attributes of a call; keys that start with ``$`` belong to the node."""
    key = attrs.get(TYPE_KEY)
    fields = {k: value_from_json(v) for k, v in attrs.items() if not k.startswith("$")}
    if key is None:
        if fields:
            raise NotEncoded(f"attributes {sorted(fields)} without {TYPE_KEY}")
        return None
    if not isinstance(key, str) or not key.startswith("relax.attrs."):
        raise NotEncoded(f"{TYPE_KEY} {key!r:.60}")
    return ir.make_node(key, **fields)


def arg_to_json(arg: Expr) -> dict[str, Any]:
    """An operand that is neither tensor nor tuple."""
    if isinstance(arg, relax.ShapeExpr):
        dims = []
        for d in arg.values:
            if not isinstance(d, tirx.IntImm):
                raise NotEncoded(f"the symbolic dimension {d}")
            dims.append(int(d.value))
        return {"shape": dims}
    if isinstance(arg, tirx.IntImm):
        return {"int": int(arg.value), "dtype": str(arg.ty)}
    if isinstance(arg, tirx.FloatImm):
        return {"float": _float(float(arg.value)), "dtype": str(arg.ty)}
    if isinstance(arg, ir.StringImm):
        return {"string": str(arg.value)}
    raise NotEncoded(f"an operand of type {type(arg).__name__}")


def arg_from_json(arg: Mapping[str, Any]) -> Expr:
    """Inverse of :func:`arg_to_json`, literals included."""
    if "shape" in arg:
        return relax.ShapeExpr(arg["shape"])
    if "int" in arg:
        return tirx.IntImm(arg["dtype"], arg["int"])
    if "float" in arg:
        return tirx.FloatImm(arg["dtype"], float(arg["float"]))
    if "string" in arg:
        return ir.StringImm(arg["string"])
    if "literal" in arg:
        literal = arg["literal"]
        array = np.array(literal["data"], dtype=literal["dtype"]).reshape(literal["shape"])
        return relax.const(array, literal["dtype"])
    raise NotEncoded(f"operand {arg!r:.60}")
