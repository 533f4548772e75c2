"""The model as programs: compiled once, with no host code and no run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sd_tvm.accelerator.config import AcceleratorConfig

if TYPE_CHECKING:
    from sd_tvm.accelerator.saved import SavedProgram


@dataclass(frozen=True)
class ModelPrograms:
    """Programs of a model.

    Attributes
    ----------
    programs
        Different programs and how many calls run each, in order of the first call.
    on_cpu
        Names of integer layers that the configuration cannot hold; a sweep leaves them out.
    calls
        Layer calls of all of them; a program may hold many layers.
    """

    programs: tuple[tuple[bytes, int], ...]
    on_cpu: tuple[str, ...]
    calls: int

    @property
    def instructions(self) -> int:
        """Instructions of all calls."""
        from sd_tvm.accelerator.isa import Program

        return sum(len(Program.from_bytes(code).instructions) * count for code, count in self.programs)


def compile_programs(model: Any, config: AcceleratorConfig, *, offload: Any = None) -> ModelPrograms:
    """Compile a model's layers for the accelerator and count their calls.

    Parameters
    ----------
    model
        A compressed model, a ``.sd`` file, a Relax module, or whatever ``sd_tvm.load_model`` takes.
    config
        Configuration whose buffers the programs use.
    offload
        The pass that makes programs; None: ``Offload(config)``.

    Raises
    ------
    FormatError, UnsupportedModelError
        If the model cannot be read.
    OptionError
        If no layer runs on the accelerator.
    """
    from sd_tvm.errors import OptionError
    from sd_tvm.relay_passes.report import node_reports

    found, mod = compiled_programs(model, config, offload=offload)
    counts: dict[bytes, int] = {}
    for program in found:
        counts[program.program] = counts.get(program.program, 0) + 1
    layers = sum(len(program.layers) for program in found)
    if not counts:
        raise OptionError(
            "no layer of the model runs on the accelerator",
            expected="a model with integer layers that fit the smallest buffers of the space",
            fix="list larger memories, or look at `sd-tvm compile --verbose`",
        )
    on_cpu: dict[str, str] = {}
    for row in node_reports(mod):
        if row.target == "cpu-integer":
            on_cpu.setdefault(row.layer, row.source_name)
    return ModelPrograms(tuple(counts.items()), tuple(on_cpu.values()), layers)


def compiled_programs(
    model: Any, config: AcceleratorConfig, *, offload: Any = None
) -> tuple[list[SavedProgram], Any]:
    """The program of each call of ``main`` in order (none if no layer fits), and the compiled module.

    Parameters and errors are those of :func:`compile_programs`.
    """
    from sd_tvm import backend
    from sd_tvm._tvm import relax
    from sd_tvm.accelerator.saved import saved_programs
    from sd_tvm.execute import read_module
    from sd_tvm.relay_passes.offload import EXTERNAL_MODS, Offload
    from sd_tvm.relay_passes.pipeline import to_integer

    backend.register()
    mod = read_module(model)
    for step in (*to_integer(mod), offload or Offload(config)):
        mod = step(mod)
    modules = mod.attrs.get(EXTERNAL_MODS, [])
    code = {p.name: p for module in modules for p in saved_programs(module)}
    calls: list[SavedProgram] = []

    def visit(expr: Any) -> None:
        if isinstance(expr, relax.ExternFunc) and str(expr.global_symbol) in code:
            calls.append(code[str(expr.global_symbol)])

    relax.analysis.post_order_visit(mod["main"], visit)
    return calls, mod
