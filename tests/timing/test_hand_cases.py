"""The hand-computed cases U1..U11 of docs/accelerator.md on the unit machine (tests/timing/unit.yaml)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from timing.asm import Timer, alu, gemm, load, op, setw, store

from sd_tvm.accelerator.isa.spec import WMode
from sd_tvm.errors import DeadlockError

SETW_CYCLES = 2  # decode and one cycle for the table


@pytest.fixture
def unit() -> Timer:
    return Timer()


def gemm_cycles(timer: Timer, form: Any, product: Any) -> int:
    return timer.cycles([form, product]) - SETW_CYCLES


def test_u1_aligned_load(unit: Timer) -> None:
    assert unit.cycles([load(4)]) == 1 + 20 + 8


def test_u2_strided_load_with_padding(unit: Timer) -> None:
    # 3 rows of 32 B, 96 B apart; 4 pad words below.
    assert unit.cycles([load(2, 3, stride=6, pad_b=2)]) == 1 + 20 + (4 + 4 + 4 + 2) + 4


def test_u3_unaligned_load(unit: Timer) -> None:
    # 112 B from byte 48: bursts of 16, 64 and 32 B.
    assert unit.cycles([load(7, address=3)]) == 1 + 20 + (2 + 8 + 4 + 2)


def test_contiguous_rows_are_one_row(unit: Timer) -> None:
    # The study joins every two rows by a gap; a DMA engine sees that nothing lies between them.
    assert unit.cycles([load(1, 4, stride=1)]) == unit.cycles([load(4)])
    assert unit.cycles([load(1, 2, 2, stride=1, dram_zs=2)]) == unit.cycles([load(4)])
    assert unit.cycles([load(1, 4, stride=5)]) == 1 + 20 + 4 * 2 + 3


@pytest.mark.parametrize(("channels", "cycles"), [(48, 33), (12, 17)])
def test_u4_raw_gemm(unit: Timer, channels: int, cycles: int) -> None:
    # G = 2 groups of 4 pixels x 8 filters. K = 12: 1 + 4 + 2 * 12 + 4. K = 3 waits for the drain: 4.
    assert gemm_cycles(unit, setw(cg=channels), gemm(8, 8)) == cycles


@pytest.mark.parametrize(
    ("mode", "port", "cycles"),
    [(WMode.N4, 64, 20), (WMode.DENSE, 64, 36), (WMode.N4, 16, 36), (WMode.RAW8, 64, 33)],
)
def test_u5_coded_gemm(unit: Timer, mode: WMode, port: int, cycles: int) -> None:
    # 4:16 keeps one row a line: K = max(3 steps, 3 rebuild, 192 B / port); a 16 B port leaves no gain.
    unit.overrides["port_bytes_per_cycle"] = port
    assert gemm_cycles(unit, setw(mode, cg=48), gemm(8, 8)) == cycles


def test_u7_alu(unit: Timer) -> None:
    assert unit.cycles([alu(16)]) == 1 + 2 + 16
    assert unit.cycles([alu(16, "ADD", two_acc=True)]) == 1 + 2 + 2 * 16


def tile(load_words: int, *, waits: tuple[int, ...] = (), free: tuple[int, ...] = ()) -> list[Any]:
    """LOAD -> GEMM -> ALU -> STORE; the GEMM frees the input buffer."""
    return [
        load(load_words, waits=waits, signals=(0,)),
        gemm(8, 8, waits=(0,), signals=(1, *free)),
        alu(8, waits=(1,), signals=(2,)),
        store(4, waits=(2,)),
    ]


def test_u8_chain(unit: Timer) -> None:
    assert unit.cycles([setw(cg=48), *tile(4)]) == 29 + 33 + 11 + 17 == 90


def tiles(n: int, nbuf: int, load_words: int) -> list[Any]:
    out = [setw(cg=48)]
    for i in range(n):
        # The buffer of tile i is free once the GEMM of tile i - nbuf has ended.
        out += tile(load_words, waits=(3,) if i >= nbuf else (), free=(3,) if i + nbuf < n else ())
    return out


@pytest.mark.parametrize(
    ("load_words", "nbuf", "cycles"),
    [(4, 1, 4 * 62 + 28), (4, 2, 29 + 4 * 33 + 28), (4, 3, 189), (64, 1, 816), (64, 2, 4 * 164 + 61)],
)
def test_u9_u10_double_buffering(unit: Timer, load_words: int, nbuf: int, cycles: int) -> None:
    assert unit.cycles(tiles(4, nbuf, load_words)) == cycles


def test_u9_outstanding_loads_hide_latency(unit: Timer) -> None:
    # With a second transfer in flight latency is paid once: 21 + 4 * 143, then GEMM, ALU, STORE.
    unit.overrides["dram_outstanding"] = 2
    assert unit.cycles(tiles(4, 2, 64)) == 21 + 4 * 143 + 61


def test_u11_deadlock_names_the_heads(unit: Timer) -> None:
    ops = [setw(cg=48), load(4, waits=(5,), signals=(6,)), gemm(8, 8, waits=(6,), signals=(5,))]
    with pytest.raises(
        DeadlockError, match=r"instruction 1 \(LOAD\).*semaphore 5.*instruction 2 \(GEMM\).*semaphore 6"
    ):
        unit.cycles(ops)


def test_real_layer(unit: Timer) -> None:
    # 1x1, 320 -> 1280 at 7x7 on the default array: 7 * 20 groups; raw K = 20 * 8, 4:16 K = 2 rows * 24.
    unit.overrides |= {
        "m_slices": 64,
        "c_lines": 16,
        "f_lanes": 8,
        "lanes_per_line": 1,
        "lines_per_re": 8,
        "port_bytes_per_cycle": 512,
    }
    overhead = 1 + 4 + 7
    assert gemm_cycles(unit, setw(cg=320), gemm(1280, 7, 7)) == 140 * 160 + overhead
    assert gemm_cycles(unit, setw(WMode.N4, cg=320), gemm(1280, 7, 7)) == 140 * 48 + 24 + overhead


def test_fold_splits_lines_over_pixels(unit: Timer) -> None:
    # 3 channels use 3 of 16 lines; fold 4 gives each of 4 pixel groups 4 lines. Drain: 16 values a slice.
    unit.overrides |= {"c_lines": 16, "port_bytes_per_cycle": 512}
    raw = setw(cg=3, ky=3, kx=3)
    assert gemm_cycles(unit, raw, gemm(8, 32)) == 1 + 4 + 8 * 9 + 4
    unit.overrides["fold_mask"] = 1 + 4
    assert gemm_cycles(unit, raw, gemm(8, 32)) == 1 + 4 + 2 * 16 + 16
    # Fold 2 is better: 4 groups of 9 cycles against 2 that drain for 16. The sequencer takes it.
    unit.overrides["fold_mask"] = 1 + 2 + 4
    assert gemm_cycles(unit, raw, gemm(8, 32)) == 1 + 4 + 4 * 9 + 8


def test_depthwise_spreads_kernel_rows_over_lines(unit: Timer) -> None:
    # 16 lines hold 5 output rows x 3 kernel rows; 3 steps; 10 rows: 2 x 2 groups, 20 values to drain each.
    unit.overrides |= {"c_lines": 16, "port_bytes_per_cycle": 512}
    assert (
        gemm_cycles(unit, setw(cg=1, mg=1, ky=3, kx=3), gemm(8, 8, 10, inp_oy=10, inp_ky=10))
        == 1 + 4 + 4 * 20 + 20
    )


def test_output_is_json_of_integers(unit: Timer) -> None:
    def check(value: Any) -> None:
        for v in value.values() if isinstance(value, dict) else value:
            check(v) if isinstance(v, dict | list) else None
            assert isinstance(v, dict | list | int), v

    out = unit([setw(cg=48), *tile(4), op("MARK", layer=7), *tile(4)], trace=True)
    assert out.pop("mode") == "timed"
    check(out)
    assert json.dumps(out) == json.dumps(json.loads(json.dumps(out)))
