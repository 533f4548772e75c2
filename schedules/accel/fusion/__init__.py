"""Fusion: which activations stay on chip between the layers of a region, and in which strips they are made.

:mod:`.region` is the graph, :mod:`.windows` says which rows of an input a strip of a result needs,
:mod:`.search` decides, :mod:`.plan` writes the decision down as steps and buffers, :mod:`.addresses` places
the buffers. None of it needs TVM.
"""

from __future__ import annotations

from sd_tvm.schedules.accel.fusion.plan import Buffer, Plan, Source, Step, plan_region
from sd_tvm.schedules.accel.fusion.region import Node, Region, Value

__all__ = ["Buffer", "Node", "Plan", "Region", "Source", "Step", "Value", "plan_region"]
