"""Accelerator configurations and energy tables (TVM-free)."""

from sd_tvm.accelerator.config.energy import EnergyTable
from sd_tvm.accelerator.config.model import AcceleratorConfig

__all__ = ["AcceleratorConfig", "EnergyTable"]
