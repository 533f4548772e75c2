"""A module with integer layers, compiled for a processor and ready to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sd_tvm._tvm import relax, tvm
from sd_tvm.relay_passes._rewrite import bindings_of, constant, is_call
from sd_tvm.relay_passes.lower_cpu import KERNEL_ATTR, LowerToCPU
from sd_tvm.relay_passes.report import node_reports
from sd_tvm.schedules.cpu.tuning import KernelTuning


@dataclass(frozen=True)
class Built:
    """A compiled module.

    Attributes
    ----------
    call
        Runs it once.
    kernel
        Which kernels it got, or why none.
    weight_bytes
        Bytes of the kernels' constants.
    """

    call: Callable[[], Any]
    kernel: str
    weight_bytes: int


def build_module(
    mod: Any, examples: tuple[Any, ...], target: Any, tuning: KernelTuning | None = None
) -> Built:
    """Compile a partitioned module.

    Parameters
    ----------
    mod
        ``IRModule`` with integer layers.
    examples
        Its inputs.
    target
        TVM target or its dictionary.
    tuning
        Which kernels it gets; None: the estimate's.
    """
    target = tvm.target.Target(target)
    lower: Any = LowerToCPU(target, tuning)
    lowered = lower(mod)
    nbytes = _constant_bytes(lowered)
    kernels = [f.attrs[KERNEL_ATTR] for _, f in lowered.functions_items() if KERNEL_ATTR in f.attrs]
    said = ", ".join(sorted({str(k) for k in kernels})) or "portable schedule"
    portable = [r.reason for r in node_reports(lowered) if "portable schedule" in r.reason]
    executable = tvm.compile(relax.get_pipeline("zero")(lowered), target=target)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    tensors = [tvm.runtime.tensor(x) for x in examples]
    main = machine["main"]
    return Built(lambda: main(*tensors), said + (f" ({len(portable)} portable)" if portable else ""), nbytes)


def _constant_bytes(mod: Any) -> int:
    """Bytes of all constants of ``main``."""
    total = 0
    for _, value in bindings_of(mod["main"]):
        if is_call(value, "relax.call_tir"):
            arrays = [constant(e) for e in value.args[1].fields]
            total += sum(a.nbytes for a in arrays if a is not None)
    return total
