"""Random programs with data that run to the end: tiles through LOAD, GEMM, ALU, STORE, buffers reused."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from sim.reference import Form, coded_form, raw_form

from sd_tvm.accelerator.isa import Program, encode
from sd_tvm.accelerator.isa.spec import AccInit, AluOp, AluSrcB, BasisKind, Mem, RowKind, WMode

#: Rows of 3 channels; a multiple of 16 of them, so that every row index exists.
CHANNELS = (48, 96)


@dataclass
class Runnable:
    """A program and its operands, the result last."""

    program: bytes
    operands: list[np.ndarray]

    def fresh(self) -> list[np.ndarray]:
        return [*self.operands[:-1], np.zeros_like(self.operands[-1])]


def form(rng: random.Random, data: np.random.Generator, m: int, cg: int) -> Form:
    """Weights of a 1x1 layer in a random form (no shared pattern)."""
    mode = rng.choice([WMode.RAW8, WMode.DENSE, WMode.N8, WMode.N4, WMode.N2])
    if mode == WMode.RAW8:
        return raw_form(data, m, cg, 4096, 1, 1, 1)
    return coded_form(
        data, mode, m, cg, 4096, 1, 1, 1,
        kind=RowKind.CHANNELS, s=3, basis_kind=BasisKind.SLICE, slice_blocks=0, group_tiles=1,
    )  # fmt: skip


def quantisation(data: np.random.Generator, m: int) -> np.ndarray:
    """QP words with legal shifts."""
    words = data.integers(0, 256, (m, 16)).astype(np.uint8)
    words[:, 8] = (256 - data.integers(0, 31, m)) % 256
    return words


def generate(rng: random.Random) -> Runnable:
    """Tiles in 1 to 3 buffers, each handed on by semaphores; sometimes a FENCE or a MARK between tiles."""
    data = np.random.default_rng(rng.getrandbits(32))
    cg, m = rng.choice(CHANNELS), rng.choice([5, 16, 24])
    oy, ox = rng.randint(1, 3), rng.randint(1, 7)
    n, buffers = rng.randint(1, 4), rng.randint(1, 3)
    pixels, blocks, tiles = oy * ox, cg // 16, -(-m // 16)
    weights, qp = form(rng, data, m, cg), quantisation(data, 16 * tiles)
    x = data.integers(0, 256, (n * blocks * pixels, 16)).astype(np.uint8)
    x[data.random(x.shape) < rng.choice([0.0, 0.5, 0.97])] = 0
    out: list[bytes] = []

    def add(name: str, **fields: Any) -> None:
        out.append(encode(name, **fields))

    for seg, (mem, table) in enumerate(
        [(Mem.CODE, weights.code), (Mem.BASIS, weights.basis), (Mem.QP, qp)], 1
    ):
        add("LOAD", mem=mem, seg=seg, x=len(table), y=1, z=1)
    add("SETW", flags=rng.randrange(2), **weights.setw)
    size, sums = blocks * pixels, tiles * pixels
    for i in range(n):
        if rng.random() < 0.3:
            add("MARK", layer=rng.randrange(3))
        at = i % buffers
        again, free = i >= buffers, i + buffers < n
        # Semaphores 0, 2, 4 hand a buffer on, 1, 3, 5 hand it back.
        add(
            "LOAD", mem=Mem.INP, dram=i * size, sram=at * size, x=size, y=1, z=1,
            wait0=1 if again else None, signal0=0,
        )  # fmt: skip
        add(
            "GEMM", acc_init=rng.choice([AccInit.BIAS, AccInit.ZERO]), inp=at * size, acc=at * sums, n_oy=oy,
            n_ox=ox, n_m=m, inp_oy=ox, inp_ox=1, inp_ky=ox, inp_cb=pixels, acc_oy=ox, acc_mb=pixels,
            wait0=0, wait1=3 if again else None, signal0=2, signal1=1 if free else None,
        )  # fmt: skip
        add(
            "ALU", op=AluOp.REQ, a_mem=Mem.ACC, b_src=AluSrcB.QP, dst_mem=Mem.OUT,
            flags=4 + 2 * rng.randrange(2), a=at * sums, dst=at * sums, n0=pixels, n1=tiles, n2=1, a_s0=1,
            a_s1=pixels, dst_s0=1, dst_s1=pixels, b_s1=16,
            wait0=2, wait1=5 if again else None, signal0=4, signal1=3 if free else None,
        )  # fmt: skip
        add(
            "STORE", mem=Mem.OUT, seg=4, dram=i * sums, sram=at * sums, x=sums, y=1, z=1, wait0=4,
            signal0=5 if free else None,
        )  # fmt: skip
        if rng.random() < 0.1:
            add("FENCE")
    add("FINISH")
    operands = [x, weights.code, weights.basis, qp, np.zeros((n * sums, 16), np.uint8)]
    words = {
        Mem.INP: buffers * size, Mem.CODE: len(weights.code), Mem.BASIS: len(weights.basis), Mem.QP: len(qp),
        Mem.ACC: buffers * sums, Mem.OUT: buffers * sums,
    }  # fmt: skip
    program = Program(tuple(out), tuple(a.nbytes for a in operands), words)
    return Runnable(program.to_bytes(), operands)


def any_machine(rng: random.Random) -> dict[str, int]:
    """Overrides of a configuration: array, ALU, DRAM, control."""
    c, f, serial = rng.choice([4, 8, 16]), rng.choice([1, 2, 4, 8]), rng.randrange(2)
    return {
        "m_slices": rng.choice([1, 3, 8, 64]),
        "c_lines": c,
        "f_lanes": f,
        "mac_serial": serial,
        "lanes_per_line": f if serial else rng.randint(1, f),
        "sync_domain": rng.randrange(3),
        "skip_zero_vectors": rng.randrange(2) if serial else 0,
        "fold_mask": rng.choice([1, 3, 7]),
        "lines_per_re": rng.choice([1, 2, 4]),
        "port_bytes_per_cycle": rng.choice([3, 16, 512]),
        "drain_values_per_cycle": rng.randint(1, 4),
        "gemm_fill_cycles": rng.randrange(9),
        "alu_lanes": rng.choice([16, 64]),
        "alu_acc_ports": rng.randint(1, 2),
        "dram_bytes_per_cycle": rng.choice([1, 8, 64]),
        "dram_latency_cycles": rng.choice([0, 20, 200]),
        "dram_write_latency_cycles": rng.choice([0, 8]),
        "dram_burst_bytes": rng.choice([16, 64, 256]),
        "dram_gap_cycles": rng.randrange(4),
        "dram_outstanding": rng.randint(1, 4),
        "dram_efficiency_percent": rng.choice([50, 95, 100]),
        "decode_cycles": rng.randrange(4),
        "queue_depth": rng.choice([0, 1, 2, 8]),
        "fetch": rng.randrange(2),
    }
