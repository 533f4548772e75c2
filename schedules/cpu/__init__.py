"""Integer layers on the CPU: kernels by instruction set (``table``), a portable schedule for the rest."""

from sd_tvm.schedules.cpu.portable import schedule_cpu

__all__ = ["schedule_cpu"]
