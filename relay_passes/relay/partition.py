"""``partition_for_sd_accel``: regions of a Relay module become calls of compiled plans."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from sd_tvm.errors import OptionError, UnsupportedModelError
from sd_tvm.plan.model import Plan
from sd_tvm.relay_passes.relay import options, report
from sd_tvm.relay_passes.relay._tvm import relay, tvm
from sd_tvm.relay_passes.relay.calibration import region_examples
from sd_tvm.relay_passes.relay.compiler import compile_region
from sd_tvm.relay_passes.relay.operators import COMPILER, WEIGHTED, reason_against
from sd_tvm.relay_passes.relay.report import NodeRow
from sd_tvm.relay_passes.relay.targets import ACCELERATOR, place_of

_LOG = logging.getLogger(__name__)
#: Function attribute: the plan's name.
PLAN_ATTR = "sd_plan"


def partition_for_sd_accel(
    mod: Any, params: Mapping[str, Any] | None = None, *, target: Any = ACCELERATOR
) -> Any:
    """Compile what can be integers; the rest stays Relay.

    The result builds with any target for the CPU, in any Relay pipeline. What became of every operator is in
    :func:`last_report`. Options are those of :func:`configure`.

    Parameters
    ----------
    mod
        ``IRModule`` or function, float32.
    params
        Weights by the names of main's parameters, as for ``relay.build``.
    target
        ``sd_accel``, ``sd_accel/<configuration>`` or ``sd_cpu``.

    Returns
    -------
    tvm.IRModule
        Its regions are functions with ``Compiler="sd_accel"``; each is called with its plan, a constant.

    Raises
    ------
    OptionError
        If there is no interpreter to compile with, or the target is not ours.
    UnsupportedModelError
        If the module has no function ``main``, or a region of it is refused.
    CalibrationError
        If the calibration data do not fit the module.
    """
    place = place_of(target)
    if place is None:
        raise OptionError(
            f"target {target}",
            expected="sd_accel, sd_accel/<configuration> or sd_cpu",
            fix="correct the target",
        )
    if isinstance(mod, relay.Function):
        mod = tvm.IRModule.from_expr(mod)
    if "main" not in {str(g.name_hint) for g in mod.get_global_vars()}:
        raise UnsupportedModelError("the module has no function 'main'", expected="a function 'main'")
    if is_partitioned(mod):
        return mod
    regions = _regions(mod, params or {})
    chosen = options.current()
    machine = chosen.machine(place) if place else None
    plans: dict[str, Plan] = {}
    rows = _left(regions)
    names = _region_names(regions)
    examples = region_examples(regions, names, chosen.calibration)
    for name in names:
        plan = compile_region(regions[name], examples.get(name, ()), machine, chosen)
        plans[name] = plan
        rows += [NodeRow(n["source_name"], n["op"], n["target"], n["reason"], name) for n in plan.nodes]
    report.publish(rows)
    if not names:
        _LOG.warning("nothing is offloaded: no conv2d or dense with constant weights that the table admits")
    return _Linker(regions, plans).run()


def is_partitioned(mod: Any) -> bool:
    """Whether a module has regions of ours."""
    return any(_compiler(func) == COMPILER for func in mod.functions.values())


def function_attr(func: Any, key: str) -> str:
    """Attribute of a function as text, empty without one."""
    attrs = getattr(func, "attrs", None)
    return str(attrs[key]) if attrs is not None and key in set(attrs.keys()) else ""


def _compiler(func: Any) -> str:
    return function_attr(func, "Compiler")


def _regions(mod: Any, params: Mapping[str, Any]) -> Any:
    """The module with its regions as functions of their own, in float32; params are constants."""
    if params:
        main = relay.build_module.bind_params_by_name(mod["main"], dict(params))
        mod = tvm.IRModule(dict(mod.functions.items()), mod.type_definitions)
        mod["main"] = main
    passes = tvm.transform.Sequential(
        [
            relay.transform.InferType(),
            relay.transform.FoldConstant(),  # a transposed weight is a weight
            relay.transform.AnnotateTarget(COMPILER),
            relay.transform.MergeCompilerRegions(),
            relay.transform.PartitionGraph(),
            relay.transform.InferType(),
        ]
    )
    # Nothing of this is an optimisation: it also runs for opt_level 0.
    with tvm.transform.PassContext(opt_level=3):
        mod = passes(mod)
        idle = [g for g in mod.get_global_vars() if _compiler(mod[g]) == COMPILER and not _weighted(mod[g])]
        mod = relay.transform.InlineCompilerFunctionsBoundTo(idle)(mod)
        return relay.transform.InferType()(mod)


def _calls(expr: Any) -> list[Any]:
    """Calls of operators, in post order."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, relay.Call) and isinstance(node.op, tvm.ir.Op):
            found.append(node)

    relay.analysis.post_order_visit(expr, visit)
    return found


def _weighted(func: Any) -> bool:
    return any(call.op.name in WEIGHTED for call in _calls(func))


def _region_names(mod: Any) -> list[str]:
    return sorted(str(g.name_hint) for g in mod.get_global_vars() if _compiler(mod[g]) == COMPILER)


def _left(mod: Any) -> list[NodeRow]:
    """Rows of what stayed in main."""
    rows = []
    for i, call in enumerate(_calls(mod["main"])):
        why = reason_against(call) or "no conv2d or dense beside it in a region"
        rows.append(NodeRow(str(i), call.op.name, "relay", why))
    return rows


class _Linker(relay.ExprMutator):  # type: ignore[misc]
    """Gives every call of a region its plan."""

    def __init__(self, mod: Any, plans: Mapping[str, Plan]) -> None:
        super().__init__()
        self._mod = mod
        self._data = {name: plan.to_bytes() for name, plan in plans.items()}
        self._new: dict[str, Any] = {}

    def run(self) -> Any:
        """The linked module."""
        main = self.visit(self._mod["main"])
        functions = {g: f for g, f in self._mod.functions.items() if str(g.name_hint) not in self._data}
        out = tvm.IRModule(
            {g: f for g, f in functions.items() if str(g.name_hint) != "main"}, self._mod.type_definitions
        )
        for name, var in self._new.items():
            out[var] = _shell(self._mod[name], name, self._data[name])
        out["main"] = main
        return relay.transform.InferType()(out)

    def visit_call(self, call: Any) -> Any:
        """A call of a region gets one more argument."""
        if not isinstance(call.op, relay.GlobalVar) or str(call.op.name_hint) not in self._data:
            return super().visit_call(call)
        name = str(call.op.name_hint)
        var = self._new.setdefault(name, relay.GlobalVar(name))
        payload = relay.const(tvm.nd.array(np.frombuffer(self._data[name], np.uint8)))
        return relay.Call(var, [payload, *(self.visit(a) for a in call.args)])


def _shell(func: Any, name: str, data: bytes) -> Any:
    """A function of a region's type whose code is in a plan; its body only says the type."""
    params = [relay.var(str(p.name_hint), p.checked_type) for p in func.params]
    plan = relay.var("plan", shape=(len(data),), dtype="uint8")

    def blank(ty: Any) -> Any:
        if isinstance(ty, relay.TupleType):
            return relay.Tuple([blank(f) for f in ty.fields])
        return relay.zeros([int(d) for d in ty.shape], ty.dtype)

    shell = relay.Function([plan, *params], blank(func.ret_type), func.ret_type)
    one = tvm.tir.IntImm("int32", 1)
    for key, value in {
        "Compiler": COMPILER,
        "Primitive": one,
        "Inline": one,
        "global_symbol": name,
        PLAN_ATTR: hashlib.sha256(data).hexdigest(),
    }.items():
        shell = shell.with_attr(key, value)
    return shell
