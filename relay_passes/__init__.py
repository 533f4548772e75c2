"""Passes over Relax graphs, each usable alone in a ``tvm.transform.Sequential``.

In the order of the pipeline: ``CheckUncompressed``, ``Canonicalize``, ``FoldBatchNorm``, ``FoldPad``,
``ConvTranspose``, ``DenseForms``, ``SimplifyAttention`` (one spelling of an imported graph), ``CheckFinite``,
``Calibrate`` (ranges of activations), ``Decompose`` (compressed weights), ``Partition`` (integer layers),
then ``LowerToCPU`` and ``GuardCPU``, or ``Offload`` (places for them; ``SplitChannels`` inside), and
``VectorizeInjective`` for what lies between. Importing this package loads no TVM; using a name does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sd_tvm.relay_passes.calibrate import Calibrate
    from sd_tvm.relay_passes.canonicalize import Canonicalize
    from sd_tvm.relay_passes.check_finite import CheckFinite
    from sd_tvm.relay_passes.check_uncompressed import CheckUncompressed
    from sd_tvm.relay_passes.conv_transpose import ConvTranspose
    from sd_tvm.relay_passes.decompose import Decompose
    from sd_tvm.relay_passes.dense_forms import DenseForms
    from sd_tvm.relay_passes.fold_batch_norm import FoldBatchNorm
    from sd_tvm.relay_passes.fold_pad import FoldPad
    from sd_tvm.relay_passes.guard_cpu import GuardCPU
    from sd_tvm.relay_passes.lower_cpu import LowerToCPU
    from sd_tvm.relay_passes.lower_float import LowerFloat
    from sd_tvm.relay_passes.offload import Offload
    from sd_tvm.relay_passes.partition import Partition
    from sd_tvm.relay_passes.report import NodeReport, node_reports, report_table
    from sd_tvm.relay_passes.simplify_attention import SimplifyAttention
    from sd_tvm.relay_passes.split_channels import SplitChannels
    from sd_tvm.relay_passes.vectorize import VectorizeInjective

__all__ = [
    "Calibrate",
    "Canonicalize",
    "CheckFinite",
    "CheckUncompressed",
    "ConvTranspose",
    "Decompose",
    "DenseForms",
    "FoldBatchNorm",
    "FoldPad",
    "GuardCPU",
    "LowerFloat",
    "LowerToCPU",
    "NodeReport",
    "Offload",
    "Partition",
    "SimplifyAttention",
    "SplitChannels",
    "VectorizeInjective",
    "node_reports",
    "report_table",
]

_HOME: dict[str, str] = {
    "Calibrate": "calibrate",
    "Canonicalize": "canonicalize",
    "CheckFinite": "check_finite",
    "CheckUncompressed": "check_uncompressed",
    "ConvTranspose": "conv_transpose",
    "Decompose": "decompose",
    "DenseForms": "dense_forms",
    "FoldBatchNorm": "fold_batch_norm",
    "FoldPad": "fold_pad",
    "GuardCPU": "guard_cpu",
    "LowerFloat": "lower_float",
    "LowerToCPU": "lower_cpu",
    "NodeReport": "report",
    "Offload": "offload",
    "Partition": "partition",
    "SimplifyAttention": "simplify_attention",
    "SplitChannels": "split_channels",
    "VectorizeInjective": "vectorize",
    "node_reports": "report",
    "report_table": "report",
}


def __getattr__(name: str) -> Any:
    """Import a pass when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'sd_tvm.relay_passes' has no attribute {name!r}")
    value = getattr(import_module(f"sd_tvm.relay_passes.{_HOME[name]}"), name)
    globals()[name] = value
    return value
