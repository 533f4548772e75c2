"""The pipelines: what makes a model integer, and what ``tvm.compile(mod, target="sd_accel")`` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sd_tvm._tvm import relax, tvm
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.recipe import Recipe
from sd_tvm.relay_passes._rewrite import IRModule
from sd_tvm.relay_passes.canonicalize import Canonicalize
from sd_tvm.relay_passes.check_finite import CheckFinite
from sd_tvm.relay_passes.check_uncompressed import CheckUncompressed
from sd_tvm.relay_passes.conv_transpose import ConvTranspose
from sd_tvm.relay_passes.decompose import Decompose, is_decomposed
from sd_tvm.relay_passes.dense_forms import DenseForms
from sd_tvm.relay_passes.fold_batch_norm import FoldBatchNorm
from sd_tvm.relay_passes.fold_pad import FoldPad
from sd_tvm.relay_passes.lower_cpu import LowerToCPU
from sd_tvm.relay_passes.offload import Offload
from sd_tvm.relay_passes.partition import Partition, is_partitioned
from sd_tvm.relay_passes.simplify_attention import SimplifyAttention
from sd_tvm.relay_passes.vectorize import VectorizeInjective

Pass = Any


def simplify() -> list[Pass]:
    """Passes that bring an imported float32 graph into the form that the others expect, in order."""
    return [
        CheckUncompressed(),
        Canonicalize(),  # before the folds: they look for constants and for one spelling
        FoldBatchNorm(),
        FoldPad(),
        ConvTranspose(),
        DenseForms(),
        SimplifyAttention(),
        Canonicalize(),  # what the folds left: constants of constants
        CheckFinite(),  # by the names of layers, before anything is computed
    ]


def to_integer(mod: IRModule, recipe: Recipe | None = None) -> list[Pass]:
    """What is still missing to make a module integer: nothing that ran already runs again."""
    if is_partitioned(mod):
        return []
    if is_decomposed(mod):
        return [Partition()]
    return [*simplify(), Decompose(recipe), Partition()]


def between_layers() -> list[Pass]:
    """What makes code of the operators that lie between layers with code of their own, in order."""
    return [relax.get_pipeline("zero"), VectorizeInjective()]  # the default pipeline does not fuse them


def accelerator_passes(
    mod: IRModule, config: AcceleratorConfig | str | Path | None = None, offload: Offload | None = None
) -> list[Pass]:
    """All passes from any Relax module to programs and scheduled PrimFuncs, in order.

    ``offload`` replaces ``Offload(config)``.
    """
    return [
        *to_integer(mod),
        Offload(config) if offload is None else offload,
        LowerToCPU(),  # layers that the configuration cannot hold
        *between_layers(),
    ]


def compile_for(
    config: AcceleratorConfig | str | Path | None, build_default: Any, offload: Offload | None = None
) -> Pass:
    """The pipeline of target ``sd_accel``.

    Parameters
    ----------
    config
        Accelerator configuration, its name or path; None is the default one.
    build_default
        Makes TVM's own default pipeline, which runs last.
    offload
        The pass that makes programs; None: ``Offload(config)``.
    """

    @tvm.transform.module_pass(opt_level=0, name="sd.Pipeline")  # type: ignore[untyped-decorator]
    def pipeline(mod: IRModule, _context: Any) -> IRModule:
        for step in (*accelerator_passes(mod, config, offload), build_default()):
            mod = step(mod)
        return mod

    return pipeline
