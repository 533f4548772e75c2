"""The inner loops of every kind of processor give the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

from sim.corpus import configs, seeds
from sim.kit import CONFIG

from sd_tvm.accelerator.simulator import run_program

_SCRIPT = "from sim.test_kernels import digest; print(digest())"


def digest() -> str:
    """Hash of the results of all seeds, and of their time and energy on bit-serial arrays."""
    total = hashlib.sha256()
    for program, operands in seeds():
        run_program(program, CONFIG, operands)
        total.update(operands[-1].tobytes())
        for config in configs():
            total.update(json.dumps(run_program(program, config, operands, "timed")).encode())
    return total.hexdigest()


def test_portable_kernels_agree() -> None:
    env = {**os.environ, "SD_KERNELS": "portable", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest()
