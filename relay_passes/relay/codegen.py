"""``relay.ext.sd_accel``: a region's function calls the plan that it is given."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from sd_tvm.errors import CodegenError, FormatError
from sd_tvm.plan.model import Plan
from sd_tvm.plan.run import Runner
from sd_tvm.relay_passes.relay._tvm import host_target, relay, te, tir, tvm
from sd_tvm.relay_passes.relay.operators import COMPILER
from sd_tvm.relay_passes.relay.partition import PLAN_ATTR, function_attr

#: Global function that compiled regions call: name of the plan, plan, inputs, results.
RUN = "sd_tvm.relay.run"
_OPEN_PLANS = 16
_runners: OrderedDict[str, Runner] = OrderedDict()
_watchers: list[list[Runner]] = []


def register_codegen() -> None:
    """Register the code generator, and what its code calls."""
    tvm.register_func(f"relay.ext.{COMPILER}", generate, override=True)
    tvm.register_func(RUN, run, override=True)


def generate(func: Any) -> Any:
    """Runtime module of a region.

    Parameters
    ----------
    func
        Function that :func:`partition_for_sd_accel` made.

    Raises
    ------
    CodegenError
        If it was made by somebody else.
    """
    symbol, plan = (function_attr(func, key) for key in ("global_symbol", PLAN_ATTR))
    if not plan:
        raise CodegenError(
            f"a region {symbol} without a plan",
            expected="what partition_for_sd_accel returns",
            fix="call partition_for_sd_accel instead of the passes of TVM",
        )
    types = [p.checked_type for p in func.params]
    ret = func.ret_type
    results = list(ret.fields) if isinstance(ret, relay.TupleType) else [ret]
    operands = [
        te.placeholder([int(d) for d in ty.shape], ty.dtype, name=f"operand{i}") for i, ty in enumerate(types)
    ]
    made = te.extern(
        [[int(d) for d in ty.shape] for ty in results],
        operands,
        lambda ins, outs: tir.call_packed(RUN, plan, *ins, *outs),
        dtype=[str(ty.dtype) for ty in results],
        name="region",
    )
    outputs = list(made) if isinstance(made, list | tuple | tvm.ir.container.Array) else [made]
    primfunc = te.create_prim_func([*operands, *outputs])
    return tvm.build(primfunc.with_attr("global_symbol", symbol), target=host_target(), name=symbol)


def run(name: str, plan: Any, *arrays: Any) -> None:
    """Run a plan.

    Parameters
    ----------
    name
        SHA-256 of the plan's bytes.
    plan
        Its bytes; read when the plan is not open.
    arrays
        Inputs, then results.

    Raises
    ------
    FormatError
        If the plan is another one.
    """
    name = str(name)
    runner = _runners.get(name) or _open(name, plan.numpy().tobytes())
    _runners.move_to_end(name)
    for seen in _watchers:
        if runner not in seen:
            seen.append(runner)
    n_inputs = len(runner.plan.inputs)
    found = runner(*(a.numpy() for a in arrays[:n_inputs]))
    for target, array in zip(arrays[n_inputs:], found, strict=True):
        target.copyfrom(array)


def watch() -> list[Runner]:
    """A list that receives the plans that run from now on, each once, until :func:`unwatch`."""
    seen: list[Runner] = []
    _watchers.append(seen)
    return seen


def unwatch(seen: list[Runner]) -> None:
    """End a :func:`watch`."""
    _watchers[:] = [watcher for watcher in _watchers if watcher is not seen]


def _open(name: str, data: bytes) -> Runner:
    if hashlib.sha256(data).hexdigest() != name:
        raise FormatError(
            "a plan that is not the one its region was compiled for", fix="build the module again"
        )
    runner = _runners[name] = Runner(Plan.from_bytes(data))
    while len(_runners) > _OPEN_PLANS:
        _runners.popitem(last=False)
    return runner
