"""VectorizeInjective: what lies between the integer layers gets vectors too."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import ir, relax, tirx, tvm
from sd_tvm.relay_passes._rewrite import IRModule, bindings_of
from sd_tvm.relay_passes._weights import relax_functions
from sd_tvm.schedules.cpu.injective import vectorize_injective
from sd_tvm.schedules.ops.tir import CPU_ATTR, LAYER_ATTR, scheduled

#: Attributes of functions that have their own schedule.
_SCHEDULED = (CPU_ATTR, LAYER_ATTR)
#: How operators begin that call something which is lowered already.
_LOWERED = "relax.call_"


@tvm.transform.module_pass(opt_level=0, name="sd.VectorizeInjective")
class VectorizeInjective:
    """Schedule every function that computes each element by itself (conversions, layouts, arithmetic).

    A module that still has operators goes through TVM's ``zero`` pipeline first, which fuses them. Values do
    not change, to the bit. Integer layers, functions that somebody scheduled, that sum up or compute what
    :mod:`sd_tvm.schedules.cpu.plain` does not know, and those in which nothing can be a vector stay as they
    are; what only reshapes becomes one stage that TVM takes for a view. For a target that LLVM does not
    compile nothing changes.
    """

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        target = tvm.target.Target.current(allow_none=True)
        if target is not None and str(target.kind.name) != "llvm":
            return mod
        if _has_operators(mod):
            mod = relax.get_pipeline("zero")(mod)
        out = mod.clone()
        for gvar, func in mod.functions_items():
            if not isinstance(func, tirx.PrimFunc) or any(a in (func.attrs or {}) for a in _SCHEDULED):
                continue
            built = vectorize_injective(func)
            if built is not None:
                out.update_func(gvar, scheduled(built))
        return out


def _has_operators(mod: IRModule) -> bool:
    return any(
        isinstance(value, relax.Call)
        and isinstance(value.op, ir.Op)
        and not str(value.op.name).startswith(_LOWERED)
        for name, _ in relax_functions(mod)
        for _, value in bindings_of(mod[name])
    )
