"""Analytic models of published accelerators and of weight formats on our own array, at equal resources."""

from sd_tvm.accelerator.baselines.array import ARRAY_BASELINES, OurArray
from sd_tvm.accelerator.baselines.base import Baseline
from sd_tvm.accelerator.baselines.cambricon_x import CambriconX
from sd_tvm.accelerator.baselines.diannao import DianNao
from sd_tvm.accelerator.baselines.pragmatic import BitPragmatic
from sd_tvm.accelerator.baselines.resources import Resources
from sd_tvm.accelerator.baselines.result import LayerResult, RunResult, ratio_band
from sd_tvm.accelerator.baselines.scnn import SCNN
from sd_tvm.accelerator.baselines.shapes import LayerShape
from sd_tvm.accelerator.baselines.statistics import Mask, Statistics
from sd_tvm.accelerator.baselines.workloads import WORKLOADS

__all__ = [
    "ARRAY_BASELINES",
    "SCNN",
    "WORKLOADS",
    "Baseline",
    "BitPragmatic",
    "CambriconX",
    "DianNao",
    "LayerResult",
    "LayerShape",
    "Mask",
    "OurArray",
    "Resources",
    "RunResult",
    "Statistics",
    "ratio_band",
]
