"""LowerToCPU: the integer layers get their kernels for the CPU, or the portable schedule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from sd_tvm._tvm import relax, tirx, tvm
from sd_tvm.errors import OptionError
from sd_tvm.layers import AddLayer, ConvLayer, LutLayer, layer_from_json, layer_to_json
from sd_tvm.relay_passes._rewrite import Expr, IRModule, Rewriter, const, constant, is_call, rewrite
from sd_tvm.relay_passes._weights import relax_functions, without
from sd_tvm.relay_passes.fuse_residual import additions
from sd_tvm.relay_passes.lower_float import lower_float
from sd_tvm.relay_passes.lower_product import lower_product
from sd_tvm.relay_passes.report import place
from sd_tvm.schedules.cpu import schedule_cpu
from sd_tvm.schedules.cpu.elementwise import build_sum
from sd_tvm.schedules.cpu.epilogue import Residual
from sd_tvm.schedules.cpu.isa import ISAS, available
from sd_tvm.schedules.cpu.lookup import lookup_isa
from sd_tvm.schedules.cpu.product import product_kernel
from sd_tvm.schedules.cpu.scaling import scaling_of
from sd_tvm.schedules.cpu.table import Kernel, choose
from sd_tvm.schedules.cpu.tuning import KernelTuning
from sd_tvm.schedules.ops import LAYER_ATTR
from sd_tvm.schedules.ops.tir import CPU_ATTR, scheduled

#: Attribute of those that are kernels: name of the row of :data:`sd_tvm.schedules.cpu.table.KERNELS`.
KERNEL_ATTR = "sd.cpu.kernel"
#: Attribute of kernels that end with a residual addition: its layer.
RESIDUAL_ATTR = "sd.cpu.residual"
#: Attribute of a module: what its kernels need of the processor, JSON list of LLVM's names of features.
REQUIRES_ATTR = "sd.cpu.requires"


def integer_layers(mod: IRModule) -> list[tuple[Any, Any]]:
    """(global variable, PrimFunc) of the integer layers that have no schedule yet, sorted by name."""
    found = [
        (gvar, func)
        for gvar, func in mod.functions_items()
        if isinstance(func, tirx.PrimFunc) and LAYER_ATTR in (func.attrs or {}) and CPU_ATTR not in func.attrs
    ]
    return sorted(found, key=lambda item: str(item[0].name_hint))


def required_features(mod: IRModule) -> list[str]:
    """Features of the processor that the kernels of a lowered module need, sorted."""
    if mod.attrs is None or REQUIRES_ATTR not in mod.attrs:
        return []
    return sorted(json.loads(str(mod.attrs[REQUIRES_ATTR])))


@tvm.transform.module_pass(opt_level=0, name="sd.LowerToCPU")
class LowerToCPU:
    """Give every integer layer its code for the CPU; usable in any ``tvm.transform.Sequential``.

    A convolution or dense layer gets the first kernel of :data:`sd_tvm.schedules.cpu.table.KERNELS` that can
    compute it on the target, with its constants packed for that kernel; any other layer the portable
    schedule. A kernel also adds, if all that reads its result is a residual addition
    (:mod:`sd_tvm.relay_passes.fuse_residual`). The report names the kernel, or says why there is none. The
    integers do not change. Operators that stay in float32 get their code first
    (:class:`~sd_tvm.relay_passes.lower_float.LowerFloat`).

    Parameters
    ----------
    target
        TVM target; None: the current one (``with target:``). Without any, only the portable schedule, which
        runs on every processor.
    tuning
        Kernels found by time, and whether to time more; its database is saved at the end.

    Raises
    ------
    OptionError
        If there is a tuning, and no kernel for the target.
    """

    def __init__(self, target: Any = None, tuning: KernelTuning | None = None) -> None:
        self.target, self.tuning = target, tuning

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        mod = lower_float(mod)
        layers = dict(integer_layers(mod))
        if not layers:
            return mod
        target = tvm.target.Target.current(allow_none=True) if self.target is None else self.target
        kernels = _Kernels(layers, target, self.tuning)
        if self.tuning is not None and not kernels.isas:
            raise OptionError(
                "kernels are to be chosen by time, and the target has none",
                expected=f"a target with one of {', '.join(isa.name for isa in ISAS)}",
                fix="name a processor that has it, or leave the tuning out",
            )
        for name, func in list(relax_functions(mod)):
            kernels.plan(func)
            mod = rewrite(mod, kernels.rule, name)
        if self.tuning is not None:
            self.tuning.database.save()
        mod = without(mod, kernels.replaced - kernels.kept)
        for gvar, func in layers.items():
            if str(gvar.name_hint) not in kernels.replaced - kernels.kept:
                mod = mod.clone()
                mod.update_func(gvar, scheduled(kernels.without_row(str(gvar.name_hint), func)))
        if kernels.features:
            mod = mod.with_attr(
                REQUIRES_ATTR, json.dumps(sorted({*kernels.features, *required_features(mod)}))
            )
        return place(
            mod, "cpu-integer", {str(g.name_hint): kernels.said.get(str(g.name_hint), "") for g in layers}
        )


class _Kernels:
    """Choice of kernels, call by call.

    Parameters
    ----------
    layers
        Integer layers without a schedule.
    target
        TVM target.
    tuning
        What is known of times, or finds it.
    """

    def __init__(self, layers: dict[Any, Any], target: Any, tuning: KernelTuning | None) -> None:
        self.target, self.isas, self.tuning = target, available(target), tuning
        self.layers = {str(g.name_hint): layer_from_json(str(f.attrs[LAYER_ATTR])) for g, f in layers.items()}
        self.convolutions = [n for n, layer in self.layers.items() if isinstance(layer, ConvLayer)]
        #: Layers that have a kernel at some call, and those that have none at some.
        self.replaced: set[str] = set()
        self.kept: set[str] = set()
        self.said: dict[str, str] = {}
        #: Additions that are a function of their own at some call.
        self.alone: set[str] = set()
        self.features: set[str] = set()

    def without_row(self, name: str, func: Any) -> Any:
        """A layer without a kernel of the table: a lookup in vectors, or the portable schedule."""
        layer = self.layers[name]
        isa = lookup_isa(layer, self.isas) if isinstance(layer, LutLayer) else None
        if isa is not None:
            self.said[name] = f"kernel lookup_{isa.name}"
            self.features.update(isa.features)
        return schedule_cpu(func, isa)

    def plan(self, func: Expr) -> None:
        """Which additions of a function its kernels make."""
        self._additions = additions(func, self.layers, self._has_kernel)
        self._joined = {a.convolution for a in self._additions.values() if a.own is not None}
        self._waiting: dict[Expr, _Choice] = {}

    def _has_kernel(self, name: str, constants: list[Any]) -> bool:
        layer = self.layers[name]
        if not isinstance(layer, ConvLayer) or any(c is None for c in constants):
            return False
        return choose(layer, self.isas)[0] is not None

    def rule(self, context: Rewriter, var: Expr, value: Expr) -> Expr | None:
        """A call of a layer becomes one of its kernel (a rule of ``rewrite``)."""
        if not is_call(value, "relax.call_tir"):
            return None
        name = str(value.args[0].name_hint)
        layer = self.layers.get(name)
        if isinstance(layer, AddLayer):
            return self._addition(context, var, value, name)
        if not isinstance(layer, ConvLayer):
            return None
        x, *rest = value.args[1].fields
        arrays = [constant(context.value_of(e)) for e in rest]
        kernel, why = choose(layer, self.isas)
        known = [a for a in arrays if a is not None]
        if len(known) < len(arrays):
            kernel, why = product_kernel(layer, self.isas)
            product = None if kernel is None else self._product(context, value, name, layer, kernel)
            if product is not None:
                return product
            kernel, why = None, why or "its weight and words are computed at run time"
        if kernel is None:
            self.kept.add(name)
            self.said[name] = f"portable schedule: {why}"
            return None
        if self.tuning is not None:
            kernel = self.tuning.kernel(layer, self.isas, self.target, known) or kernel
            if self.tuning.tune and self.tuning.progress is not None:
                seen = (self.replaced | {name}).intersection(self.convolutions)
                self.tuning.progress(len(seen), len(self.convolutions))
        self.replaced.add(name)
        self.said[name] = f"kernel {kernel.name}"
        self.features.update(kernel.isa.features)
        choice = _Choice(name, layer, kernel, x, known)
        if var in self._joined:  # called where the addition is; nothing reads this
            self._waiting[var] = choice
            return None
        return self._call(context, choice, value.ty_args[0])

    def _product(
        self, context: Rewriter, value: Expr, name: str, layer: ConvLayer, kernel: Kernel
    ) -> Expr | None:
        """Call of the kernel of a product of activations."""
        symbol = f"{name}_{kernel.isa.name}"
        found = lower_product(context, value, layer, kernel, symbol)
        if found is None:
            return None
        self.replaced.add(name)
        self.said[name] = f"kernel {kernel.name}, its weight laid out at run time"
        self.features.update(kernel.isa.features)
        gvar = context.add_scheduled(found[0].with_attr(KERNEL_ATTR, kernel.name), symbol)
        return relax.call_tir(gvar, found[1], out_ty=value.ty_args[0])

    def _addition(self, context: Rewriter, var: Expr, value: Expr, name: str) -> Expr | None:
        """Call of the kernel that also adds, or of the addition alone."""
        addition = self._additions.get(var)
        if addition is None:
            self.kept.add(name)
            return None
        self.replaced.add(name)
        out, layer = value.ty_args[0], addition.layer
        if addition.own is None:
            gvar = context.add_scheduled(build_sum(layer, name), f"{name}_sum")
            *sides, _ = value.args[1].fields
            self.alone.add(name)
            if name in self.said:
                self.said[name] += ", and alone"
            return relax.call_tir(gvar, [*sides, const(addition.form.words(0))], out_ty=out)
        choice = self._waiting[addition.convolution]
        self.said[choice.name] += f", with the addition {layer.name}"
        self.said[name] = f"in the kernel of {choice.layer.name}" + (
            ", and alone" if name in self.alone else ""
        )
        more = [value.args[1].fields[1 - addition.own], const(addition.form.words(addition.own))]
        return self._call(context, choice, out, addition.residual, more)

    def _call(
        self,
        context: Rewriter,
        choice: _Choice,
        out: Any,
        residual: Residual | None = None,
        more: Sequence[Expr] = (),
    ) -> Expr:
        """Call of a kernel, which is built for it; ``more``: the operands of a residual."""
        kernel, layer = choice.kernel, choice.layer
        symbol = f"{choice.name}_{kernel.isa.name}"
        scaling = scaling_of(layer, choice.constants[-1], choice.constants[:-1])
        func = kernel.build(layer, symbol, residual, scaling).with_attr(KERNEL_ATTR, kernel.name)
        packed = [const(a) for a in kernel.pack(layer, choice.constants, scaling)]
        if residual is not None:
            func = func.with_attr(RESIDUAL_ATTR, layer_to_json(residual.layer))
        gvar = context.add_scheduled(func, symbol)
        return relax.call_tir(gvar, [choice.x, *packed, *more], out_ty=out)


@dataclass(frozen=True)
class _Choice:
    """A convolution's kernel, and what it is called with."""

    name: str
    layer: ConvLayer
    kernel: Kernel
    x: Expr
    constants: list[npt.NDArray[Any]]
