"""GuardCPU: a module asks the processor, before anything else, whether it can run it."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import ir, ir_builder, relax, tvm
from sd_tvm.errors import UnsupportedCPUError
from sd_tvm.relay_passes._rewrite import IRModule
from sd_tvm.relay_passes._weights import relax_functions
from sd_tvm.relay_passes.lower_cpu import required_features
from sd_tvm.schedules.cpu.guard import QUESTIONS, guarded
from sd_tvm.schedules.cpu.isa import features_of, platform_of
from sd_tvm.schedules.cpu.vec import t

#: The function that asks.
GUARD = "sd_cpu_guard"


@tvm.transform.module_pass(opt_level=0, name="sd.GuardCPU")
class GuardCPU:
    """Make every Relax function raise ``UnsupportedCPUError`` on a processor without the target's features.

    LLVM may use any feature of the target anywhere, so it is not enough that our kernels ask. Run it last.
    Nothing changes for a target that needs no feature beyond the baseline, or is neither x86-64 nor AArch64
    Linux.

    Parameters
    ----------
    target
        TVM target; None: the current one.

    Raises
    ------
    UnsupportedCPUError
        If kernels of the module need what the target lacks.
    """

    def __init__(self, target: Any = None) -> None:
        self.target = target

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        target = tvm.target.Target.current(allow_none=True) if self.target is None else self.target
        check_target_has(mod, features_of(target))
        wanted = asked_features(target)
        names = {str(g.name_hint) for g in mod.get_global_vars()}
        if not wanted or GUARD in names:
            return mod
        out = mod.clone()
        for name, func in list(relax_functions(mod)):
            out.update_func(out.get_global_var(name), _asking(func))
        out[ir.GlobalVar(GUARD)] = _guard(wanted, platform_of(target))
        return relax.transform.Normalize()(out)


def asked_features(target: Any) -> list[str]:
    """Features of a target that code compiled for it asks the processor for, sorted."""
    return sorted(features_of(target) & set(QUESTIONS.get(platform_of(target), ())))


def check_target_has(mod: IRModule, features: set[str]) -> None:
    """Refuse to compile kernels for a target that lacks their instructions.

    Raises
    ------
    UnsupportedCPUError
        Naming what is missing.
    """
    missing = sorted(set(required_features(mod)) - features)
    if missing:
        raise UnsupportedCPUError(
            f"kernels of the module need {', '.join(missing)}, which the target lacks",
            expected="the target that LowerToCPU chose kernels for",
            fix="compile for that processor, or run LowerToCPU with this target",
        )


def _guard(features: list[str], platform: str) -> Any:
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name(GUARD)
        with guarded(features, "the module", platform):
            t.evaluate(0)
    return frame.get().with_attr("global_symbol", GUARD)


def _asking(func: Any) -> Any:
    """The function with the question in front."""
    call = relax.Call(relax.ExternFunc(GUARD), [], None, [relax.TupleType([])])
    first = relax.BindingBlock([relax.VarBinding(ir.Var("cpu_guard", relax.TupleType([])), call)])
    body = relax.SeqExpr([first, *func.body.blocks], func.body.body)
    return relax.Function(list(func.params), body, func.ret_ty, False, func.attrs, func.span)
