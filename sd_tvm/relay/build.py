"""``relay.build`` with Relay's signature, on a TVM that has no Relay."""

from __future__ import annotations

import re
from os import PathLike
from typing import Any

from sd_tvm.errors import OptionError, UnsupportedModelError
from sd_tvm.relay.executor import DEFAULT, Library
from sd_tvm.relay.source import load


def build(
    ir_mod: Any,
    target: Any = "sd_accel",
    target_host: Any = None,
    executor: Any = None,
    runtime: Any = None,
    workspace_memory_pools: Any = None,
    constant_memory_pools: Any = None,
    params: Any = None,
    mod_name: str = DEFAULT,
    *,
    recipe: Any = None,
    calibration: Any = None,
) -> Library:
    """Compile a Relay module.

    Parameters
    ----------
    ir_mod
        A saved Relay module (JSON, text, or the path of either), or a Relax IRModule that :func:`load` made.
    target
        ``sd_accel`` or ``sd_accel/<configuration>``: constant-weight layers are decomposed and run on the
        accelerator. Anything else that TVM knows (``llvm``, a dictionary, a Target, Relay's strings of the
        form ``llvm -mcpu=core-avx2``): plain TVM, in the types of the module.
    target_host, executor, runtime, workspace_memory_pools, constant_memory_pools
        Relay's; only their defaults (None, or a graph executor and the C++ runtime by name) are taken.
    params
        As for :func:`load`.
    mod_name
        Name under which ``library[mod_name]`` finds the module.
    recipe, calibration
        For ``sd_accel``: what :func:`sd_tvm.compress` takes. Without them the default recipe, and scales of
        activations that are computed at run time.

    Returns
    -------
    Library
        ``library["default"](device)`` is a graph executor: ``set_input``, ``run``, ``get_output``; also
        ``export_library``, and ``nodes``: where every node runs and why.

    Raises
    ------
    UnsupportedModelError
        As :func:`load`; a live Relay module, which this process cannot have made.
    OptionError
        An option of Relay that has no meaning here.
    """
    for name, value, default in (
        ("target_host", target_host, ""),
        ("executor", executor, "graph"),
        ("runtime", runtime, "cpp"),
        ("workspace_memory_pools", workspace_memory_pools, ""),
        ("constant_memory_pools", constant_memory_pools, ""),
    ):
        if value is not None and str(value).split("{", 1)[0].strip() not in (default, "llvm"):
            raise OptionError(
                f"{name}={value!r:.60}",
                expected=f"None{f' or {default!r}' if default else ''}",
                fix="leave it out",
            )
    mod = _module(ir_mod, params)
    names = [str(p.name) for p in mod["main"].params]
    if isinstance(target, str) and target.partition("/")[0] == "sd_accel":
        from sd_tvm.execute import compile_module

        if recipe is not None or calibration is not None:
            from sd_tvm.compression import compress

            mod = compress(mod, recipe=recipe, calibration=calibration).to_relax()
        compiled = compile_module(mod, target)
        return Library(compiled.executable, names, mod, compiled.nodes, mod_name)
    if recipe is not None or calibration is not None:
        raise OptionError(
            f"a recipe or calibration for target {target!r:.60}",
            expected="target sd_accel or sd_accel/<configuration>",
            fix="leave them out",
        )
    from sd_tvm._tvm import relax, tvm

    chosen = tvm.target.Target(_target(target))
    executable = tvm.compile(relax.get_pipeline("zero")(mod), target=chosen)
    return Library(executable, names, mod, libmod_name=mod_name)


def _module(ir_mod: Any, params: Any) -> Any:
    if isinstance(ir_mod, str | PathLike):
        return load(ir_mod, params)
    kind = type(ir_mod)
    if kind.__module__.partition(".")[0] == "tvm" and kind.__name__ == "IRModule":
        if params:
            raise OptionError(
                "params beside a Relax module",
                expected="none: its weights are constants",
                fix="pass them to load()",
            )
        from sd_tvm.frontends import load_model

        return load_model(ir_mod)
    raise UnsupportedModelError(
        f"a {kind.__module__}.{kind.__qualname__} is no saved Relay module",
        expected="JSON of tvm.ir.save_json, text of mod.astext(), a path, or what load() returned",
        fix="save it in the process that has Relay: tvm.ir.save_json(relay.transform.InferType()(mod))",
    )


def _target(target: Any) -> Any:
    """Relay's target strings as the dictionaries of today's TVM; everything else as it is."""
    if not isinstance(target, str) or " " not in target.strip():
        return target
    kind, *options = target.split()
    result: dict[str, Any] = {"kind": kind}
    for option in options:
        match = re.fullmatch(r"--?([\w-]+)=(.+)", option)
        if match is None:
            raise OptionError(
                f"the target {target!r}",
                expected="kind -key=value",
                fix="pass a dictionary",
            )
        key, value = match.groups()
        listed = key in ("mattr", "keys", "libs")
        result[key] = value.split(",") if listed else int(value) if value.isdigit() else value
    return result
