"""The ``.sd`` file: a safetensors file with a versioned, fully verified schema (``docs/format.md``)."""

from __future__ import annotations

from sd_tvm.format.io import dumps, loads, read, write
from sd_tvm.format.model import SCHEMA_VERSION, StoredModel
from sd_tvm.format.summary import LayerSummary, Summary, inspect
from sd_tvm.numerics.qparams import QParams

__all__ = [
    "SCHEMA_VERSION",
    "LayerSummary",
    "QParams",
    "StoredModel",
    "Summary",
    "dumps",
    "inspect",
    "loads",
    "read",
    "write",
]
