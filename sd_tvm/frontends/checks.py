"""Checks that every imported module passes, whatever it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sd_tvm._tvm import ir, relax, tvm
from sd_tvm.errors import UnsupportedDTypeError, UnsupportedModelError

#: Types a tensor of an imported module may have; integers and booleans carry indices and masks.
DTYPES = frozenset({"float32", "int64", "int32", "int16", "int8", "uint8", "bool"})


def check_dtype(dtype: str, what: str) -> None:
    """Raise UnsupportedDTypeError unless ``dtype`` is one of :data:`DTYPES`."""
    if dtype not in DTYPES:
        raise UnsupportedDTypeError(
            f"{what} is {dtype}",
            expected="float32 (integers and booleans only as indices and masks)",
            fix="convert the model to float32 before exporting it, for example model.float()",
        )


def dynamic_shape(what: str, dim: int | None, symbol: str = "") -> UnsupportedModelError:
    """The error for a dimension that is not a number."""
    where = f"dimension {dim} of {what}" if dim is not None else f"the rank of {what}"
    return UnsupportedModelError(
        f"{where} is dynamic{f' ({symbol})' if symbol else ''}",
        expected="static shapes",
        fix="export the model for the one input shape that it will run with",
    )


def translate(importer: Callable[[], Any], what: str) -> Any:
    """Run a TVM importer; whatever it raises becomes an UnsupportedModelError with its first line."""
    try:
        return importer()
    except UnsupportedModelError:
        raise
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UnsupportedModelError(
            f"{what} has an operator or a construct that TVM's importer does not translate: {lines[0][:300]}",
            expected="operators that tvm.relax imports",
            fix="replace the operator in the model, or import it by your own means and pass an IRModule",
        ) from error


def _bind_params(mod: Any, func: Any) -> Any:
    """Bind the weights that ``func`` takes as parameters and carries in its ``params`` attribute."""
    n = int(func.attrs["num_input"])
    values = list(func.attrs["params"]) if "params" in func.attrs else []
    names = [p.name for p in func.params[n:]]
    if len(values) != len(names):
        raise UnsupportedModelError(
            f"the function 'main' takes {len(names)} weights as parameters and {len(values)} are known",
            expected="weights as constants",
            fix="bind them: relax.transform.BindParams('main', {name: array})(mod)",
        )
    mod["main"] = func.without_attr("params")
    return relax.transform.BindParams("main", dict(zip(names, values, strict=True)))(mod)


def _check_type(ty: Any, what: str) -> None:
    if isinstance(ty, relax.TupleType):
        for i, field in enumerate(ty.fields):
            _check_type(field, f"{what}[{i}]")
        return
    if not isinstance(ty, relax.TensorType):
        return
    if ty.dtype is not None and str(ty.dtype):
        check_dtype(str(ty.dtype), what)
    if ty.shape is None:
        raise dynamic_shape(what, None)
    for i, dim in enumerate(ty.shape):
        if not isinstance(dim, tvm.tirx.IntImm):
            raise dynamic_shape(what, i, str(dim))


def finish(mod: Any) -> Any:
    """Check a Relax module and bring it to the form that all passes expect.

    Raises
    ------
    UnsupportedModelError
        No ``main``, weights as parameters, dynamic shapes, several Relax functions.
    UnsupportedDTypeError
        A floating-point type other than float32.
    """
    functions = {g.name_hint: f for g, f in mod.functions_items()}
    main = functions.get("main")
    if not isinstance(main, relax.Function):
        raise UnsupportedModelError(
            f"the module has no Relax function 'main' (it has {sorted(functions)})",
            expected="a function 'main'",
        )
    others = [n for n, f in functions.items() if n != "main" and isinstance(f, relax.Function)]
    if others:
        raise UnsupportedModelError(
            f"the module has the Relax functions {sorted(others)} beside 'main'",
            expected="one Relax function",
            fix="inline them: relax.transform.InlinePrivateFunctions(), or Function.inline_functions",
        )
    mod = mod.clone()
    if (
        main.attrs is not None
        and "num_input" in main.attrs
        and int(main.attrs["num_input"]) < len(main.params)
    ):
        mod = _bind_params(mod, main)
    mod = relax.transform.Normalize()(mod)
    func = mod["main"]
    if func.attrs is not None and "num_input" in func.attrs:
        func = func.without_attr("num_input")
        mod["main"] = func
    for param in func.params:
        _check_type(param.ty, f"input {param.name!r}")
    for block in func.body.blocks:
        for binding in block.bindings:
            value = getattr(binding, "value", None)
            if isinstance(value, relax.If):
                raise UnsupportedModelError(
                    f"{binding.var.name!r} is a branch (If)",
                    expected="a graph without control flow",
                    fix="export the branch that inference takes",
                )
            _check_type(binding.var.ty, f"value {binding.var.name!r}")
            for arg in getattr(value, "args", ()):
                if isinstance(arg, ir.GenericConst):
                    _check_type(arg.ty, f"a constant of {binding.var.name!r}")
    return mod
