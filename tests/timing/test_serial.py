"""Bit-serial arrays: Booth digits of the real data, synchronisation, zero vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.kit import Builder
from sim.reference import KEEP, coded_form, raw_form
from timing import serial_reference
from timing.asm import Timer, gemm, setw

from sd_tvm.accelerator.isa.spec import MEMORIES, AccInit, BasisKind, Mem, RowKind, WMode
from sd_tvm.accelerator.simulator import run_program
from sd_tvm.errors import ConfigError

WORDS = dict.fromkeys(Mem, 200) | {Mem.INP: 4000, Mem.CODE: 4000, Mem.ACC: 1000, Mem.LUT: 1}
SERIAL = {"mac_serial": 1, "lines_per_re": 1, "skip_zero_vectors": 0, "gemm_fill_cycles": 4}


def machine(timer: Timer) -> dict[str, int]:
    return {k: int(v) for k, v in (line.split("=") for line in timer.text().split())}


def run(timer: Timer, x: np.ndarray, form: Any, fields: dict[str, int], flags: int = 0) -> dict[str, Any]:
    """Timed run of one GEMM; x: uint8 words (n, 16)."""
    b = Builder(WORDS)
    b.load_all(Mem.INP, x)
    b.load_all(Mem.CODE, form.code)
    b.load_all(Mem.BASIS, form.basis)
    b.load_all(Mem.IDX, form.bitmaps)
    b.add("SETW", flags=flags, **form.setw)
    b.add("GEMM", acc_init=AccInit.ZERO, **fields)
    b.operand(np.zeros((1, 16), np.uint8))
    return run_program(b.program(), timer.text(), b.tensors, "timed")


def test_u6_digits_of_one_line() -> None:
    """U6: two rows of three steps with 4, 1, 0 and 2, 3, 3 digits; K = (4 + 1 + 1) + (2 + 3 + 3) = 14."""
    values = {4: 85, 1: 1, 0: 0, 2: 5, 3: 21}
    assert {d: serial_reference.booth_digits(v) for d, v in values.items()} == {4: 4, 1: 1, 0: 0, 2: 2, 3: 3}
    rng = np.random.default_rng(0)
    # 24 channels are 8 rows of 3: two passes of 4 lines.
    x = np.zeros((8, 16), np.uint8)
    digits = {0: [4, 1, 0], 4: [2, 3, 3]}  # by row: first row of each pass, the other lines hold zeros
    for row, steps in digits.items():
        for t, d in enumerate(steps):
            c = 3 * row + t
            x[c // 16 * 4, c % 16] = values[d]  # one of the four lanes
    form = coded_form(
        rng, WMode.DENSE, 8, 24, 4096, 1, 1, 1,
        kind=RowKind.CHANNELS, s=3, basis_kind=BasisKind.SLICE, slice_blocks=0, group_tiles=0,
    )  # fmt: skip
    fields = {"n_m": 8, "n_ox": 4, "n_oy": 1, "inp_ox": 1, "inp_oy": 4, "inp_ky": 4, "inp_cb": 4, "acc_mb": 4}
    timer = Timer(overrides=SERIAL)
    out = run(timer, x, form, fields)
    # 1 + 4 + 14 + 4, and 3 for the first rebuild.
    assert out["class_cycles"]["GEMM"] == 23 + 3
    assert out["events"]["booth_digits"] == 8 * (4 + 1 + 2 + 3 + 3)
    timer.overrides |= {"skip_zero_vectors": 1}
    assert run(timer, x, form, fields)["class_cycles"]["GEMM"] == 22 + 3
    raw = raw_form(rng, 8, 24, 4096, 1, 1, 1)
    # Raw: 6 passes of 4 channels; the most digits are 4 in the first and 3 in the fourth; the other four hold
    # zeros, but the port still needs a cycle to deliver them.
    assert run(timer, x, raw, fields)["class_cycles"]["GEMM"] == 1 + 4 + (4 + 3 + 4) + 4


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    depthwise = draw(st.booleans())
    return {
        "seed": draw(st.integers(0, 10**6)),
        "mode": draw(st.sampled_from(list(WMode))),
        "cg": 1 if depthwise else draw(st.integers(2, 20)),
        "ky": draw(st.integers(1, 3)),
        "kx": draw(st.integers(1, 3)),
        "n_m": draw(st.integers(1, 20)),
        "n_oy": draw(st.integers(1, 4)),
        "n_ox": draw(st.integers(1, 11)),
        "stride": draw(st.integers(1, 2)),
        "dilation": draw(st.integers(1, 2)),
        "zeros": draw(st.sampled_from([0.0, 0.5, 0.95])),
        "signed": draw(st.booleans()),
        "machine": {
            "m_slices": draw(st.sampled_from([4, 8])),
            "c_lines": draw(st.sampled_from([4, 8])),
            "fold_mask": draw(st.sampled_from([1, 7])),
            "lines_per_re": draw(st.sampled_from([1, 4])),
            "skip_zero_vectors": draw(st.integers(0, 1)),
            "port_bytes_per_cycle": draw(st.sampled_from([16, 512])),
        },
    }


def build(case: dict[str, Any]) -> tuple[np.ndarray, Any, dict[str, int], dict[str, int], list[list[int]]]:
    """Input words, weights, GEMM fields, SETW fields for the reference, rows of each filter's slots."""
    rng = np.random.default_rng(case["seed"])
    cg, ky, kx, mode = case["cg"], case["ky"], case["kx"], case["mode"]
    depthwise = cg == 1
    kind = RowKind.TAPS if kx > 1 else RowKind.CHANNELS
    s = kx if kx > 1 else 3
    mg = 1 if depthwise else 4096
    height = (case["n_oy"] - 1) * case["stride"] + (ky - 1) * case["dilation"] + 1
    width = (case["n_ox"] - 1) * case["stride"] + (kx - 1) * case["dilation"] + 1
    blocks = -(-(case["n_m"] if depthwise else cg) // 16)
    x = rng.integers(0, 256, (blocks, height, width, 16)).astype(np.uint8)
    x[rng.random(x.shape) < case["zeros"]] = 0
    if mode == WMode.RAW8:
        form = raw_form(rng, case["n_m"], cg, mg, ky, kx, case["dilation"])
    else:
        form = coded_form(
            rng, mode, case["n_m"], cg, mg, ky, kx, case["dilation"], kind=kind, s=s,
            basis_kind=BasisKind.SLICE, slice_blocks=0, group_tiles=1,
        )  # fmt: skip
    pixels = case["n_oy"] * case["n_ox"]
    fields = {
        "n_m": case["n_m"], "n_ox": case["n_ox"], "n_oy": case["n_oy"], "inp_ox": case["stride"],
        "inp_oy": case["stride"] * width, "inp_ky": case["dilation"] * width, "inp_cb": height * width,
        "acc_oy": case["n_ox"], "acc_mb": pixels,
    }  # fmt: skip
    w = {**dict.fromkeys((f"code{i}" for i in range(16)), 7), "rowkind": 0, "kept_rows": 0, **form.setw}
    w |= {"pitch": width, "signed": int(case["signed"])}
    return x, form, fields, w, [slot_rows(case, form, w, f) for f in range(case["n_m"])]


def slot_rows(case: dict[str, Any], form: Any, w: dict[str, int], f: int) -> list[int]:
    from timing.costs import rows_of

    mode = case["mode"]
    if mode == WMode.RAW8:
        return list(range(w["n_ky"]))
    rows, slots, s = rows_of(w)
    if mode == WMode.SHARED:
        bits = np.unpackbits(form.bitmaps.reshape(-(-case["n_m"] // 16), -1)[f // 16], bitorder="little")
        return [int(r) for r in np.flatnonzero(bits[:rows])]
    if mode == WMode.DENSE:
        return list(range(slots))
    units = -(-slots // 4)
    code = form.code.reshape(-1, units, 16 * (s + 1))
    index = [int(code[f // 8, slot // 4, 4 * (f % 8) + slot % 4]) & 15 for slot in range(slots)]
    return [slot // KEEP[mode] * 16 + index[slot] for slot in range(slots)]


@settings(max_examples=150)
@given(cases())
def test_against_enumeration(case: dict[str, Any]) -> None:
    x, form, fields, w, rows = build(case)
    if case["mode"] == WMode.SHARED and not w["kept_rows"]:
        return  # a filter without rows: nothing to enumerate
    values = x.view(np.int8) if case["signed"] else x
    blocks, height, width, _ = x.shape
    planes = values.transpose(0, 3, 1, 2).reshape(blocks * 16, height, width)
    named = {k: int(v) for k, v in np.ndenumerate(planes)}
    seen = []
    for domain in range(3):
        timer = Timer(overrides=SERIAL | case["machine"] | {"sync_domain": domain})
        out = run(timer, x.reshape(-1, 16), form, fields, flags=int(case["signed"]))
        array, digits = serial_reference.evaluate(machine(timer), fields, w, named, rows)
        cycles = array.total()
        assert out["class_cycles"]["GEMM"] == cycles
        assert {k: v for k, v in out["array_cycles"].items() if v} == {k: v for k, v in array.items() if v}
        assert out["events"]["booth_digits"] == digits
        assert out["events"]["mac_8x8"] == out["events"]["mac_8x13"] == 0
        seen.append(cycles)
    assert seen == sorted(seen), "lane <= line <= array"


def test_digits_of_every_byte() -> None:
    """Recoding is a representation in base 4; unsigned bytes need up to 5 digits, signed ones 4."""
    for value in range(-128, 256):
        digits = serial_reference.recode(value)
        assert sum(d * 4**i for i, d in enumerate(digits)) == value
        assert serial_reference.booth_digits(value) <= (4 if value < 128 else 5)
    assert serial_reference.booth_digits(255) == 2
    assert serial_reference.booth_digits(0b10101010) == 5


@pytest.mark.parametrize("domain", range(3))
@pytest.mark.parametrize(
    ("mode", "cg", "n_oy", "n_ox", "lanes"), [(WMode.N4, 1600, 44, 64, 4), (WMode.RAW8, 8, 40, 600, 1)]
)
def test_output_rows_add_up(mode: WMode, cg: int, n_oy: int, n_ox: int, lanes: int, domain: int) -> None:
    """A GEMM takes what its output rows take alone.

    The table of its rows is larger than what the simulator keeps (1 MB), that of an output row is not.
    All blocks of 16 channels are the same words.
    """
    rng = np.random.default_rng(5)
    width = n_ox + 2
    x = rng.integers(0, 256, ((n_oy + 2) * width, 16)).astype(np.uint8)
    x[rng.random(x.shape) < 0.8] = 0
    if mode == WMode.RAW8:
        form = raw_form(rng, 1, cg, 4096, 3, 3, 1)
    else:
        form = coded_form(
            rng, mode, 1, cg, 4096, 3, 3, 1, kind=RowKind.TAPS, s=3, basis_kind=BasisKind.SLICE,
            slice_blocks=0, group_tiles=1,
        )  # fmt: skip
    b = Builder(WORDS | {Mem.INP: len(x), Mem.CODE: len(form.code), Mem.ACC: n_oy * n_ox})
    for mem, words in ((Mem.INP, x), (Mem.CODE, form.code), (Mem.BASIS, form.basis)):
        b.load_all(mem, words)
    b.add("SETW", **form.setw)
    shape = {"n_m": 1, "n_ox": n_ox, "inp_ox": 1, "inp_oy": width, "inp_ky": width, "acc_oy": n_ox}
    b.add("MARK", layer=1).add("GEMM", acc_init=AccInit.ZERO, n_oy=n_oy, **shape).add("MARK", layer=2)
    for oy in range(n_oy):
        b.add("GEMM", acc_init=AccInit.ZERO, n_oy=1, inp=oy * width, acc=oy * n_ox, **shape)
    b.operand(np.zeros((1, 16), np.uint8))
    room = {m.config_key: 2048 for m in MEMORIES}
    timer = Timer(
        overrides=SERIAL
        | room
        | {"sync_domain": domain, "f_lanes": lanes, "lanes_per_line": lanes, "fold_mask": 1}
    )
    out = run_program(b.program(), timer.text(), b.tensors, "timed")
    together, alone = (next(r for r in out["layer_times"] if r["layer"] == i) for i in (1, 2))
    assert together["events"]["booth_digits"] == alone["events"]["booth_digits"] > 0
    for bound in ("mac", "port"):
        assert together["array_cycles"][bound] == alone["array_cycles"][bound]
    assert together["array_cycles"]["mac"] > 0


def test_without_data_it_is_an_error() -> None:
    with pytest.raises(ConfigError, match="depend on the data"):
        Timer(overrides=SERIAL).cycles([setw(cg=48), gemm(8, 8)])
