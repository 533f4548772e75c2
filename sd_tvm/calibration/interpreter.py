"""Runs an fp32 Relax function value by value: NumPy where it can, TVM for the rest.

Only one example and the values that are still needed are in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd_tvm._blas import one_blas_thread
from sd_tvm._tvm import ir, relax, tvm
from sd_tvm.calibration.data import InputSpec
from sd_tvm.calibration.ops import Evaluator, NotEvaluated, evaluate
from sd_tvm.errors import UnsupportedModelError
from sd_tvm.relay_passes._rewrite import Expr, IRModule, _vars_in, bindings_of, constant, is_call

Array = npt.NDArray[Any]


@dataclass
class Step:
    """One binding.

    Attributes
    ----------
    name
        Variable name.
    var, value
        The binding.
    frees
        Variables that nothing needs after it.
    constant
        Whether all its operands are constants.
    """

    name: str
    var: Expr
    value: Expr
    frees: list[Expr]
    constant: bool = False


#: Called after every step with the step, its operands and its value; graph inputs have step None.
Observer = Callable[["Step | None", Sequence[Any], Any, str], None]


class Interpreter:
    """Evaluates ``main`` of a module whose weights are constants.

    Parameters
    ----------
    mod
        Any module with a Relax function ``main`` without control flow; PrimFuncs it calls are run by TVM.
    evaluate
        Value of a call with given operands; raises ``NotEvaluated`` for one that it leaves to TVM. Called in
        several threads at once.

    Raises
    ------
    UnsupportedModelError
        No ``main``, control flow, or dynamic shapes.
    """

    def __init__(self, mod: IRModule, evaluate: Evaluator = evaluate) -> None:
        self.mod = mod
        self.evaluate = evaluate
        if "main" not in {g.name_hint for g in mod.get_global_vars()}:
            raise UnsupportedModelError("the module has no function 'main'", expected="a function 'main'")
        self.func = mod["main"]
        self.inputs = [self._spec(p) for p in self.func.params]
        self.steps = self._steps()
        #: Values of constant steps, once computed.
        self.fixed: dict[Expr, Any] = {}
        self._compiled: dict[str, Any] = {}
        self._lock = threading.RLock()

    @staticmethod
    def _spec(param: Expr) -> InputSpec:
        try:
            return InputSpec(str(param.name), tuple(int(d) for d in param.ty.shape), str(param.ty.dtype))
        except (TypeError, AttributeError) as error:
            raise UnsupportedModelError(
                f"the input {param.name!r} has no static shape", expected="static shapes"
            ) from error

    def _steps(self) -> list[Step]:
        known: set[Expr] = set()
        steps = []
        for var, value in bindings_of(self.func):
            if isinstance(value, relax.If | relax.Function):
                raise UnsupportedModelError(f"{var.name!r} is control flow", expected="a plain graph")
            fixed = not isinstance(value, ir.Var) and all(v in known for v in _vars_in(value))
            if fixed:
                known.add(var)
            steps.append(Step(str(var.name), var, value, [], fixed))
        live = set(_vars_in(self.func.body.body))
        for step in reversed(steps):
            for var in dict.fromkeys([*_vars_in(step.value), step.var]):
                if var not in live:
                    live.add(var)
                    step.frees.append(var)
        return steps

    @one_blas_thread
    def run(self, inputs: Sequence[Array], observe: Observer | None = None) -> Any:
        """Value of the function.

        Parameters
        ----------
        inputs
            One array for each of :attr:`inputs`.
        observe
            Called for every graph input and step that is not constant with (step, operands, value, name).
        """
        return self.walk(inputs, observe)

    def walk(self, inputs: Sequence[Array], observe: Observer | None = None) -> Any:
        """As :meth:`run`, in any number of threads; the caller has limited the threads of BLAS."""
        self.fix_constants()
        env: dict[Expr, Any] = {}
        for param, array, spec in zip(self.func.params, inputs, self.inputs, strict=True):
            env[param] = array
            if observe is not None:
                observe(None, (), array, spec.name)
        for step in self.steps:
            if not step.constant:
                args, value = self.step_value(step, env)
                env[step.var] = value
                if observe is not None:
                    observe(step, args, value, step.name)
            for var in step.frees:
                env.pop(var, None)
        return self.value(self.func.body.body, env)

    def fix_constants(self) -> None:
        """Compute :attr:`fixed`, if that has not happened."""
        with self._lock:
            if self.fixed:
                return
            for step in self.steps:
                if step.constant:
                    self.fixed[step.var] = self.step_value(step, {})[1]

    def value(self, expr: Expr, env: dict[Expr, Any]) -> Any:
        """Value of an operand: array, tuple of arrays, or the expression itself where it is no tensor."""
        if isinstance(expr, ir.Var):
            return env[expr] if expr in env else self.fixed.get(expr, expr)
        if isinstance(expr, relax.Tuple):
            return tuple(self.value(f, env) for f in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            return self.value(expr.tuple_value, env)[expr.index]
        array = constant(expr)
        return expr if array is None else array

    def step_value(
        self, step: Step, env: dict[Expr, Any], second: Array | None = None
    ) -> tuple[Sequence[Any], Any]:
        """Operands and value of a step.

        Parameters
        ----------
        step
            One of :attr:`steps`.
        env
            Values of the variables that it needs.
        second
            Takes the place of the second operand (another weight or bias).

        Raises
        ------
        NotEvaluated
            If NumPy does not evaluate the operator and there is another second operand.
        """
        value = step.value
        if not isinstance(value, relax.Call):
            return (), self.value(value, env)
        args = [self.value(a, env) for a in value.args]
        if second is not None:
            args[1] = second
            return args, self.evaluate(value, args)
        try:
            return args, self.evaluate(value, args)
        except NotEvaluated:
            weight = self._weight(step)
            return args, self._through_tvm(step, env) if weight is None else weight

    def _weight(self, step: Step) -> Array | None:
        """A compressed weight is rebuilt here: compiling its PrimFunc would take longer."""
        if not (step.constant and is_call(step.value, "relax.call_tir")):
            return None
        from sd_tvm.relay_passes._weights import read_weight

        found = read_weight(self.mod, step.value)
        return None if found is None else found[1].dequantize()

    def _through_tvm(self, step: Step, env: dict[Expr, Any]) -> Any:
        """Compile a function of this one binding (once) and run it."""
        operands = list(dict.fromkeys(_vars_in(step.value)))
        with self._lock:
            return self._compiled_call(step, operands, env)

    def _compiled_call(self, step: Step, operands: list[Expr], env: dict[Expr, Any]) -> Any:
        if step.name not in self._compiled:
            builder = relax.BlockBuilder(self.mod.without_attr("external_mods"))
            with builder.function("sd_step", operands):
                with builder.dataflow():
                    out = builder.emit_output(step.value)
                builder.emit_func_output(out)
            mod = builder.get()
            del mod["main"]
            mod = relax.transform.DeadCodeElimination(["sd_step"])(mod)
            executable = tvm.compile(relax.get_pipeline("zero")(mod), target="llvm")
            self._compiled[step.name] = relax.VirtualMachine(executable, tvm.cpu())
        arrays = [tvm.runtime.tensor(np.asarray(self.value(v, env), order="C")) for v in operands]
        return _to_numpy(self._compiled[step.name]["sd_step"](*arrays))


def _to_numpy(value: Any) -> Any:
    return value.numpy() if hasattr(value, "numpy") else tuple(_to_numpy(v) for v in value)
