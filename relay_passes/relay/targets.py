"""Targets: tags, as a kind cannot be added from outside TVM."""

from __future__ import annotations

from typing import Any

from sd_tvm.accelerator import DEFAULT_CONFIG
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.errors import OptionError
from sd_tvm.relay_passes.relay._tvm import host, tvm

ACCELERATOR, CPU = "sd_accel", "sd_cpu"


def register_targets() -> None:
    """Register ``sd_accel``, ``sd_accel/<configuration>`` and ``sd_cpu``; all make host code for LLVM."""
    for tag, key, config in (
        (ACCELERATOR, ACCELERATOR, DEFAULT_CONFIG),
        (CPU, CPU, ""),
        *((f"{ACCELERATOR}/{name}", ACCELERATOR, name) for name in AcceleratorConfig.names()),
    ):
        facts = {**host(), "keys": [key, "cpu"], **({"model": config} if config else {})}
        tvm.target.tag.register_tag(tag, facts, override=True)


def place_of(target: Any) -> str | None:
    """What a target asks for: a configuration's name, "" for the CPU, None if the target is not ours.

    Parameters
    ----------
    target
        Whatever ``relay.build`` takes: a target, its tag, a list of them or a mapping to them.

    Raises
    ------
    OptionError
        If one of ours stands among others: TVM would plan devices for them and offload nothing.
    """
    found = [t for t in map(_target, _several(target)) if t is not None]
    ours = [t for t in found if {ACCELERATOR, CPU} & {str(k) for k in t.keys}]
    if not ours:
        return None
    if len(found) > 1:
        raise OptionError(
            f"target sd_accel in a list of {len(found)} targets",
            expected="one target",
            fix="pass the tag alone, or partition_for_sd_accel(mod, params) and then the list",
        )
    if CPU in {str(k) for k in ours[0].keys}:
        return ""
    return str(ours[0].attrs["model"]) if "model" in ours[0].attrs else DEFAULT_CONFIG


def _several(target: Any) -> list[Any]:
    if isinstance(target, dict) and "kind" in target:
        return [target]
    if isinstance(target, dict | tvm.ir.container.Map):
        return [value for _, value in target.items()]
    return list(target) if isinstance(target, list | tuple | tvm.ir.container.Array) else [target]


def _target(target: Any) -> Any:
    if target is None:
        return tvm.target.Target.current(allow_none=True)
    try:
        return tvm.target.Target(target)
    except (TypeError, ValueError, tvm.TVMError):
        return None  # nothing of ours; TVM says what is wrong with it
