"""Relay, as TVM before 0.20 has it: ``tvm.relay.build(mod, target="sd_accel", params=params)``.

    import tvm
    from tvm import relay
    import sd_tvm.relay_passes.relay as sd

    with sd.configure(calibration=images, python="/path/to/other/python"):
        lib = relay.build(mod, target="sd_accel", params=params)
    module = graph_executor.GraphModule(lib["default"](tvm.cpu()))
    with sd.profile() as seen:
        module.run()
    print(seen.layers)

Importing this package registers the targets ``sd_accel``, ``sd_accel/<configuration>`` and ``sd_cpu``. It
needs a TVM that has Relay; everything else in sd-tvm needs none. See ``docs/relay.md``.
"""

from __future__ import annotations

from sd_tvm.relay_passes.relay import _tvm as _door  # first: says what is wrong with this TVM
from sd_tvm.relay_passes.relay.codegen import register_codegen
from sd_tvm.relay_passes.relay.hooks import register_hooks
from sd_tvm.relay_passes.relay.operators import register_operators
from sd_tvm.relay_passes.relay.options import Options, configure
from sd_tvm.relay_passes.relay.partition import partition_for_sd_accel
from sd_tvm.relay_passes.relay.profiling import Profile, profile
from sd_tvm.relay_passes.relay.report import NodeRow, last_report
from sd_tvm.relay_passes.relay.targets import register_targets

__all__ = ["NodeRow", "Options", "Profile", "configure", "last_report", "partition_for_sd_accel", "profile"]

del _door
register_targets()
register_operators()
register_codegen()
register_hooks()
