"""Code generator: a layer's PrimFunc to a program of accelerator instructions.

``schedules.accel`` tiles the function, :mod:`.lower` flattens it with TVM's passes, :mod:`.tree` reads the
result, and :mod:`.dma`, :mod:`.gemm` and :mod:`.alu` turn each marked nest into instructions, for every
iteration of the outer loops. To add an instruction, mark its nest in a schedule and add its matcher here.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi

from sd_tvm.accelerator.codegen.generator import Generator
from sd_tvm.accelerator.codegen.lower import lower
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.program import Program
from sd_tvm.errors import CodegenError
from sd_tvm.layers import Layer, layer_from_json
from sd_tvm.schedules.accel import schedule_accel
from sd_tvm.schedules.ops import LAYER_ATTR, build_primfunc

__all__ = ["check_definition", "compile_layer", "compile_program"]


def compile_program(func: Any, config: AcceleratorConfig) -> Program:
    """Program of one layer.

    Parameters
    ----------
    func
        What :func:`sd_tvm.schedules.ops.build_primfunc` returned (unscheduled).
    config
        Configuration whose buffers the program uses.

    Raises
    ------
    ScheduleError
        If the layer cannot be tiled onto the configuration.
    CodegenError
        If the function is not the definition of its ``sd.layer``, or does not map onto instructions.
    """
    layer = check_definition(func)
    definition = build_primfunc(layer, "main")
    return Generator(lower(schedule_accel(definition, config)), layer).program(config)


def check_definition(func: Any) -> Layer:
    """Layer of a function that :func:`sd_tvm.schedules.ops.build_primfunc` made.

    Weights are decoded in hardware by the layer's form, so the function must be that form's definition.

    Raises
    ------
    CodegenError
        If the function has no layer, or is another one.
    """
    if LAYER_ATTR not in func.attrs:
        raise CodegenError(
            "a function without a layer", expected=f"attribute {LAYER_ATTR}", fix="use build_primfunc"
        )
    layer: Layer = layer_from_json(str(func.attrs[LAYER_ATTR]))
    if not tvm_ffi.structural_equal(_bare(build_primfunc(layer, "main")), _bare(func)):
        raise CodegenError(
            f"{layer.name}: the function was changed after build_primfunc",
            expected="the unscheduled definition of its layer",
            fix="run the offload pass before other TensorIR passes",
        )
    return layer


def _bare(func: Any) -> Any:
    """A function without its attributes."""
    for key in dict(func.attrs or {}):
        func = func.without_attr(key)
    return func


def compile_layer(func: Any, config: AcceleratorConfig) -> bytes:
    """Bytes of :func:`compile_program`."""
    return compile_program(func, config).to_bytes()
