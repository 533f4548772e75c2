"""Memory roof: what one thread reads from memory that no cache holds, as code of the same compiler."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from sd_tvm._tvm import ir_builder, tvm
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.vec import Registers, i64, load, store, t

from .measure import Flush

_STREAMS = 4


def _reader(nbytes: int, isa: Isa) -> Any:
    lanes = isa.words
    step = _STREAMS * isa.width
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name("read")
        x = t.arg("x", t.Buffer((i64(nbytes // 4),), "uint32"))
        out = t.arg("out", t.Buffer((i64(lanes),), "uint32"))
        sums = Registers(_STREAMS, "uint32", lanes)
        sums.clear()
        with t.serial(i64(nbytes // step)) as i:
            for s in range(_STREAMS):
                sums[s] = sums[s] + load(x, (i * i64(_STREAMS) + i64(s)) * i64(lanes), lanes)
        total = sums[0]
        for s in range(1, _STREAMS):
            total = total + sums[s]
        store(out, i64(0), total, lanes)
    func = frame.get().with_attr("global_symbol", "read")
    return tvm.compile(tvm.IRModule({"read": func}), target=tvm.target.Target(isa.target))["read"]


def memory_roof(isa: Isa, flush: Flush, mebibytes: int = 64, turns: int = 9) -> dict[str, float]:
    """Best and median GB/s of reading memory once, cold."""
    nbytes = mebibytes << 20
    read = _reader(nbytes, isa)
    x = tvm.runtime.tensor(np.ones(nbytes // 4, dtype=np.uint32))
    out = tvm.runtime.tensor(np.zeros(isa.words, dtype=np.uint32))
    rates = []
    for _ in range(turns):
        flush()
        start = time.process_time()
        read(x, out)
        rates.append(nbytes / (time.process_time() - start) / 1e9)
    return {"mebibytes": mebibytes, "best": round(max(rates), 1), "median": round(float(np.median(rates)), 1)}
