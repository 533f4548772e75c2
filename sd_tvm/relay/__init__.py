"""Models of Relay, TVM's graph language until 0.19, on today's TVM.

:func:`load` imports a saved module (JSON or text) as Relax; :func:`build` compiles one with Relay's
signature and returns what ``relay.build`` returned, a library to be run by :class:`GraphModule`. Neither
needs a TVM that has Relay. ``docs/from-relay.md`` shows old and new side by side. Importing this package
loads no TVM.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sd_tvm.relay.arrays import read_params
    from sd_tvm.relay.build import build
    from sd_tvm.relay.executor import GraphModule, Library, load_module
    from sd_tvm.relay.source import load

__all__ = ["GraphModule", "Library", "build", "load", "load_module", "read_params"]

_HOME: dict[str, str] = {
    "GraphModule": "executor",
    "Library": "executor",
    "build": "build",
    "load": "source",
    "load_module": "executor",
    "read_params": "arrays",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'sd_tvm.relay' has no attribute {name!r}")
    value = getattr(import_module(f"sd_tvm.relay.{_HOME[name]}"), name)
    globals()[name] = value
    return value
