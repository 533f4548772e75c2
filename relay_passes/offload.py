"""Offload: integer layers become programs of the accelerator, carried by one external module."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sd_tvm._tvm import ir, relax, tvm
from sd_tvm.accelerator.codegen import compile_layer
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.simulator import create_module
from sd_tvm.errors import CodegenError, ScheduleError
from sd_tvm.relay_passes._rewrite import Expr, IRModule, Rewriter, is_call, rewrite
from sd_tvm.relay_passes._weights import without
from sd_tvm.relay_passes.lower_cpu import integer_layers
from sd_tvm.relay_passes.report import place
from sd_tvm.schedules.ops import LAYER_ATTR

_LOG = logging.getLogger(__name__)
EXTERNAL_MODS = "external_mods"


@tvm.transform.module_pass(opt_level=0, name="sd.Offload")
class Offload:
    """Compile every integer layer for an accelerator; usable in any ``tvm.transform.Sequential``.

    A layer that does not fit the configuration stays a PrimFunc for the CPU, with the reason in the report
    and in a warning.

    Parameters
    ----------
    config
        A configuration, its name or the path of its YAML file; None is the default one.

    Raises
    ------
    ConfigError
        If there is no such configuration, or it is invalid.
    """

    def __init__(self, config: AcceleratorConfig | str | Path | None = None) -> None:
        if config is None:
            self.config = AcceleratorConfig.load()
        elif isinstance(config, AcceleratorConfig):
            self.config = config
        else:
            self.config = AcceleratorConfig.load(config)

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        programs: dict[str, bytes] = {}
        layers: dict[str, str] = {}
        refused: dict[str, str] = {}
        for gvar, func in integer_layers(mod):
            name = str(gvar.name_hint)
            try:
                programs[name] = compile_layer(func, self.config)
                layers[name] = str(func.attrs[LAYER_ATTR])
            except (ScheduleError, CodegenError) as error:
                refused[name] = str(error)
                _LOG.warning("%s stays on the CPU: %s", name, error)
        mod = place(mod, "cpu-integer", refused) if refused else mod
        if not programs:
            return mod
        mod = without(rewrite(mod, _replace_calls(programs)), set(programs))
        module = create_module(
            self.config.to_text(), list(programs), [layers[n] for n in programs], list(programs.values())
        )
        before = list(mod.attrs[EXTERNAL_MODS]) if EXTERNAL_MODS in mod.attrs else []
        mod = mod.with_attr(EXTERNAL_MODS, [*before, module])
        return place(mod, "sd_accel", dict.fromkeys(programs, ""))


def _replace_calls(programs: dict[str, bytes]) -> Any:
    def rule(_: Rewriter, _var: Expr, value: Expr) -> Expr | None:
        if not is_call(value, "relax.call_tir") or not isinstance(value.args[0], ir.GlobalVar):
            return None
        name = str(value.args[0].name_hint)
        if name not in programs:
            return None
        return relax.call_dps_packed(name, value.args[1], out_ty=value.ty_args[0])

    return rule
