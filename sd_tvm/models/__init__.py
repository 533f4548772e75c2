"""Trained networks that install from a package index: for the demo, benchmarks and tests.

Each is a module with ``model()``, which :func:`sd_tvm.load_model` calls, and ``preprocess(image)``; its name
alone says the same as ``"sd_tvm.models.NAME:model"``.
"""

from __future__ import annotations

from importlib import resources


def names() -> list[str]:
    """Names of the models (files are listed, nothing is imported)."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return sorted(f.removesuffix(".py") for f in files if f.endswith(".py") and not f.startswith("_"))


def spec(name: str) -> str:
    """``"package.module:callable"`` of a model by name."""
    return f"{__name__}.{name}:model"
