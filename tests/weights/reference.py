"""docs/weights.md transcribed one nibble at a time, and random weights to try it on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from sd_tvm.weights.alphabet import ALPHABETS
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import SDWeight, WeightForm

KEPT = {"8:16": 8, "4:16": 4, "2:16": 2}


def pack_slowly(weight: SDWeight) -> dict[str, np.ndarray[Any, Any]]:
    """Packed arrays by plain loops."""
    form, (m_all, r_all, s) = weight.form, weight.coef.shape
    mags = list(ALPHABETS[form.alphabet].magnitudes)
    indexed = form.pattern in KEPT
    planes = s + 1 if indexed else s

    def nibble(value: int) -> int:
        return mags.index(abs(value)) + (8 if value < 0 else 0)

    bitmap: dict[int, list[int]] = {}
    if form.pattern == "shared":
        for g in range((m_all + form.group_filters - 1) // form.group_filters):
            members = range(g * form.group_filters, min(m_all, (g + 1) * form.group_filters))
            rows = [r for r in range(r_all) if any(weight.coef[m, r].any() for m in members)]
            free = [r for r in range(r_all) if r not in rows]
            bitmap[g] = sorted(rows + free[: form.kept_rows - len(rows)])

    slots: list[list[list[int]]] = []  # [filter][slot] -> nibbles
    for m in range(m_all):
        filter_slots: list[list[int]] = []
        if form.pattern == "16:16":
            filter_slots = [[nibble(int(c)) for c in row] for row in weight.coef[m]]
        elif form.pattern == "shared":
            kept = bitmap[m // form.group_filters]
            filter_slots = [[nibble(int(c)) for c in weight.coef[m, r]] for r in kept]
        else:
            n = KEPT[form.pattern]
            for block in range((r_all + 15) // 16):
                here = []
                for r in range(16 * block, min(r_all, 16 * block + 16)):
                    if weight.coef[m, r].any():
                        here.append([r - 16 * block] + [nibble(int(c)) for c in weight.coef[m, r]])
                filter_slots += here + [[0] * planes] * (n - len(here))
        while len(filter_slots) % 4:
            filter_slots.append([0] * planes)
        slots.append(filter_slots)

    quads = len(slots[0]) // 4
    codes = np.zeros(((m_all + 7) // 8, quads, 16 * planes), np.uint8)
    for m in range(m_all):
        for j, values in enumerate(slots[m]):
            lane = 4 * (m % 8) + j % 4
            unit = codes[m // 8, j // 4]
            for p, value in enumerate(values):
                if p == planes - 1 and planes % 2:
                    unit[32 * (p // 2) + lane % 16] |= value << (4 if lane >= 16 else 0)
                else:
                    unit[32 * (p // 2) + lane] |= value << (4 * (p % 2))

    basis = np.zeros((len(weight.basis), (s * s + 15) // 16 * 16), np.int8)
    for b, matrix in enumerate(weight.basis):
        for k in range(s):
            for t in range(s):
                basis[b, k * s + t] = matrix[k, t]
    table = np.array(mags + [-v for v in mags], np.int8)
    out: dict[str, np.ndarray[Any, Any]] = {"codes": codes, "basis": basis, "table": table}
    if form.pattern == "shared":
        out["bitmap"] = np.zeros((len(bitmap), ((r_all + 7) // 8 + 15) // 16 * 16), np.uint8)
        for g, kept in bitmap.items():
            for r in kept:
                out["bitmap"][g, r // 8] |= 1 << (r % 8)
    if form.basis_kind == "codebook":
        assert weight.ids is not None
        out["ids"] = np.zeros((m_all + 15) // 16 * 16, np.uint8)
        out["ids"][:m_all] = weight.ids
    return out


def store_slowly(weight: SDWeight) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a file by plain loops; bits are kept as a text of 0 and 1, lowest first."""
    form, (m_all, r_all, s) = weight.form, weight.coef.shape
    packed = pack_slowly(weight)
    out = {name: packed[name] for name in packed if name not in ("codes", "table")} | {"scale": weight.scale}
    levels = [0]
    for magnitude in ALPHABETS[form.alphabet].magnitudes[1:]:
        levels += [magnitude, -magnitude] if magnitude else []
    bits = 0
    while 2**bits < len(levels) ** s:
        bits += 1

    def number(m: int, r: int) -> str:
        value = sum(levels.index(int(c)) * len(levels) ** k for k, c in enumerate(weight.coef[m, r]))
        return "".join(str(value >> i & 1) for i in range(bits))

    places, rows = "", ""
    for m in range(m_all):
        if form.pattern == "16:16":
            rows += "".join(number(m, r) for r in range(r_all))
        elif form.pattern == "shared":
            bitmap = packed["bitmap"][m // form.group_filters]
            rows += "".join(number(m, r) for r in range(r_all) if bitmap[r // 8] >> r % 8 & 1)
        else:
            keep = KEPT[form.pattern]
            for first in range(0, r_all, 16):
                here = [r for r in range(first, min(first + 16, r_all)) if weight.coef[m, r].any()]
                if keep == 2:
                    index = [r - first for r in here] + [0] * (keep - len(here))
                    places += "".join(str(i >> b & 1) for i in index for b in range(4))
                else:
                    places += "".join("1" if first + b in here else "0" for b in range(16))
                rows += "".join(number(m, r) for r in here) + "0" * bits * (keep - len(here))
    text = places + rows + "0" * (-len(rows) % 8)
    out["rows"] = np.array([int(text[i : i + 8][::-1], 2) for i in range(0, len(text), 8)], np.uint8)
    out["basis"] = packed["basis"][:, : s * s]
    if "bitmap" in out:
        out["bitmap"] = out["bitmap"][:, : (r_all + 7) // 8]
    if "ids" in out:
        out["ids"] = out["ids"][:m_all]
    return out


def random_weight(shape: tuple[int, int, int, int], form: WeightForm, n_bases: int, seed: int) -> SDWeight:
    """A weight of this form with random contents and random zero rows."""
    rng = np.random.default_rng(seed)
    geometry = RowGeometry(shape)
    m, r, s = shape[0], geometry.rows, geometry.s
    mags = np.array(ALPHABETS[form.alphabet].magnitudes)
    coef = rng.choice(np.concatenate([mags, -mags]), (m, r, s)).astype(np.int8)
    coef[rng.random((m, r)) < rng.choice([0.0, 0.3, 0.9, 1.0])] = 0
    for i in range(m):
        if form.pattern in KEPT:
            for start in range(0, r, 16):
                n = min(16, r - start)
                drop = rng.permutation(n)[rng.integers(0, KEPT[form.pattern] + 1) :]
                coef[i, start + drop] = 0
        if form.pattern == "shared":
            group = np.random.default_rng([seed, i // form.group_filters])
            coef[i, group.permutation(r)[group.integers(0, form.kept_rows + 1) :]] = 0
    if form.basis_kind == "slice":
        n_bases = m * -(-r // form.slice_rows)
    elif form.basis_kind == "filter":
        n_bases = m
    basis = rng.integers(-128, 128, (n_bases, s, s)).astype(np.int8)
    scale = rng.random(m).astype(np.float32) + np.float32(0.01)
    ids = rng.integers(0, n_bases, m).astype(np.uint8) if form.basis_kind == "codebook" else None
    return SDWeight(shape, form, coef, basis, scale, ids)


@st.composite
def weights(draw: st.DrawFn, alphabets: Sequence[str] = tuple(ALPHABETS)) -> SDWeight:
    """SD weights of every pattern, alphabet, basis kind and odd shape."""
    m = draw(st.integers(1, 40))
    cg = draw(st.integers(1, 70))
    kh = draw(st.sampled_from([1, 1, 2, 3, 5]))
    kw = draw(st.sampled_from([1, 1, 2, 3, 5, 7, 8, 9]))
    shape = (m, cg, kh, kw)
    rows = RowGeometry(shape).rows
    pattern = draw(st.sampled_from(["16:16", "8:16", "4:16", "2:16", "shared"]))
    basis_kind = draw(st.sampled_from(["filter", "slice", "codebook"]))
    form = WeightForm(
        pattern=pattern,
        alphabet=draw(st.sampled_from(sorted(alphabets))),
        basis_kind=basis_kind,
        slice_rows=draw(st.sampled_from([16, 32, 64])) if basis_kind == "slice" else 0,
        kept_rows=draw(st.integers(1, rows)) if pattern == "shared" else 0,
        group_filters=draw(st.sampled_from([16, 32])) if pattern == "shared" else 0,
    )
    return random_weight(shape, form, draw(st.integers(1, 20)), draw(st.integers(0, 2**32 - 1)))
