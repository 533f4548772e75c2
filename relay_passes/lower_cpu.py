"""LowerToCPU: the integer layers get their CPU schedules."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import tirx, tvm
from sd_tvm.relay_passes._rewrite import IRModule
from sd_tvm.relay_passes.report import place
from sd_tvm.schedules.cpu import schedule_cpu
from sd_tvm.schedules.ops import LAYER_ATTR

#: Attribute of integer PrimFuncs that have their CPU schedule.
CPU_ATTR = "sd.cpu"
#: TVM's pattern kind "opaque": FuseOps leaves scheduled functions alone.
_OPAQUE = 8


def integer_layers(mod: IRModule) -> list[tuple[Any, Any]]:
    """(global variable, PrimFunc) of the integer layers that have no schedule yet, sorted by name."""
    found = [
        (gvar, func)
        for gvar, func in mod.functions_items()
        if isinstance(func, tirx.PrimFunc) and LAYER_ATTR in (func.attrs or {}) and CPU_ATTR not in func.attrs
    ]
    return sorted(found, key=lambda item: str(item[0].name_hint))


@tvm.transform.module_pass(opt_level=0, name="sd.LowerToCPU")
class LowerToCPU:
    """Schedule every integer layer for the CPU; usable in any ``tvm.transform.Sequential``.

    The integers do not change. Run it before ``tvm.compile(mod, target="llvm")``, or after ``Offload`` for
    the layers that stayed.
    """

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        layers = integer_layers(mod)
        if not layers:
            return mod
        out = mod.clone()
        for gvar, func in layers:
            scheduled = schedule_cpu(func).with_attr(CPU_ATTR, True).with_attr("op_pattern", _OPAQUE)
            out.update_func(gvar, scheduled)
        return place(out, "cpu-integer", {str(gvar.name_hint): "" for gvar, _ in layers})
