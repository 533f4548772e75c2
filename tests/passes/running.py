"""Running Relax modules, and the oracle: a graph executed by NumPy, integer layers by the golden model."""

from __future__ import annotations

from typing import Any

import numpy as np

from sd_tvm._tvm import ir, relax, tvm
from sd_tvm.calibration.ops import evaluate
from sd_tvm.layers import layer_from_json
from sd_tvm.numerics import golden
from sd_tvm.numerics.qparams import QParams
from sd_tvm.relay_passes._rewrite import bindings_of, constant, is_call, static_shape
from sd_tvm.relay_passes._weights import read_weight
from sd_tvm.relay_passes.calibrate import Calibrate, activation_qparams


def arrays(value: Any) -> list[np.ndarray]:
    """Tensors of a VM result."""
    if hasattr(value, "numpy"):
        return [value.numpy()]
    return [a for v in value for a in arrays(v)]


#: Compiles twice as fast; results are the same.
QUICK = {"kind": "llvm", "opt-level": 0}


def run(mod: Any, x: np.ndarray, target: Any = None) -> list[np.ndarray]:
    """Compile ``main`` and run it on the CPU."""
    executable = tvm.compile(mod, target=target or tvm.target.Target(QUICK))
    return arrays(relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x)))


def inputs(mod: Any, n: int, seed: int = 1) -> list[np.ndarray]:
    shape = static_shape(mod["main"].params[0])
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for _ in range(n)]


def calibrated(mod: Any, n: int = 4) -> Any:
    """The module with ranges that cover its values on ``inputs(mod, n)``."""
    return Calibrate(inputs(mod, n), method="minmax")(mod)


class GoldenGraph:
    """Executes an integer or float32 graph: layers by ``golden.run_layer``, the rest by NumPy."""

    def __init__(self, mod: Any) -> None:
        self.mod = mod
        self.qparams = activation_qparams(mod)

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        func = self.mod["main"]
        self.values: dict[Any, Any] = {func.params[0]: x}
        self.scales: dict[Any, QParams] = {}
        for var, value in bindings_of(func):
            self.values[var] = self.evaluate(var, value)
        return self.flat(self.values[func.body.body])

    def flat(self, value: Any) -> list[np.ndarray]:
        return [a for v in value for a in self.flat(v)] if isinstance(value, tuple) else [value]

    def operand(self, expr: Any) -> Any:
        if isinstance(expr, relax.Tuple):
            return tuple(self.operand(f) for f in expr.fields)
        array = constant(expr)
        if array is not None:
            return array
        return self.values[expr] if isinstance(expr, ir.Var) else expr

    def evaluate(self, var: Any, value: Any) -> Any:
        if is_call(value, "relax.call_tir"):
            name, func = value.args[0].name_hint, self.mod[value.args[0]]
            weight = read_weight(self.mod, value)
            if weight is not None:
                return weight[1].dequantize()
            operands = [self.operand(f) for f in value.args[1].fields]
            if "sd.layer" in func.attrs:
                return golden.run_layer(layer_from_json(str(func.attrs["sd.layer"])), operands)
            return self.edge(name, operands, static_shape(var))
        if isinstance(value, relax.Call):
            return np.asarray(evaluate(value, [self.operand(a) for a in value.args]), np.float32)
        return self.operand(value)

    def edge(self, name: str, operands: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        kind, _, rest = name.partition("_")
        if name.startswith("scale_of_"):
            return (np.maximum(np.abs(operands[0]).max(), 1e-30) / np.float32(127)).reshape(1).astype("f4")
        if kind == "quantize":
            x = operands[0].reshape(*operands[0].shape, *(1,) * (4 - operands[0].ndim))
            q = self.qparams[rest] if len(operands) == 1 else QParams(float(operands[1][0]), 128)
            return golden.to_blocked(golden.quantize(x, q.scale, q.zero_point, q.dtype))
        if kind == "relayout":  # an image that is flattened to a multiple of 16 channels
            n, _, h, w, _ = operands[0].shape
            channels = shape[1] * 16 // (h * w)
            return golden.to_blocked(golden.from_blocked(operands[0], channels).reshape(n, -1, 1, 1))
        assert kind == "dequantize"
        nchw = golden.from_blocked(operands[0], shape[1])
        if len(operands) == 1:
            q = self.qparams[rest]
            return golden.dequantize(nchw, q.scale, q.zero_point).reshape(shape)
        acc, (s_x, scale, bias) = nchw.astype(np.float32), operands[1:]
        factor = (s_x * scale)[None, :, None, None]
        return (acc * factor + bias[None, :, None, None]).reshape(shape)
