"""Programs of a million instructions: sums stay exact, or the program is refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from sim.corpus import configs

from sd_tvm.accelerator.isa import Program, disassemble, encode
from sd_tvm.accelerator.isa.spec import AluOp, Mem, Queue
from sd_tvm.accelerator.simulator import run_program
from sd_tvm.accelerator.timing import time_program
from sd_tvm.errors import ProgramError

N = 10**6
PARALLEL, SERIAL = configs()[:2]
OPERANDS = [np.zeros(1 << 16, np.uint8), np.zeros(1 << 16, np.uint8)]
BUS = {"dram_bytes_per_cycle": 1, "dram_gap_cycles": 0, "dram_efficiency_percent": 100, "fetch": 0}


def program(body: bytes, words: dict[Mem, int] | None = None) -> bytes:
    """The instructions and a FINISH, without decoding a million of them in Python."""
    empty = Program((encode("FINISH"),), tuple(o.nbytes for o in OPERANDS), words or {}).to_bytes()
    count = struct.pack("<I", len(body) // 32 + 1)
    return empty[:8] + count + empty[12:-32] + body + empty[-32:]


def text(changes: dict[str, int]) -> str:
    values = dict(line.split("=") for line in PARALLEL.split())
    return "".join(f"{k}={v}\n" for k, v in {**values, **changes}.items())


def total(out: dict[str, Any]) -> None:
    assert sum(out["energy_fj"].values()) == out["energy_total_fj"]
    assert sum(layer["energy_total_fj"] for layer in out["layer_times"]) == out["energy_total_fj"]
    assert sum(layer["cycles"] for layer in out["layer_times"]) == out["cycles"]


@pytest.mark.parametrize("config", [PARALLEL, SERIAL], ids=["parallel", "serial"])
def test_a_million_small_instructions(config: str) -> None:
    pair = encode("NOP", queue=Queue.LD, signal0=1) + encode("NOP", queue=Queue.AL, wait0=1)
    # A semaphore holds 255 signals.
    out = run_program(program((pair * 100 + encode("FENCE")) * (N // 200)), config, OPERANDS, "timed")
    assert out["instructions"]["NOP"] == N
    total(out)


def test_a_million_long_transfers() -> None:
    x, y, z = 65535, 4095, 250
    load = encode("LOAD", mem=Mem.INP, x=x, y=y, z=z, dram_ys=x)
    out = time_program(program(load * N), text(BUS | {"energy_dram_byte_fj": 1, "energy_inp_byte_fj": 0}))
    moved = N * 16 * x * y * z
    assert moved > 1 << 59
    assert out["events"]["dram_read_activation_bytes"] == moved
    assert out["energy_fj"]["dram_activations"] == moved
    assert moved <= out["cycles"] <= moved + 1000 * N
    total(out)


def test_energy_beyond_63_bits_is_refused() -> None:
    load = encode("LOAD", mem=Mem.INP, x=65535, y=4095, z=250)
    with pytest.raises(ProgramError, match="exceeds 2\\^63"):
        time_program(program(load * N), PARALLEL)


def test_an_instruction_without_end_is_refused() -> None:
    load = encode("LOAD", mem=Mem.INP, x=65535, y=4095, z=4095)
    with pytest.raises(ProgramError, match=r"at most 2\^40"):
        time_program(program(load), text(BUS))


def test_a_million_products() -> None:
    """MACs of a layer that computes nothing (a shared pattern without rows): 2^44 each; their sum fits."""
    codes = {f"code{i}": 0x10 for i in range(16)}
    form = {
        "wmode": 5,
        "rowkind": 1,
        "s": 16,
        "group_tiles": 15,
        "cg": 32767,
        "mg": 32767,
        "n_ky": 5,
        "n_kx": 5,
    }
    gemm = encode("GEMM", acc_init=1, n_oy=1, n_ox=1, n_m=16)
    words = {Mem.INP: 1, Mem.ACC: 1, Mem.BASIS: 256, Mem.IDX: 401}
    loads = [encode("LOAD", mem=m, x=n, y=1, z=1) for m, n in words.items() if m != Mem.ACC]
    body = b"".join([*loads, encode("FENCE"), encode("SETW", **form, **codes), gemm * 10000])
    out = run_program(program(body, words), PARALLEL, OPERANDS, "timed")
    assert out["macs_dense"] == 10000 * 16 * 32767 * 25
    assert out["macs"] == 0
    total(out)


def test_layers_are_counted() -> None:
    marks = [encode("MARK", layer=i) for i in range(4097)]
    assert len(time_program(program(b"".join(marks[:-1])), PARALLEL)["layer_times"]) <= 4097
    with pytest.raises(ProgramError, match=r"instruction 4096 \(MARK\): marks one layer more than 4096"):
        time_program(program(b"".join(marks)), PARALLEL)
    # Any number of MARKs of the same layers.
    assert time_program(program(b"".join(marks[:4]) * (N // 4)), PARALLEL)["cycles"] > 0


def test_tables_of_a_serial_depthwise_layer_stay_small() -> None:
    """255 output rows at once of 1024 filters with one kept row of 961 each: entries for kept rows alone."""
    serial = dict(line.split("=") for line in SERIAL.split())
    changes = {"m_slices": 1024, "c_lines": 256, "f_lanes": 1, "lanes_per_line": 1, "lines_per_re": 1}
    config = "".join(f"{k}={v}\n" for k, v in {**serial, **changes}.items())
    codes = {f"code{i}": 0x10 for i in range(16)}
    form = {"wmode": 5, "rowkind": 1, "s": 1, "group_tiles": 15, "kept_rows": 1, "cg": 1, "mg": 1}
    words = {Mem.INP: 64, Mem.CODE: 3000, Mem.BASIS: 1024, Mem.IDX: 64}
    bitmaps = np.zeros((8, 8 * 16), np.uint8)
    bitmaps[:, 0] = 1
    operands = [np.zeros(1 << 16, np.uint8), bitmaps, OPERANDS[1]]
    loads = [encode("LOAD", mem=m, seg=int(m == Mem.IDX), x=n, y=1, z=1) for m, n in words.items()]
    rest = [
        encode("FENCE"),
        encode("SETW", n_ky=31, n_kx=31, **form, **codes),
        encode("GEMM", acc_init=1, n_oy=255, n_ox=1, n_m=1024),
        encode("FINISH"),
    ]
    data = Program((*loads, *rest), tuple(o.nbytes for o in operands), words | {Mem.ACC: 1}).to_bytes()
    out = run_program(data, config, operands, "timed")
    assert out["class_cycles"]["GEMM"] < 10**4


def test_listing_of_values_without_a_name() -> None:
    """The listing shows what the simulator refuses."""
    line = disassemble(Program((encode("ALU", op=15, b_src=7, n0=1), encode("FINISH")), (16,)))
    assert "op=15 b_src=7" in line.replace("a_mem=INP ", "")
    assert AluOp(11).name == "ABS"
