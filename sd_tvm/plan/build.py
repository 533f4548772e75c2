"""From a Relax module to a plan. Importing this module loads TVM."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sd_tvm._tvm import ir, relax, tirx, tvm
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.errors import UnsupportedModelError
from sd_tvm.plan.model import Array, Plan, Step, Value
from sd_tvm.relay_passes._rewrite import IRModule, bindings_of, constant, is_call, static_shape
from sd_tvm.relay_passes.guard_cpu import GuardCPU
from sd_tvm.relay_passes.offload import EXTERNAL_MODS
from sd_tvm.relay_passes.pipeline import accelerator_passes, between_layers, to_integer
from sd_tvm.relay_passes.report import node_reports


def build_plan(mod: IRModule, config: AcceleratorConfig | None = None, *, notes: Sequence[str] = ()) -> Plan:
    """Compile a module for the accelerator or the CPU.

    Parameters
    ----------
    mod
        Relax module with static shapes, for example ``CompressedModel.to_relax()``. The passes are those of
        ``tvm.compile(mod, target="sd_accel")``.
    config
        Configuration of the accelerator; None: integer layers become CPU code.
    notes
        Sentences that the plan carries.

    Raises
    ------
    UnsupportedModelError
        If what the passes left is no straight list of calls.
    """
    if config is None:
        from sd_tvm.relay_passes.lower_cpu import LowerToCPU

        passes = [*to_integer(mod), LowerToCPU(), *between_layers()]
    else:
        passes = accelerator_passes(mod, config)
    passes.append(GuardCPU())
    with _host():
        for step in passes:
            mod = step(mod)
    return plan_of(mod, config, notes=notes)


def plan_of(mod: IRModule, config: AcceleratorConfig | None = None, *, notes: Sequence[str] = ()) -> Plan:
    """Plan of a module whose operators are calls of compiled code already.

    Raises
    ------
    UnsupportedModelError
        If it is no straight list of them.
    """
    target = _host()
    nodes = tuple(asdict(row) for row in node_reports(mod))
    listed = _Lister(mod)
    with target:
        library = _library(mod, target, {step.function for step in listed.steps})
    plan = Plan(
        tuple(listed.values),
        tuple(listed.inputs),
        tuple(listed.outputs),
        tuple(listed.steps),
        listed.constants,
        library,
        "" if config is None else config.to_described_text(),
        nodes,
        tuple(notes),
    )
    plan.check()
    return plan


def _host() -> Any:
    cpu = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()
    return tvm.target.Target({"kind": "llvm", "mcpu": cpu})


class _Lister:
    """The calls of ``main``, in order."""

    def __init__(self, mod: IRModule) -> None:
        self.values: list[Value] = []
        self.steps: list[Step] = []
        self.constants: dict[int, Array] = {}
        self._numbers: dict[Any, tuple[int, ...]] = {}
        func = mod["main"]
        self.inputs = [n for param in func.params for n in self._new(param, param.ty)]
        for var, value in bindings_of(func):
            self._numbers[var] = self._bound(var, value)
        self.outputs = list(self._numbers_of(func.body.body))

    def _new(self, var: Any, ty: Any) -> tuple[int, ...]:
        """Fresh values of a variable's type."""
        if isinstance(ty, relax.TupleType):
            numbers = tuple(n for field in ty.fields for n in self._new(None, field))
        else:
            try:
                value = Value(tuple(int(d) for d in ty.shape), str(ty.dtype))
            except (AttributeError, TypeError, ValueError) as error:
                raise UnsupportedModelError(
                    f"{getattr(var, 'name', 'a value')} is no tensor of a static shape",
                    expected="static shapes",
                ) from error
            self.values.append(value)
            numbers = (len(self.values) - 1,)
        if var is not None:
            self._numbers[var] = numbers
        return numbers

    def _bound(self, var: Any, value: Any) -> tuple[int, ...]:
        if is_call(value, "relax.call_tir", "relax.call_dps_packed") and len(value.args) == 2:
            callee = value.args[0]
            name = callee.global_symbol if isinstance(callee, relax.ExternFunc) else callee.name_hint
            args = tuple(n for arg in value.args[1].fields for n in self._numbers_of(arg))
            results = self._new(None, var.ty)
            self.steps.append(Step(str(name), args, results))
            return results
        if isinstance(value, relax.Call) and isinstance(value.op, relax.ExternFunc) and not value.args:
            self.steps.append(Step(str(value.op.global_symbol), (), ()))  # asks for the processor
            return ()
        if isinstance(value, relax.TupleGetItem):
            whole = value.tuple_value
            at = [len(self._flat(f)) for f in whole.ty.fields]
            first = sum(at[: value.index])
            return self._numbers_of(whole)[first : first + at[value.index]]
        if isinstance(value, ir.Var | relax.Tuple) or constant(value) is not None:
            return self._numbers_of(value)
        op = getattr(getattr(value, "op", None), "name", type(value).__name__)
        raise UnsupportedModelError(
            f"{var.name}: {op} is no call of compiled code",
            expected="static shapes and no control flow",
            fix="leave this operator to the host",
        )

    def _flat(self, ty: Any) -> list[Any]:
        return [t for f in ty.fields for t in self._flat(f)] if isinstance(ty, relax.TupleType) else [ty]

    def _numbers_of(self, expr: Any) -> tuple[int, ...]:
        if isinstance(expr, relax.Tuple):
            return tuple(n for field in expr.fields for n in self._numbers_of(field))
        if expr in self._numbers:
            return self._numbers[expr]
        array = constant(expr)
        if array is None:
            raise UnsupportedModelError(
                f"{expr} is neither a tensor nor a constant", expected="a plain graph"
            )
        self.values.append(Value(static_shape(expr) or (), str(array.dtype)))
        number = len(self.values) - 1
        self.constants[number] = array
        self._numbers[expr] = (number,)
        return (number,)


def _library(mod: IRModule, target: Any, used: set[str]) -> bytes:
    """Shared library of the functions that are used, with the accelerator's programs."""
    funcs = {
        str(gvar.name_hint): func.with_attr("global_symbol", str(gvar.name_hint))
        for gvar, func in mod.functions_items()
        if isinstance(func, tirx.PrimFunc) and str(gvar.name_hint) in used
    }
    executable = tvm.compile(tvm.IRModule(funcs), target=target)
    for external in mod.attrs[EXTERNAL_MODS] if EXTERNAL_MODS in (mod.attrs or {}) else ():
        executable.mod.import_module(external)
    with tempfile.TemporaryDirectory(prefix="sd_tvm_plan_") as folder:
        path = Path(folder) / "plan.so"
        executable.export_library(str(path))
        return path.read_bytes()
