"""LOAD and STORE against NumPy: boxes, strides, pads, widening."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.kit import WORD_BYTES, Builder

from sd_tvm.accelerator.isa.spec import Mem, Xform


@st.composite
def loads(draw: Any) -> dict[str, int]:
    mem = draw(st.sampled_from([Mem.ACC, Mem.OUT]))
    widen = mem == Mem.ACC and draw(st.booleans())
    step = 4 if mem == Mem.ACC and not widen else 1
    f = {k: draw(st.integers(0, 2)) for k in ("pad_l", "pad_r", "pad_t", "pad_b")}
    f |= {
        "mem": mem,
        "xform": Xform.WIDEN if widen else Xform.COPY,
        "flags": int(widen and draw(st.booleans())),
    }
    f |= {"x": step * draw(st.integers(0, 4)), "y": draw(st.integers(0, 3)), "z": draw(st.integers(1, 3))}
    f |= {
        "dram": draw(st.integers(0, 5)),
        "sram": draw(st.integers(0, 5)),
        "pad_value": draw(st.integers(0, 255)),
    }
    f |= {"dram_ys": draw(st.integers(0, 20)), "dram_zs": draw(st.integers(0, 50))}
    f |= {"sram_ys": draw(st.integers(0, 9)), "sram_zs": draw(st.integers(0, 60))}
    if f["x"] // step + f["pad_l"] + f["pad_r"] == 0:
        f["pad_l"] = 1
    if f["y"] + f["pad_t"] + f["pad_b"] == 0:
        f["pad_t"] = 1
    return f


@settings(max_examples=120)
@given(f=loads(), seed=st.integers(0, 2**32 - 1))
def test_load(f: dict[str, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = 250
    dram = rng.integers(0, 256, (300, 16)).astype(np.uint8)
    initial = rng.integers(0, 256, (words, WORD_BYTES[f["mem"]])).astype(np.uint8)
    builder = Builder({f["mem"]: words})
    builder.load_all(f["mem"], initial)
    builder.add("LOAD", seg=builder.operand(dram), **f)
    result = np.zeros_like(initial)
    builder.add("STORE", mem=f["mem"], seg=builder.operand(result), x=words, y=1, z=1)
    stats = builder.run()

    expected = initial.copy()
    widen = f["xform"] == Xform.WIDEN
    ratio = 1 if widen else WORD_BYTES[f["mem"]] // 16
    zero = int(np.uint8(f["pad_value"]).view(np.int8)) if f["flags"] else f["pad_value"]
    columns, rows = f["x"] // ratio + f["pad_l"] + f["pad_r"], f["y"] + f["pad_t"] + f["pad_b"]
    for z in range(f["z"]):
        for row in range(rows):
            for column in range(columns):
                y, x = row - f["pad_t"], column - f["pad_l"]
                word = expected[f["sram"] + z * f["sram_zs"] + row * f["sram_ys"] + column]
                if not (0 <= y < f["y"] and 0 <= x < f["x"] // ratio):
                    word[:] = 0 if widen else f["pad_value"]
                    continue
                at = f["dram"] + z * f["dram_zs"] + y * f["dram_ys"] + x * ratio
                data = dram[at : at + ratio].ravel()
                if widen:
                    lanes = (data.view(np.int8) if f["flags"] else data).astype(np.int32) - zero
                    word[:] = lanes.view(np.uint8)
                else:
                    word[:] = data
    np.testing.assert_array_equal(result, expected)
    loaded = f["x"] * f["y"] * f["z"] * 16 + initial.nbytes
    assert stats["bytes"]["dram_read"] == loaded
    assert stats["bytes"]["dram_write"] == result.nbytes


@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_store(data: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mem = data.draw(st.sampled_from([Mem.ACC, Mem.OUT]))
    ratio = WORD_BYTES[mem] // 16
    f = {k: data.draw(st.integers(1, 4)) for k in ("x", "y", "z")}
    f |= {"dram": data.draw(st.integers(0, 5)), "sram": data.draw(st.integers(0, 5))}
    f |= {"dram_ys": data.draw(st.integers(0, 20)), "dram_zs": data.draw(st.integers(0, 80))}
    f |= {"sram_ys": data.draw(st.integers(0, 9)), "sram_zs": data.draw(st.integers(0, 40))}
    content = rng.integers(0, 256, (200, 16 * ratio)).astype(np.uint8)
    result = rng.integers(0, 256, (400, 16)).astype(np.uint8)
    expected = result.copy()
    builder = Builder({mem: 200})
    builder.load_all(mem, content)
    builder.add("STORE", mem=mem, seg=builder.operand(result), **f)
    builder.run()
    for z in range(f["z"]):
        for y in range(f["y"]):
            at = f["dram"] + z * f["dram_zs"] + y * f["dram_ys"]
            word = f["sram"] + z * f["sram_zs"] + y * f["sram_ys"]
            expected[at : at + f["x"] * ratio] = content[word : word + f["x"]].reshape(-1, 16)
    np.testing.assert_array_equal(result, expected)
