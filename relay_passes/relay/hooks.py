"""What makes ``relay.build`` and its relatives look at the target.

Relay has no list of passes that a package could join. Its operators' ``Legalize`` hooks see one operator at
a time, without what follows it, and not at all with ``opt_level=0``; whole regions are what keeps activations
on the chip. So the methods behind ``relay.build`` (``BuildModule``) and ``relay.vm.compile`` (``VMCompiler``)
are wrapped: for targets of ours the module is partitioned first, for all others nothing changes.
"""

from __future__ import annotations

import inspect
from functools import wraps
from typing import Any

from sd_tvm.errors import OptionError
from sd_tvm.relay_passes.relay._tvm import relay
from sd_tvm.relay_passes.relay.partition import is_partitioned, partition_for_sd_accel
from sd_tvm.relay_passes.relay.targets import place_of

_MARK = "sd_tvm_original"


def register_hooks() -> None:
    """Wrap the methods; does nothing the second time."""
    from tvm.relay.backend import interpreter, vm

    for method in ("build", "optimize"):
        _wrap(relay.build_module.BuildModule, method)
    for method in ("lower", "optimize"):
        _wrap(vm.VMCompiler, method)
    _remember_params(vm.VMCompiler)
    _wrap_interpreter(interpreter.Interpreter)


def _wrap(cls: Any, name: str) -> None:
    original = getattr(cls, name)
    if hasattr(original, _MARK):
        return
    signature = inspect.signature(original)

    @wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        given = bound.arguments
        target = given.get("target")
        if target is None or place_of(target) is None:
            return original(self, *args, **kwargs)
        params = given.get("params") or getattr(self, "sd_tvm_params", None)
        given["mod"] = partition_for_sd_accel(given["mod"], params, target=target)
        given.pop("params", None)  # they are constants of the module now
        return original(*bound.args, **bound.kwargs)

    setattr(method, _MARK, original)
    setattr(cls, name, method)


def _remember_params(cls: Any) -> None:
    """``VMCompiler.set_params`` hands the parameters to C++; the partitioning needs them too."""
    original = cls.set_params
    if hasattr(original, _MARK):
        return

    @wraps(original)
    def set_params(self: Any, params: Any) -> Any:
        self.sd_tvm_params = params
        return original(self, params)

    setattr(set_params, _MARK, original)
    cls.set_params = set_params


def _wrap_interpreter(cls: Any) -> None:
    """Relay's interpreter knows no regions; it would end in an internal error of TVM."""
    original = cls.__init__
    if hasattr(original, _MARK):
        return

    @wraps(original)
    def init(self: Any, mod: Any, device: Any, target: Any) -> None:
        if place_of(target) is not None or (mod is not None and is_partitioned(mod)):
            raise OptionError(
                "Relay's interpreter (create_executor of kind 'debug') for sd_accel",
                expected="kind 'graph' or 'vm'",
                fix="pass create_executor('graph', ...)",
            )
        original(self, mod, device, target)

    setattr(init, _MARK, original)
    cls.__init__ = init
