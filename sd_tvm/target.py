"""Target ``sd_accel``: its tags, and the step into TVM's default pipeline.

A target *kind* cannot be added from outside TVM; a *tag* can. Ours is host code for LLVM, key ``sd_accel``,
and the accelerator's configuration in attribute ``model``. Importing this module loads TVM.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sd_tvm.accelerator import DEFAULT_CONFIG

#: Key that marks our targets.
KEY = "sd_accel"
_PIPELINE = "default"


def configuration_names() -> list[str]:
    """Names of the configurations that ship with the package (files are listed, not read)."""
    spec = find_spec("sd_tvm.accelerator")
    folders = spec.submodule_search_locations if spec is not None else None
    paths = (p for folder in folders or () for p in (Path(folder) / "config").glob("*.yaml"))
    return sorted({p.stem for p in paths})


def target_of(config: str) -> dict[str, Any]:
    """Description of the target with a configuration (its name, or the path of a YAML file).

    Host code is compiled for this machine's processor.
    """
    import tvm

    host = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()
    return {"kind": "llvm", "mcpu": host, "keys": [KEY, "cpu"], "device": KEY, "model": config}


def register_tags() -> None:
    """Register ``sd_accel`` (the default configuration) and ``sd_accel/<configuration>``."""
    from tvm.target import register_tag

    register_tag(KEY, target_of(DEFAULT_CONFIG), override=True)
    for name in configuration_names():
        register_tag(f"{KEY}/{name}", target_of(name), override=True)


def wrap_pipeline() -> None:
    """Make TVM's default pipeline look at the target: ours runs our passes first, others see no change."""
    from tvm import relax, transform

    table = relax.pipeline.PIPELINE_MAP
    original = table[_PIPELINE]
    if getattr(original, "sd_tvm_original", None) is not None:
        return

    def default_pipeline(*args: Any, **kwargs: Any) -> Any:
        @transform.module_pass(opt_level=0)  # type: ignore[untyped-decorator]
        def _pipeline(mod: Any, _context: Any) -> Any:
            config = current_configuration()
            if config is None:
                return original(*args, **kwargs)(for_cpu(mod))
            from sd_tvm.relay_passes.pipeline import compile_for

            return compile_for(config, lambda: original(*args, **kwargs))(mod)

        return _pipeline

    default_pipeline.sd_tvm_original = original  # type: ignore[attr-defined]
    table[_PIPELINE] = default_pipeline


def for_cpu(mod: Any) -> Any:
    """Module with kernels for TVM's current target, the rest in vectors, guarded.

    One without integer layers stays as it is.
    """
    from sd_tvm.relay_passes.partition import is_partitioned

    if not is_partitioned(mod):
        return mod
    from sd_tvm.relay_passes.guard_cpu import GuardCPU
    from sd_tvm.relay_passes.lower_cpu import LowerToCPU
    from sd_tvm.relay_passes.vectorize import VectorizeInjective

    passes: list[Any] = [LowerToCPU(), VectorizeInjective(), GuardCPU()]
    for step in passes:
        mod = step(mod)
    return mod


def current_configuration() -> str | None:
    """Configuration of TVM's current target, None if it is not ours."""
    from tvm.target import Target

    target = Target.current(allow_none=True)
    if target is None or KEY not in target.keys:
        return None
    return str(target.attrs["model"]) if "model" in target.attrs else DEFAULT_CONFIG
