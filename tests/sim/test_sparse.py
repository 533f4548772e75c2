"""GEMMs large enough for the kernels that leave zero rows out, against numpy; extremes; both kernel sets."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.kit import CONFIG, Builder
from sim.reference import Form, coded_form, raw_form

from sd_tvm.accelerator.isa.spec import AccInit, BasisKind, Mem, RowKind, WMode

#: Code tables: (bytes of SETW, values). Pairs with these codes add up in int16 eight, four, one and no times.
EXTREMES = {
    8: ([0x30, 0xB0] * 8, [8, -8] * 8),
    16: ([0x40, 0xC0] * 8, [16, -16] * 8),
    64: ([0x60, 0xE0] * 8, [64, -64] * 8),
    128: ([0x70, 0xF0] * 8, [128, -128] * 8),
}
POSITIVE = ([0x30] * 16, [8] * 16)
ZERO = ([0x07] * 16, [0] * 16)


def geometry(kernel: int, stride: int, dilation: int, n_oy: int, n_ox: int) -> dict[str, int]:
    """Fields of a GEMM on an image without holes."""
    span = dilation * (kernel - 1) + 1
    width, height = (n_ox - 1) * stride + span, (n_oy - 1) * stride + span
    return {
        "n_oy": n_oy,
        "n_ox": n_ox,
        "inp_oy": stride * width,
        "inp_ox": stride,
        "inp_ky": dilation * width,
        "inp_cb": height * width,
        "acc_oy": n_ox,
        "acc_mb": n_oy * n_ox,
    }


def expected(form: Form, f: dict[str, int], x: np.ndarray, bias: np.ndarray, acc: np.ndarray) -> np.ndarray:
    """ACC of the GEMM (all filters of one group), int64 modulo 2^32 as int32."""
    m, cg, n_ky, n_kx = form.weights.shape
    out = acc.astype(np.int64)
    pixel = np.arange(f["n_oy"])[:, None] * f["inp_oy"] + np.arange(f["n_ox"]) * f["inp_ox"]
    at = np.arange(f["n_oy"])[:, None] * f["acc_oy"] + np.arange(f["n_ox"])
    channel = np.arange(cg)
    total = np.zeros((pixel.size, m), np.int64)
    for ky in range(n_ky):
        for kx in range(n_kx):
            word = pixel.ravel() + ky * f["inp_ky"] + kx * form.setw["inp_kx"]
            values = x[channel // 16 * f["inp_cb"] + word[:, None], channel % 16].astype(np.int64)
            total += values @ form.weights[:, :, ky, kx].T
    for i in range(m):
        words = i // 16 * f["acc_mb"] + at.ravel()
        out[words, i % 16] = acc[words, i % 16] + total[:, i] + bias[i]
    return out.astype(np.int32)


def execute(form: Form, f: dict[str, int], x: np.ndarray, init: AccInit, seed: int) -> tuple[Any, Any]:
    """Result of the simulator and what it should be; x: INP words, signed if its dtype is."""
    rng = np.random.default_rng(seed)
    m = len(form.weights)
    words = -(-m // 16) * f["acc_mb"]
    acc = np.zeros((words, 16), np.int32)
    if init == AccInit.KEEP:
        acc = rng.integers(-(2**31), 2**31, (words, 16)).astype(np.int32)
    qp = np.zeros((-(-m // 16) * 16, 4), np.int32)
    qp[:m, 0] = rng.integers(-(2**31), 2**31, m)
    idx = np.concatenate([form.bitmaps, form.ids])
    operands = {
        Mem.INP: x.view(np.uint8),
        Mem.ACC: acc,
        Mem.CODE: form.code,
        Mem.BASIS: form.basis,
        Mem.IDX: idx,
        Mem.QP: qp,
    }
    builder = Builder({mem: len(array) for mem, array in operands.items()})
    for mem, array in operands.items():
        builder.load_all(mem, np.ascontiguousarray(array))
    builder.add("SETW", flags=int(x.dtype == np.int8), **form.setw)
    builder.add("GEMM", n_m=m, acc_init=init, ids=len(form.bitmaps), **f)
    result = np.zeros_like(acc)
    builder.add("STORE", mem=Mem.ACC, seg=builder.operand(result), x=words, y=1, z=1)
    builder.run(CONFIG)
    bias = qp[:, 0].astype(np.int64) if init == AccInit.BIAS else np.zeros(len(qp), np.int64)
    want = expected(form, f, x, bias, acc)
    lanes = np.arange(m)
    select = (lanes // 16)[:, None] * f["acc_mb"] + np.arange(f["acc_mb"]), lanes[:, None] % 16
    return result[select], want[select]


def random_form(
    rng: np.random.Generator,
    mode: WMode,
    m: int,
    cg: int,
    kernel: int,
    dilation: int,
    basis_kind: BasisKind = BasisKind.SLICE,
    **more: Any,
) -> Form:
    """Rows of taps, or rows of three channels for 1x1."""
    if mode == WMode.RAW8:
        return raw_form(rng, m, cg, m, kernel, kernel, dilation)
    taps = kernel > 1
    return coded_form(
        rng,
        mode,
        m,
        cg,
        m,
        kernel,
        kernel,
        dilation,
        kind=RowKind.TAPS if taps else RowKind.CHANNELS,
        s=kernel if taps else 3,
        basis_kind=basis_kind,
        group_tiles=2,
        **more,
    )


def image(
    rng: np.random.Generator, f: dict[str, int], cg: int, kernel: int, dilation: int, dtype: Any
) -> np.ndarray:
    """Random INP words, lanes beyond the channels included."""
    span = (kernel - 1) * (f["inp_ky"] + dilation)
    words = (-(-cg // 16) - 1) * f["inp_cb"] + f["inp_cb"]
    assert span < words
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, (words, 16)).astype(dtype)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    mode=st.sampled_from(list(WMode)),
    kernel=st.sampled_from([1, 1, 2, 3, 3, 5, 7]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(1, 12), st.integers(1, 40)),
    channels=st.tuples(st.integers(1, 40), st.integers(2, 100)),
    init=st.sampled_from(list(AccInit)),
    dtype=st.sampled_from([np.uint8, np.int8]),
    basis_kind=st.sampled_from(list(BasisKind)),
    slice_blocks=st.integers(0, 2),
)
def test_random_shapes(
    seed: int,
    mode: WMode,
    kernel: int,
    stride: int,
    dilation: int,
    size: tuple[int, int],
    channels: tuple[int, int],
    init: AccInit,
    dtype: Any,
    basis_kind: BasisKind,
    slice_blocks: int,
) -> None:
    rng = np.random.default_rng(seed)
    m, cg = channels
    cg = max(2, min(cg, 300 // kernel**2, 40000 // (size[0] * size[1] * stride * stride)))
    f = geometry(kernel, stride, dilation, *size)
    if f["inp_cb"] * -(-cg // 16) > 4000 or f["acc_mb"] * -(-m // 16) > 4000 or f["inp_ky"] > 8000:
        f = geometry(kernel, 1, 1, 5, 7)
        dilation = 1
    form = random_form(rng, mode, m, cg, kernel, dilation, basis_kind, slice_blocks=slice_blocks)
    got, want = execute(form, f, image(rng, f, cg, kernel, dilation, dtype), init, seed)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("mode", [WMode.DENSE, WMode.N8, WMode.N4, WMode.N2, WMode.SHARED])
@pytest.mark.parametrize("largest", sorted(EXTREMES))
def test_extremes(mode: WMode, kernel: int, largest: int) -> None:
    """Largest inputs times largest codes of one sign: no sum wraps where it should not."""
    rng = np.random.default_rng(largest)
    f = geometry(kernel, 1, 1, 3, 11)
    for table in (EXTREMES[largest], POSITIVE, ZERO):
        form = random_form(rng, mode, 17, 64, kernel, 1, slice_blocks=0, table=table)
        for fill in (0, 127, -128, 255):
            x = np.full((4 * f["inp_cb"], 16), fill % 256, np.uint8)
            signed = x.view(np.int8) if fill in (127, -128) else x
            got, want = execute(form, f, signed, AccInit.ZERO, 1)
            np.testing.assert_array_equal(got, want)


def digest() -> str:
    """Hash of the results of some GEMMs."""
    total = hashlib.sha256()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        mode, kernel = list(WMode)[seed % 6], int(rng.choice([1, 3, 5]))
        stride = int(rng.integers(1, 3))
        f = geometry(kernel, stride, 1, int(rng.integers(1, 8)), int(rng.integers(1, 30)))
        form = random_form(rng, mode, 20, 40 // kernel, kernel, 1, slice_blocks=seed % 3)
        dtype = (np.uint8, np.int8)[seed % 2]
        got, want = execute(form, f, image(rng, f, 40 // kernel, kernel, 1, dtype), AccInit.BIAS, seed)
        np.testing.assert_array_equal(got, want)
        total.update(np.ascontiguousarray(got).tobytes())
    return total.hexdigest()


def test_portable_kernels_agree() -> None:
    env = {**os.environ, "SD_KERNELS": "portable", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    script = "from sim.test_sparse import digest; print(digest())"
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest()
