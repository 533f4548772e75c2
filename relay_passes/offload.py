"""Offload: integer layers become programs of the accelerator, carried by one external module."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sd_tvm._tvm import ir, relax, structural_equal, tvm
from sd_tvm.accelerator.codegen import check_definition, compile_layer
from sd_tvm.accelerator.codegen.region import compile_region
from sd_tvm.accelerator.codegen.tune import Tuning
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.simulator import create_module
from sd_tvm.errors import CodegenError, ScheduleError
from sd_tvm.layers import Layer, layer_to_json
from sd_tvm.relay_passes._regions import Built, Group, build, groups_of, pack_inputs, region_call
from sd_tvm.relay_passes._rewrite import Expr, IRModule, _vars_in, static_shape
from sd_tvm.relay_passes._weights import relax_functions, without
from sd_tvm.relay_passes.lower_cpu import integer_layers
from sd_tvm.relay_passes.report import place
from sd_tvm.relay_passes.split_channels import SplitChannels
from sd_tvm.schedules.accel.tiles import TileDatabase

_LOG = logging.getLogger(__name__)
EXTERNAL_MODS = "external_mods"


@dataclass
class _Programs:
    """What the external module will hold, and ``kernels``, names that hide programs (:func:`_kernels_of`)."""

    kernels: set[str]
    names: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    codes: list[bytes] = field(default_factory=list)
    placed: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, layers: list[Layer], code: bytes) -> None:
        """A function."""
        self.names.append(name)
        self.layers.append(json.dumps([json.loads(layer_to_json(layer)) for layer in layers], sort_keys=True))
        self.codes.append(code)


@tvm.transform.module_pass(opt_level=0, name="sd.Offload")
class Offload:
    """Compile integer layers for an accelerator; usable in any ``tvm.transform.Sequential``.

    Layers that follow each other become one program; activations stay on chip between them where they fit,
    in strips of rows where they do not (:mod:`sd_tvm.schedules.accel.fusion`). A layer that does not fit the
    configuration stays a PrimFunc for the CPU, with the reason in the report and in a warning.

    Parameters
    ----------
    config
        A configuration, its name or the path of its YAML file; None is the default one.
    fuse
        False: every layer is a program of its own and all activations pass through DRAM.
    tiles
        Tiles that are known: a database, or its JSON file, which is written again if tuning finds others.
    tune
        For steps whose tiles are not known: how many candidates to compile and time; 0: none.
    progress
        Called while tuning with (steps done, steps to do) of a region.

    Raises
    ------
    ConfigError
        If there is no such configuration, or it is invalid.
    FormatError
        If ``tiles`` is another kind of file.
    """

    def __init__(
        self,
        config: AcceleratorConfig | str | Path | None = None,
        *,
        fuse: bool = True,
        tiles: TileDatabase | str | Path | None = None,
        tune: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if config is None:
            self.config = AcceleratorConfig.load()
        elif isinstance(config, AcceleratorConfig):
            self.config = config
        else:
            self.config = AcceleratorConfig.load(config)
        self.fuse = fuse
        self.tuning: Tuning | None = None
        if tiles is not None or tune:
            database = tiles if isinstance(tiles, TileDatabase) else TileDatabase(tiles)
            self.tuning = Tuning(database, tune, progress)

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        split: Any = SplitChannels(self.config)
        mod = split(relax.transform.Normalize()(mod))
        candidates = {str(gvar.name_hint): func for gvar, func in integer_layers(mod)}
        refused: dict[str, str] = {}
        layers: dict[str, Layer] = {}
        for name, func in candidates.items():
            try:
                layers[name] = check_definition(func)
            except CodegenError as error:
                refused[name] = str(error)
        programs = _Programs(_kernels_of(mod))
        for name, _ in list(relax_functions(mod)):
            mod = _Function(self, mod, name, layers, candidates, refused, programs).run()
        if self.tuning is not None:
            self.tuning.tiles.save()
        for name, why in sorted(refused.items()):
            _LOG.warning("%s stays on the CPU: %s", name, why)
        mod = place(mod, "cpu-integer", refused) if refused else mod
        if not programs.names:
            return mod
        mod = without(mod, set(programs.placed))
        module = create_module(self.config, programs.names, programs.layers, programs.codes)
        before = list(mod.attrs[EXTERNAL_MODS]) if EXTERNAL_MODS in mod.attrs else []
        mod = mod.with_attr(EXTERNAL_MODS, [*before, module])
        return place(mod, "sd_accel", programs.placed)


class _Function:
    """One Relax function."""

    def __init__(
        self,
        owner: Offload,
        mod: IRModule,
        name: str,
        layers: dict[str, Layer],
        candidates: dict[str, Any],
        refused: dict[str, str],
        programs: _Programs,
    ) -> None:
        self.config, self.fuse, self.tuning = owner.config, owner.fuse, owner.tuning
        self.mod, self.name, self.layers, self.candidates = mod, name, layers, candidates
        self.refused, self.programs = refused, programs
        self.func = mod[name]

    def run(self) -> IRModule:
        """The module with the function rewritten."""
        blocks = []
        for block in self.func.body.blocks:
            dataflow = isinstance(block, relax.DataflowBlock)
            bindings = self._block(list(block.bindings), dataflow)
            blocks.append((relax.DataflowBlock if dataflow else relax.BindingBlock)(bindings))
        func = self.func
        body = relax.SeqExpr(blocks, func.body.body)
        new = relax.Function(list(func.params), body, func.ret_ty, bool(func.is_pure), func.attrs, func.span)
        out = self.mod.clone()
        out.update_func(out.get_global_var(self.name), new)
        return relax.transform.Normalize()(out)

    def _block(self, bindings: list[Expr], dataflow: bool) -> list[Expr]:
        """Bindings of a block with its layers replaced by calls of programs."""
        while True:
            taken = {n: layer for n, layer in self.layers.items() if n not in self.refused}
            before = len(self.refused)
            parts = list(groups_of(bindings, taken, reorder=dataflow))
            pending: list[tuple[str, list[Layer], bytes, list[str]]] = []
            out: list[Expr] = []
            for part in parts:
                if not isinstance(part, Group):
                    out.append(part)
                    continue
                for group in [part] if self.fuse else [Group([c]) for c in part.calls]:
                    out += self._group(group, dataflow, pending)
            if len(self.refused) == before:
                break
            # A layer that does not fit was found: groups without it.
        for name, layers, code, functions in pending:
            self.programs.add(name, layers, code)
            self.programs.placed |= dict.fromkeys(functions, "")
        return out

    def _group(self, group: Group, dataflow: bool, pending: list[Any]) -> list[Expr]:
        """Bindings of one group; layers that do not fit are added to the refused."""
        own = {c.var for c in group.calls}
        read: set[Expr] = set(_vars_in(self.func.body.body))
        for block in self.func.body.blocks:
            for binding in block.bindings:
                if getattr(binding, "var", None) not in own:
                    free = relax.analysis.free_vars(binding.value) if hasattr(binding, "value") else []
                    read.update(free)

        def leaves(var: Expr) -> bool:
            return var in read or not dataflow or not isinstance(var, relax.DataflowVar)

        kind = relax.DataflowVar if dataflow else ir.Var
        packing = pack_inputs(group, self._add, lambda n, ty: kind(n, ty))
        built = build(group, leaves)
        linked = self._compile(group, built)
        if linked is None:
            return []
        code, inputs, results = linked
        name = group.calls[0].func
        taken = {str(g.name_hint) for g in self.mod.get_global_vars()} | set(self.programs.names)
        taken |= {p[0] for p in pending}
        if len(group.calls) > 1:
            name = next(n for i in range(len(taken) + 1) if (n := f"{self.name}_region{i}") not in taken)
        elif name.rstrip("0123456789") in self.programs.kernels:
            name = next(n for i in range(len(taken) + 1) if (n := f"{name}_layer{i or ''}") not in taken)
        pending.append((name, [c.layer for c in group.calls], code, [c.func for c in group.calls]))
        return packing + region_call(name, built, inputs, results, lambda n, ty: kind(n, ty))

    def _add(self, func: Any, name: str) -> Expr:
        """Add a function for the host; equal ones are one."""
        for gvar, known in self.mod.functions_items():
            if str(gvar.name_hint).startswith(name) and structural_equal(
                known.without_attr("global_symbol"), func.without_attr("global_symbol")
            ):
                return gvar
        builder = relax.BlockBuilder(self.mod)
        gvar = builder.add_func(func.without_attr("global_symbol"), name)
        self.mod = self.mod.clone()
        self.mod[gvar] = func.without_attr("global_symbol")
        return gvar

    def _compile(self, group: Group, built: Built) -> tuple[bytes, list[int], list[int]] | None:
        """Program of a group and the order of its operands; None if a layer had to be refused."""
        problem: Exception | None = None
        sizes = [_bytes(c) for c in built.constants]
        for fuse in (True, False) if self.fuse else (False,):
            try:
                linked, inputs, results = compile_region(
                    built.region,
                    built.numbers,
                    len(built.constants),
                    sizes,
                    self.config,
                    fuse=fuse,
                    tuning=self.tuning,
                    records=built.records,
                )
                if problem is not None:
                    _LOG.warning("%s: compiled without fusion: %s", group.calls[0].layer.name, problem)
                return linked.program.to_bytes(), inputs, results
            except (ScheduleError, CodegenError) as error:
                problem = error
        found = False
        for call in group.calls:
            try:
                compile_layer(self.candidates[call.func], self.config)
            except (ScheduleError, CodegenError) as error:
                self.refused[call.func] = str(error)
                found = True
        if not found:
            self.refused[group.calls[0].func] = str(problem)
        return None


def _kernels_of(mod: IRModule) -> set[str]:
    """Names, without a number, of the kernels that TVM will make of a module's operators for the host.

    A program of such a name would be hidden by that kernel.
    """
    found: set[str] = set()

    def visit(expr: Expr) -> None:
        name = getattr(getattr(expr, "op", None), "name", None)
        if name is not None:
            found.add(str(name).rpartition(".")[2])

    for _, func in relax_functions(mod):
        relax.analysis.post_order_visit(func, visit)
    return found


def _bytes(constant: Expr) -> int:
    shape = static_shape(constant)
    assert shape is not None
    dtype = np.dtype(str(constant.ty.dtype))
    return int(np.prod(shape)) * dtype.itemsize
