"""Programs for the timing tests, assembled straight from the instruction table."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa import Program, encode
from sd_tvm.accelerator.isa.spec import AluOp, AluSrcB, Mem, WMode
from sd_tvm.accelerator.timing import time_program

UNIT = Path(__file__).with_name("unit.yaml")


@dataclass(frozen=True)
class Op:
    """One instruction before encoding."""

    name: str
    fields: dict[str, int]
    waits: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()
    flags: int = 0


def op(
    name: str, *, waits: tuple[int, ...] = (), signals: tuple[int, ...] = (), flags: int = 0, **fields: int
) -> Op:
    return Op(name, fields, waits, signals, flags)


def encoded(o: Op) -> bytes:
    header = {f"wait{i}": s for i, s in enumerate(o.waits)} | {
        f"signal{i}": s for i, s in enumerate(o.signals)
    }
    return encode(o.name, flags=o.flags, **header, **o.fields)


def program(ops: list[Op]) -> bytes:
    """Bytes of a program; FINISH is appended."""
    return Program((*map(encoded, ops), encode("FINISH")), (1 << 20,)).to_bytes()


def load(x: int, y: int = 1, z: int = 1, *, stride: int = 0, address: int = 0, **kw: Any) -> Op:
    """LOAD of y rows of x 16-byte words, ``stride`` and ``address`` in words."""
    return op("LOAD", **{"mem": Mem.INP, "dram": address, "x": x, "y": y, "z": z, "dram_ys": stride} | kw)


def store(x: int, y: int = 1, *, stride: int = 0, mem: Mem = Mem.OUT, **kw: Any) -> Op:
    return op("STORE", mem=mem, x=x, y=y, z=1, dram_ys=stride, **kw)


def setw(
    wmode: WMode = WMode.RAW8,
    *,
    cg: int,
    mg: int = 4096,
    ky: int = 1,
    kx: int = 1,
    s: int = 3,
    taps: bool = False,
    **kw: int,
) -> Op:
    return op(
        "SETW",
        wmode=wmode,
        cg=cg,
        mg=mg,
        n_ky=ky,
        n_kx=kx,
        s=s,
        rowkind=0 if taps else 1,
        **{"inp_kx": 1, **{f"code{i}": 7 for i in range(16)}, **kw},
    )


def gemm(n_m: int, n_ox: int, n_oy: int = 1, **kw: Any) -> Op:
    return op("GEMM", n_m=n_m, n_ox=n_ox, n_oy=n_oy, **{"inp_ox": 1, "inp_oy": n_ox, "inp_ky": n_ox, **kw})


def alu(vectors: int, name: str = "REQ", *, two_acc: bool = False, **kw: Any) -> Op:
    b = AluSrcB.ACC if two_acc else AluSrcB.QP if name == "REQ" else AluSrcB.NONE
    return op("ALU", op=AluOp[name], a_mem=Mem.ACC, b_src=b, dst_mem=Mem.OUT, n0=vectors, n1=1, n2=1, **kw)


@cache
def unit() -> AcceleratorConfig:
    return AcceleratorConfig.load(UNIT)


@cache
def _values(config: AcceleratorConfig) -> dict[str, str]:
    return dict(line.split("=") for line in config.to_text().split())


@dataclass
class Timer:
    """Times programs on one configuration."""

    config: AcceleratorConfig = field(default_factory=lambda: unit())
    overrides: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        values = dict(_values(self.config))
        unknown = set(self.overrides) - set(values)
        assert not unknown, unknown
        values |= {k: str(v) for k, v in self.overrides.items()}
        return "".join(f"{k}={v}\n" for k, v in values.items())

    def __call__(self, ops: list[Op] | bytes, *, trace: bool = False) -> dict[str, Any]:
        return time_program(ops if isinstance(ops, bytes) else program(ops), self.text(), trace=trace)

    def cycles(self, ops: list[Op]) -> int:
        return int(self(ops)["cycles"])
