"""Roofs of one thread, measured with code of the same compiler: bytes from memory, multiply-accumulates."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sd_tvm._tvm import ir_builder, tirx, tvm
from sd_tvm.bench.turns import Flush
from sd_tvm.schedules.cpu.isa import Isa
from sd_tvm.schedules.cpu.vec import Registers, as_type, i64, load, prefetch, splat, store, t

_LINE = 64
#: Lines that a stream reads before the next one's turn.
_LINES = 4
#: Ways to read, of which the fastest is the roof: (streams, bytes that a prefetch is ahead, 0: none). Eight
#: distant streams keep more pages open than one; which is fastest differs from machine to machine.
_WAYS = ((1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (1, 1024), (4, 512), (8, 512))
#: Sums that are independent, and steps of a timing of arithmetic.
_SUMS, _STEPS = 10, 1 << 20


class MemoryRoof:
    """GB/s of reading memory once, cold, in the fastest of several ways.

    Parameters
    ----------
    isa
        Instruction set of the reading code.
    flush
        Empties the caches.
    mebibytes
        What is read.
    """

    def __init__(self, isa: Isa, flush: Flush, mebibytes: int = 64) -> None:
        self._flush, self._nbytes = flush, mebibytes << 20
        self._x = tvm.runtime.tensor(np.ones(self._nbytes // 4, dtype=np.uint32))
        self._out = tvm.runtime.tensor(np.zeros(isa.words, dtype=np.uint32))
        self._readers = {way: _reader(self._nbytes, isa, *way) for way in _WAYS}
        self._rates: dict[tuple[int, int], list[float]] = {way: [] for way in _WAYS}

    def measure(self, turns: int = 1) -> None:
        """Read in every way, ``turns`` times."""
        for _ in range(turns):
            for way, read in self._readers.items():
                self._flush()
                start = time.process_time()
                read(self._x, self._out)
                self._rates[way].append(self._nbytes / (time.process_time() - start) / 1e9)

    def document(self) -> dict[str, Any]:
        """``best``, ``median`` GB/s, ``streams`` and ``prefetch`` of the fastest way, ``mebibytes``."""
        best = max(_WAYS, key=lambda way: max(self._rates[way]))
        rates = self._rates[best]
        return {
            "mebibytes": self._nbytes >> 20,
            "best": round(max(rates), 1),
            "median": round(float(np.median(rates)), 1),
            "streams": best[0],
            "prefetch": best[1],
        }


def arithmetic_roofs(isa: Isa, turns: int = 5) -> dict[str, float]:
    """GMAC/s of products of bytes (int8) and of float32, registers only; best of some timings."""
    out = {}
    for name, lanes, step in (("int8", isa.width, _byte_step), ("fp32", isa.words, _float_step)):
        run = _spin(isa, step)
        result = tvm.runtime.tensor(np.zeros(isa.words, dtype=np.uint32))
        seconds = []
        for _ in range(turns):
            start = time.process_time()
            run(result)
            seconds.append(time.process_time() - start)
        out[name] = round(_STEPS * _SUMS * lanes / min(seconds) / 1e9, 1)
    return out


def _compiled(name: str, isa: Isa, body: Callable[[], None]) -> Any:
    with ir_builder.IRBuilder() as frame, t.prim_func(s_tir=True):
        t.func_name(name)
        body()
    func = frame.get().with_attr("global_symbol", name)
    return tvm.compile(tvm.IRModule({name: func}), target=tvm.target.Target(isa.target))[name]


def _reader(nbytes: int, isa: Isa, streams: int, ahead: int) -> Any:
    lanes, words = isa.words, nbytes // 4

    def body() -> None:
        x = t.arg("x", t.Buffer((i64(words),), "uint32"))
        out = t.arg("out", t.Buffer((i64(lanes),), "uint32"))
        vectors = _LINE // isa.width
        sums = Registers(_LINES * vectors, "uint32", lanes)
        sums.clear()
        part = words // streams
        with t.serial(i64(part * 4 // (_LINE * _LINES))) as i:
            for s in range(streams):
                for line in range(_LINES):
                    at = i64(s * part + line * _LINE // 4) + i * i64(_LINE * _LINES // 4)
                    if ahead:
                        prefetch(x, at + i64(ahead // 4))
                    for v in range(vectors):
                        j = line * vectors + v
                        sums[j] = sums[j] + load(x, at + i64(v * lanes), lanes)
        _total(sums, out, lanes)

    return _compiled("read", isa, body)


def _spin(isa: Isa, step: Callable[[Isa, Registers, int, Any], Any]) -> Any:
    lanes = isa.words

    def body() -> None:
        out = t.arg("out", t.Buffer((i64(lanes),), "uint32"))
        sums = Registers(_SUMS, "uint32", lanes)
        sums.clear()
        # an operand from memory, so that LLVM cannot know the products
        operand = Registers(1, "uint32", lanes)
        operand[0] = load(out, i64(0), lanes)
        with t.serial(i64(_STEPS)):
            for s in range(_SUMS):
                sums[s] = step(isa, sums, s, operand[0])
        _total(sums, out, lanes)

    return _compiled("spin", isa, body)


def _byte_step(isa: Isa, sums: Registers, s: int, operand: Any) -> Any:
    """Four products of bytes a lane, added to int32 (or, in steps of two instructions, to int16 first)."""
    x = as_type(operand, f"{isa.operand}x{isa.width}")
    if isa.dot:
        return isa.add_quads8(sums[s], x, as_type(operand, f"int8x{isa.width}"))
    # the other factor changes with the sum: a product that stays the same would be computed once
    pairs = isa.pairs8(x, as_type(sums[s], f"int8x{isa.width}"))
    return isa.add_pairs16(sums[s], pairs, splat(1, "int16", isa.width // 2))


def _float_step(isa: Isa, sums: Registers, s: int, operand: Any) -> Any:
    kind = f"float32x{isa.words}"
    total = tirx.call_llvm_pure_intrin(
        kind, "llvm.fma", as_type(operand, kind), as_type(operand, kind), as_type(sums[s], kind)
    )
    return as_type(total, f"uint32x{isa.words}")


def _total(sums: Registers, out: Any, lanes: int) -> None:
    total = sums[0]
    for s in range(1, sums.count):
        total = total + sums[s]
    store(out, i64(0), total, lanes)
