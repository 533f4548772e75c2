"""Importing sd_tvm is cheap, and its public names are consistent."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import sd_tvm

HEAVY = ("tvm", "tvm_ffi", "torch", "onnx", "numpy", "matplotlib", "pydantic", "rich", "typer")
LIMIT_S = 0.3


def fresh(program: str) -> str:
    """Output of a program in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120
    ).stdout


def test_import_loads_nothing_heavy() -> None:
    loaded = json.loads(
        fresh(f"import sd_tvm, sys, json\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))")
    )
    assert loaded == []


def test_import_time() -> None:
    program = "import time\nt = time.perf_counter()\nimport sd_tvm\nprint(time.perf_counter() - t)"
    assert min(float(fresh(program)) for _ in range(3)) < LIMIT_S


@pytest.mark.parametrize(
    "module",
    [
        "sd_tvm.weights.packing", "sd_tvm.numerics.golden", "sd_tvm.format", "sd_tvm.layers", "sd_tvm.recipe",
        "sd_tvm.accelerator.isa.spec", "sd_tvm.accelerator.config", "sd_tvm.report", "sd_tvm.cli.app",
        "sd_tvm.frontends", "sd_tvm.model", "sd_tvm.compression", "sd_tvm.profiling",
    ],
)  # fmt: skip
def test_packages_without_tvm(module: str) -> None:
    assert (
        fresh(f"import {module}, sys\nprint('tvm' in sys.modules or 'torch' in sys.modules)").strip()
        == "False"
    )


def test_public_names() -> None:
    assert sorted(sd_tvm._HOME) == sorted(sd_tvm.__all__) == sorted(set(sd_tvm.__all__))
    for name in sd_tvm.__all__:
        value = getattr(sd_tvm, name)
        assert value.__name__ == name
        assert value.__doc__
    assert set(sd_tvm.__all__) <= set(dir(sd_tvm))


def test_every_error_is_public() -> None:
    from sd_tvm import errors

    classes = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.SDError)}
    assert classes <= set(sd_tvm.__all__)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sd_tvm.nonsense  # noqa: B018


def test_version_is_that_of_the_package() -> None:
    from importlib import metadata

    try:
        installed = metadata.version("sd-tvm")
    except metadata.PackageNotFoundError:
        return  # running from the source tree
    assert sd_tvm.__version__ == installed
