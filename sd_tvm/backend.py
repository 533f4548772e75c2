"""Entry point of group ``tvm.backends``: what ``import tvm`` runs.

It must stay cheap and must not fail: it loads the C++ runtime, so that exported modules load in any process,
registers our error types and, where TVM has its compiler, target tags and a step into the default pipeline.
"""

from __future__ import annotations

import logging

_LOG = logging.getLogger(__name__)


def register() -> None:
    """Make ``Target("sd_accel")`` and ``tvm.compile(mod, target="sd_accel")`` work; idempotent."""
    import tvm

    from sd_tvm.accelerator.simulator import load_library
    from sd_tvm.errors import VersionError
    from sd_tvm.ffi_errors import register_errors

    register_errors()
    try:
        load_library()
    except VersionError as error:  # the first use of the simulator raises it again
        _LOG.info("%s", error)
    if tvm._RUNTIME_ONLY:
        return
    from sd_tvm.target import register_tags, wrap_pipeline

    register_tags()
    wrap_pipeline()
