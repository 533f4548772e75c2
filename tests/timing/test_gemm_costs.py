"""Closed forms of single instructions against enumeration, on random shapes and machines."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from timing import costs
from timing.asm import Op, Timer, gemm, load, op, setw, store

from sd_tvm.accelerator.isa.spec import AccInit, Mem, WMode

SHAPES = {
    "m_slices": st.sampled_from([1, 4, 8, 64]),
    "c_lines": st.sampled_from([8, 16]),
    "f_lanes": st.sampled_from([4, 8]),
    "lanes_per_line": st.sampled_from([1, 2, 4]),
    "fold_mask": st.sampled_from([1, 3, 7, 5]),
    "lines_per_re": st.sampled_from([1, 2, 8]),
    "port_bytes_per_cycle": st.sampled_from([16, 100, 512]),
    "drain_values_per_cycle": st.sampled_from([1, 3]),
}
DRAM = {
    "dram_bytes_per_cycle": st.sampled_from([1, 8, 16, 24, 64]),
    "dram_burst_bytes": st.sampled_from([16, 64, 256]),
    "dram_gap_cycles": st.integers(0, 3),
    "dram_efficiency_percent": st.sampled_from([100, 95, 60]),
}


def machine(timer: Timer) -> dict[str, int]:
    return {k: int(v) for k, v in (line.split("=") for line in timer.text().split())}


@st.composite
def gemms(draw: st.DrawFn) -> tuple[Op, Op]:
    mode = draw(st.sampled_from(list(WMode)))
    depthwise = draw(st.booleans())
    ky, kx = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    cg = 1 if depthwise else draw(st.integers(2, 40))
    mg = draw(st.sampled_from([1, 2] if depthwise else [2, 5, 16, 4096]))
    taps = mode != WMode.RAW8 and kx > 1
    s = kx if taps else 3
    rows = cg * ky if taps else -(-cg // 3) * ky * kx
    form = setw(
        mode,
        cg=cg,
        mg=mg,
        ky=ky,
        kx=kx,
        s=s,
        taps=taps,
        inp_kx=draw(st.integers(1, 3)),
        kept_rows=draw(st.integers(1, rows)) if mode == WMode.SHARED else 0,
        group_tiles=1,
        slice_blocks=draw(st.integers(0, 2)),
        code3=draw(st.sampled_from([0x10, 0x18])),
    )
    ox = draw(st.integers(1, 3))
    product = gemm(
        draw(st.integers(1, 70)),
        draw(st.integers(1, 20)),
        draw(st.integers(1, 4)),
        m_base=16 * draw(st.integers(0, 3)),
        acc_init=draw(st.sampled_from(list(AccInit))),
        inp_ox=ox,
        inp_oy=50 * draw(st.integers(1, 3)),
        inp_ky=50 * draw(st.integers(1, 2)),
    )
    return form, product


def compare(timer: Timer, ops: list[Op], cycles: int, events: dict[str, int]) -> None:
    out = timer(ops)
    assert out["cycles"] == cycles
    ours = {k: v for k, v in out["events"].items() if v and k != "dram_read_instruction_bytes"}
    assert ours == {k: v for k, v in events.items() if v}


@settings(max_examples=400)
@given(gemms(), st.fixed_dictionaries(SHAPES))
def test_gemm(pair: tuple[Op, Op], shape: dict[str, int]) -> None:
    timer = Timer(overrides=shape)
    form, product = pair
    expected = costs.gemm(machine(timer), product.fields, form.fields)
    compare(timer, [form, product], timer.cycles([form]) + expected.cycles, expected.events)
    array = timer([form, product])["array_cycles"]
    assert {k: v for k, v in array.items() if v} == {k: v for k, v in expected.array.items() if v}


@settings(max_examples=150)
@given(gemms(), st.fixed_dictionaries(SHAPES))
def test_a_larger_array_is_never_slower(pair: tuple[Op, Op], shape: dict[str, int]) -> None:
    # Twice the slices, not any number of more: 6 filters in 3 + 3 can beat 4 + 2 where the port is narrow.
    for key, values in {
        "m_slices": [1, 2, 4, 8, 16, 64],
        "port_bytes_per_cycle": [8, 16, 100, 512],
        "drain_values_per_cycle": [1, 2, 4],
        "fold_mask": [1, 3, 7],
        "lanes_per_line": [1, 2, 3, 4],
        "lines_per_re": [8, 4, 2, 1],
    }.items():
        times = [Timer(overrides=shape | {key: value}).cycles(list(pair)) for value in values]
        assert times == sorted(times, reverse=True), key


@st.composite
def boxes(draw: st.DrawFn) -> dict[str, Any]:
    x, y, z = draw(st.integers(1, 20)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    stride = draw(st.sampled_from([x, x, x + 1, x + 5, x + 16]))
    plane = draw(st.sampled_from([y * stride, y * stride + 3, y * stride + 64]))
    return {"x": x, "y": y, "z": z, "dram_ys": stride, "dram_zs": plane, "dram": draw(st.integers(0, 40))}


@settings(max_examples=300)
@given(boxes(), st.fixed_dictionaries(DRAM), st.integers(0, 2), st.integers(0, 3))
def test_transfers(f: dict[str, Any], dram: dict[str, int], pad: int, mem: int) -> None:
    timer = Timer(overrides=dram)
    m = machine(timer)
    skip = f["dram"] % 4
    kinds = [{"mem": Mem.INP}, {"mem": Mem.CODE}, {"mem": Mem.ACC, "xform": 1}, {"mem": Mem.INP, "xform": 2}]
    up = Op("LOAD", {**f, **kinds[mem], "pad_l": pad, "pad_t": pad}, flags=2 * skip if mem == 3 else 0)
    words = f["z"] * (f["x"] + pad) * (f["y"] + pad)
    data = 16 * f["x"] * f["y"] * f["z"]
    loaded = 16 * -(-(skip + f["x"]) // 4) * f["y"] * f["z"] if mem == 3 else data
    kind = "weight" if mem == 1 else "activation"
    events = {
        f"dram_read_{kind}_bytes": loaded,
        f"{['inp', 'code', 'acc', 'inp'][mem]}_write_bytes": words * (64 if mem == 2 else 16),
    }
    compare(timer, [up], sum(costs.load(m, up).values()), events)
    down = Op("STORE", {**f, "mem": Mem.OUT})
    compare(
        timer,
        [down],
        sum(costs.store(m, down).values()),
        {"dram_write_activation_bytes": data, "out_read_bytes": data},
    )


def test_store_from_acc_moves_64_byte_words() -> None:
    timer = Timer()
    assert timer.cycles([store(3, mem=Mem.ACC)]) == timer.cycles([store(12)])


def test_kilobyte_load_needs_its_bandwidth() -> None:
    timer = Timer(overrides={"dram_bytes_per_cycle": 16, "dram_gap_cycles": 0})
    assert timer.cycles([load(64)]) == 1 + 20 + 64
    assert timer.cycles([load(64), op("FENCE"), load(64)]) == 2 * 85
