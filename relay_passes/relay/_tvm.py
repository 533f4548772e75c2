"""The only door to the TVM that has Relay. Importing this module loads it."""

from __future__ import annotations

import platform
from typing import Any

from sd_tvm.errors import VersionError

_FIX = "use a TVM that has Relay (before 0.20), or leave Relay behind: sd_tvm.relay reads its saved modules"

try:
    import tvm as _tvm
    from tvm import relay as _relay
    from tvm import te as _te
    from tvm import tir as _tir
except ImportError as error:
    raise VersionError(
        f"this TVM has no Relay ({error})", expected="a TVM before 0.20, with its compiler", fix=_FIX
    ) from error

# TVM ships no type information: Any keeps mypy --strict honest about that.
tvm: Any = _tvm
relay: Any = _relay
te: Any = _te
tir: Any = _tir


def host() -> dict[str, Any]:
    """Target of code for this machine.

    The triple is written out: what plain ``llvm`` means depends on the build of TVM (some mean RISC-V).
    """
    return {"kind": "llvm", "mtriple": f"{platform.machine()}-linux-gnu"}


def host_target() -> Any:
    """:func:`host` as a target."""
    return tvm.target.Target(host())
