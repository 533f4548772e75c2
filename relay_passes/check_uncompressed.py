"""CheckUncompressed: what is compressed already cannot be compressed again."""

from __future__ import annotations

from typing import Any

from sd_tvm._tvm import tvm
from sd_tvm.errors import UnsupportedModelError
from sd_tvm.relay_passes._rewrite import IRModule, bindings_of
from sd_tvm.relay_passes._weights import read_weight, relax_functions
from sd_tvm.relay_passes.partition import is_partitioned


@tvm.transform.module_pass(opt_level=0, name="sd.CheckUncompressed")
class CheckUncompressed:
    """Change nothing; refuse a module with compressed weights or integer layers.

    Usable in any ``tvm.transform.Sequential``.

    Raises
    ------
    UnsupportedModelError
        Names a layer that is compressed.
    """

    def transform_module(self, mod: IRModule, _context: Any) -> IRModule:
        """The pass."""
        for _, func in relax_functions(mod):
            for _, value in bindings_of(func):
                found = read_weight(mod, value)
                if found is not None:
                    raise _compressed(f"the weight of {found[0]!r} is compressed already")
        if is_partitioned(mod):
            raise _compressed("the module has integer layers already")
        return mod


def _compressed(found: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        found,
        expected="the float32 network",
        fix="compress the trained network; a compressed one is ready for tvm.compile",
    )
