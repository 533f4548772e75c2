"""Cycles and energy of a program without its operands (parallel arrays only)."""

from __future__ import annotations

import json
from typing import Any

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.simulator import load_library


def time_program(program: bytes, config: AcceleratorConfig | str, *, trace: bool = False) -> dict[str, Any]:
    """Time a program; nothing is executed.

    Parameters
    ----------
    program
        Bytes of :class:`sd_tvm.accelerator.isa.Program`.
    config
        Configuration, or its text.
    trace
        Whether to return when each instruction was issued and when it ended.

    Returns
    -------
    dict
        Integers: ``cycles``; ``busy`` and ``idle`` by queue and ``stall`` by queue and cause, which for
        each queue add up to ``cycles``; ``dram_busy``; ``class_cycles`` by instruction; ``events``;
        ``energy_fj`` by component and ``energy_total_fj``; ``layer_times``; ``trace``.

    Raises
    ------
    ProgramError, DeadlockError
        If the program is invalid or its queues wait for each other.
    ConfigMismatchError
        If the machine is too small, or has no rebuild engines for weights in SD form.
    ConfigError
        If the configuration is malformed, or the array is bit-serial: its time depends on data.
    """
    load_library()
    import tvm_ffi

    text = config if isinstance(config, str) else config.to_text()
    function = tvm_ffi.get_global_func("sd_accel.time_program")
    out: dict[str, Any] = json.loads(str(function(program, text, trace)))
    return out
