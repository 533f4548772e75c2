"""CheckFinite: a trained network whose weights are not numbers is refused, by the name of the layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._tvm import tvm
from sd_tvm.errors import NumericsError
from sd_tvm.relay_passes._rewrite import Expr, IRModule, bindings_of, constant, is_call, source_names
from sd_tvm.relay_passes._weights import WEIGHTED, relax_functions

#: Operators none of whose constants may be infinite. Elsewhere infinity may be meant (masks), NaN never.
_TRAINED = (*WEIGHTED, "relax.nn.conv2d_transpose", "relax.nn.conv1d_transpose", "relax.nn.batch_norm")
_NORM = "relax.nn.batch_norm"
_NORM_ROLES = ("", "scale", "shift", "mean", "variance")


@tvm.transform.module_pass(opt_level=0, name="sd.CheckFinite")
class CheckFinite:
    """Change nothing; refuse weights, biases and statistics that are NaN or infinite, and any constant NaN.

    Usable in any ``tvm.transform.Sequential``.

    Raises
    ------
    NumericsError
        Names the first layer with such a constant, says which one and how many of its values.
    """

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        names = source_names(mod)
        for _, func in relax_functions(mod):
            values = dict(bindings_of(func))
            for var, value in values.items():
                for what, array, infinite_too in _constants(value, values):
                    bad = np.isnan(array) if not infinite_too else ~np.isfinite(array)
                    if bad.any():
                        layer = value.args[0] if what == "bias" and value.args[0] in values else var
                        raise not_finite(names.get(layer.name, str(layer.name)), what, array)
        return mod


def not_finite(layer: str, what: str, array: npt.NDArray[Any]) -> NumericsError:
    """The error for a constant of a layer that holds NaN or infinity."""
    nan, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    counts = [f"{n} {text}" for n, text in ((nan, "NaN"), (infinite, "infinite")) if n]
    return NumericsError(
        f"the {what} of {layer!r} has values that are not finite: {' and '.join(counts)} of {array.size}",
        expected="finite float32",
        fix="check the trained model",
    )


def _constants(value: Expr, values: dict[Expr, Expr]) -> Iterator[tuple[str, npt.NDArray[Any], bool]]:
    """(role, array, whether infinity is wrong too) of the float constants of a binding."""
    if not hasattr(value, "args"):
        return
    trained = is_call(value, *_TRAINED)
    for i, arg in enumerate(value.args):
        array = constant(arg)
        if array is None or array.dtype.kind != "f":
            continue
        if is_call(value, _NORM):
            yield _NORM_ROLES[i] or "input", array, True
        elif trained:
            yield "weight", array, True
        else:
            other = values.get(value.args[0]) if is_call(value, "relax.add") and i == 1 else None
            bias = other is not None and is_call(other, *_TRAINED)
            yield ("bias" if bias else "constant operand"), array, bias
