"""A region to its plan, by the compiler of another environment."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.calibration.data import Array
from sd_tvm.plan.job import Job, Result, run_job, write_job
from sd_tvm.plan.model import Plan
from sd_tvm.relay_passes.relay._tvm import relay, tvm
from sd_tvm.relay_passes.relay.options import Options

_LOG = logging.getLogger(__name__)
#: Plans of this process: building a module twice compiles it once.
_known: dict[str, Result] = {}


def compile_region(
    func: Any, examples: Sequence[tuple[Array, ...]], config: AcceleratorConfig | None, options: Options
) -> Plan:
    """Compile a region.

    Parameters
    ----------
    func
        The region, a Relay function in float32.
    examples
        Its inputs for calibration; none: scales of run time.
    config
        The accelerator, None: the CPU.
    options
        Recipe, interpreter, folder to keep the job in.

    Raises
    ------
    SDError
        As :func:`sd_tvm.plan.job.run_job`.
    """
    bare = relay.Function(func.params, func.body, func.ret_type)
    module = tvm.ir.save_json(relay.transform.InferType()(tvm.IRModule.from_expr(bare)))
    job = Job(
        "" if config is None else config.to_described_text(), options.loaded_recipe().to_dict(), len(examples)
    )
    name = _digest(job, module, examples)
    result = _known.get(name)
    if result is None:
        with tempfile.TemporaryDirectory(prefix="sd_tvm_job_") as scratch:
            folder = Path(scratch) if options.keep is None else Path(options.keep) / name[:16]
            folder.mkdir(parents=True, exist_ok=True)
            write_job(folder, job, module, examples)
            result = _known[name] = run_job(folder, options.python)
    for line in result.warnings:
        _LOG.warning("%s", line)
    return result.plan


def _digest(job: Job, module: str, examples: Sequence[tuple[Array, ...]]) -> str:
    digest = hashlib.sha256(json.dumps([job.config, job.recipe, job.calibration], sort_keys=True).encode())
    digest.update(module.encode())
    for example in examples:
        for array in example:
            digest.update(array.tobytes())
    return digest.hexdigest()
