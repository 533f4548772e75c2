"""From a scheduled layer to flat TensorIR, with TVM's own passes."""

from __future__ import annotations

from functools import cache
from typing import Any

from sd_tvm._tvm import s_tir, tirx, tvm


@cache
def _pipeline() -> Any:
    s, t = s_tir.transform, tirx.transform
    return tvm.transform.Sequential(
        [
            s.LowerInitBlock(),
            s.PlanAndUpdateBufferAllocationLocation(),
            s.ConvertBlocksToOpaque(),
            s.CompactBufferAllocation(),
            s.LowerMatchBuffer(),
            s.LowerOpaqueBlock(),
            t.FlattenBuffer(),
            t.StmtSimplify(),
        ]
    )


def lower(schedule: Any) -> Any:
    """Flat PrimFunc of a scheduled layer: loops, guards, flat loads and stores, nothing else.

    Parameters
    ----------
    schedule
        ``tvm.s_tir.Schedule`` of :func:`sd_tvm.schedules.accel.schedule_accel`.
    """
    return _pipeline()(schedule.mod)["main"]
