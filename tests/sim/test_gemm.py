"""GEMM against plain Python: every weight mode, row kind, basis kind, kernel, stride, dilation, grouping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.kit import Builder
from sim.reference import KEEP, Form, coded_form, gemm, raw_form

from sd_tvm.accelerator.isa.spec import AccInit, BasisKind, Mem, RowKind, WMode


@st.composite
def cases(draw: Any, modes: tuple[WMode, ...]) -> tuple[Form, dict[str, int], int, bool]:
    """A weight form, the fields of a GEMM on it, a seed and whether activations are signed."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    mode = draw(st.sampled_from(modes))
    ky, kx = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3, 20]))
    depthwise = groups == 20
    cg = 1 if depthwise else draw(st.integers(1, 24))
    mg = draw(st.integers(1, 2)) if depthwise else draw(st.integers(1, 40))
    m = groups * mg
    inp_kx = draw(st.integers(1, 2))
    if mode == WMode.RAW8:
        form = raw_form(rng, m, cg, mg, ky, kx, inp_kx)
    else:
        kind = draw(st.sampled_from(list(RowKind)))
        form = coded_form(
            rng,
            mode,
            m,
            cg,
            mg,
            ky,
            kx,
            inp_kx,
            kind=kind,
            s=kx if kind == RowKind.TAPS else draw(st.sampled_from([1, 2, 3, 4, 7, 16])),
            basis_kind=draw(st.sampled_from(list(BasisKind))),
            slice_blocks=draw(st.integers(0, 2)),
            group_tiles=draw(st.integers(1, 2)),
        )
    n_oy, n_ox, stride = draw(st.integers(1, 3)), draw(st.integers(1, 7)), draw(st.integers(0, 2))
    width = (n_ox - 1) * stride + (kx - 1) * inp_kx + 1
    height = (n_oy - 1) * 2 + (ky - 1) + 1
    base = 16 * draw(st.integers(0, (m - 1) // 16))
    n_m = draw(st.integers(1, m - base))
    acc_oy = n_ox + draw(st.integers(0, 2))
    fields = {
        "m_base": base,
        "n_m": n_m,
        "n_oy": n_oy,
        "n_ox": n_ox,
        "inp_oy": 2 * width,
        "inp_ox": stride,
        "inp_ky": width,
        "inp_cb": height * width,
        "acc_oy": acc_oy,
        "acc_mb": n_oy * acc_oy,
        "acc": draw(st.integers(0, 5)),
        "inp": draw(st.integers(0, 3)),
    }
    return form, fields, seed, draw(st.booleans())


def _offsets(form: Form, base: int) -> dict[str, int]:
    """Words of filter `base` in CODE, BASIS, IDX."""
    setw = form.setw
    if setw["wmode"] == WMode.RAW8:
        return {"code": base // 16 * setw["cg"] * setw["n_ky"] * setw["n_kx"]}
    octets = -(-len(form.weights) // 8)
    out = {"code": base // 8 * (len(form.code) // octets)}
    if setw["basis_kind"] == BasisKind.SLICE:
        out["basis"] = base * (len(form.basis) // len(form.weights))
    if setw["group_tiles"]:
        groups = -(-len(form.weights) // (16 * setw["group_tiles"]))
        out["idx"] = base // 16 // setw["group_tiles"] * (len(form.bitmaps) // groups)
    return out


def _run(
    form: Form, fields: dict[str, int], seed: int, signed: bool, init: AccInit, shift_input: bool
) -> None:
    rng = np.random.default_rng(seed)
    m, setw = len(form.weights), form.setw
    blocks = -(-((m // setw["mg"]) * setw["cg"]) // 16)
    inp = rng.integers(0, 256, (fields["inp"] + blocks * fields["inp_cb"] + 8, 16)).astype(np.uint8)
    acc = rng.integers(-1000, 1000, (fields["acc"] + (m // 16 + 1) * fields["acc_mb"] + 1, 16)).astype(
        np.int32
    )
    qp = np.zeros((-(-m // 16) * 16, 4), np.int32)
    qp[:m, 0] = rng.integers(-(2**20), 2**20, m)
    idx = np.concatenate([form.bitmaps, form.ids])
    builder = Builder(
        {
            Mem.INP: len(inp),
            Mem.ACC: len(acc),
            Mem.CODE: len(form.code),
            Mem.BASIS: len(form.basis),
            Mem.IDX: len(idx),
            Mem.QP: len(qp),
        }
    )
    result = acc.copy()
    loaded, address = inp, fields["inp"]
    if shift_input:
        # Only the blocks that the tile reads are on chip: block 0 has a "negative" address.
        first = fields["m_base"] // setw["mg"] * setw["cg"] // 16
        skip = first * fields["inp_cb"]
        loaded = inp[skip:]
        address = (fields["inp"] - skip) % 65536
    for mem, array in (
        (Mem.INP, loaded),
        (Mem.ACC, acc),
        (Mem.CODE, form.code),
        (Mem.BASIS, form.basis),
        (Mem.IDX, idx),
        (Mem.QP, qp),
    ):
        builder.load_all(mem, np.ascontiguousarray(array))
    offsets = _offsets(form, fields["m_base"])
    offsets["ids"] = len(form.bitmaps) + fields["m_base"] // 16
    builder.add("SETW", flags=int(signed), **setw)
    gemm_fields = {**fields, **offsets, "inp": address, "qp": fields["m_base"], "acc_init": init}
    builder.add("GEMM", **gemm_fields)
    seg = builder.operand(result)
    builder.add("STORE", mem=Mem.ACC, seg=seg, x=len(acc), y=1, z=1)
    stats = builder.run()

    expected = acc.astype(np.int64)
    values = inp.view(np.int8) if signed else inp
    tile = {**fields, "mg": setw["mg"], "inp_kx": setw["inp_kx"]}
    if init != AccInit.KEEP:
        for i in range(-(-fields["n_m"] // 16)):
            for oy in range(fields["n_oy"]):
                at = fields["acc"] + i * fields["acc_mb"] + oy * fields["acc_oy"]
                expected[at : at + fields["n_ox"]] = 0
    gemm(values, expected, form.weights, qp[:, 0] if init == AccInit.BIAS else None, tile)
    np.testing.assert_array_equal(result, expected.astype(np.int32))
    taps = setw["cg"] * setw["n_ky"] * setw["n_kx"]
    assert stats["macs_dense"] == fields["n_m"] * fields["n_oy"] * fields["n_ox"] * taps
    assert stats["macs"] <= stats["macs_dense"]


@pytest.mark.parametrize("mode", list(WMode))
def test_gemm(mode: WMode) -> None:
    @settings(max_examples=25)
    @given(case=cases((mode,)), init=st.sampled_from(list(AccInit)), shift_input=st.booleans())
    def check(case: Any, init: AccInit, shift_input: bool) -> None:
        _run(*case, init, shift_input)

    check()


def test_weights_beyond_int16() -> None:
    """Codes of 192, a basis of -128 and 16 terms reach 393216."""
    rng = np.random.default_rng(0)
    form = coded_form(
        rng,
        WMode.DENSE,
        16,
        16,
        16,
        1,
        1,
        1,
        kind=RowKind.CHANNELS,
        s=16,
        basis_kind=BasisKind.SLICE,
        slice_blocks=0,
        group_tiles=1,
        table=([0x7E, 0xFE] * 8, [192, -192] * 8),
    )
    assert np.abs(form.weights).max() > 32767
    fields = {
        "m_base": 0,
        "n_m": 16,
        "n_oy": 2,
        "n_ox": 3,
        "inp_oy": 3,
        "inp_ox": 1,
        "inp_ky": 1,
        "inp_cb": 6,
        "acc_oy": 3,
        "acc_mb": 6,
        "acc": 0,
        "inp": 0,
    }
    _run(form, fields, 1, False, AccInit.BIAS, False)


def test_forms_cover_every_mode() -> None:
    assert set(KEEP) | {WMode.RAW8, WMode.DENSE, WMode.SHARED} == set(WMode)
