"""An independent reader of versions 1 and 2: docs/format.md and docs/weights.md in NumPy, nothing of sd_tvm.

It trusts its input (the golden file): from the bytes alone it gives rebuilt weights and tensors.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
TYPES = {"F32": "<f4", "U8": "u1", "I8": "i1"}
KEEP = {"8:16": 8, "4:16": 4, "2:16": 2}


def up(n: int, k: int) -> int:
    """Smallest multiple of k that is at least n."""
    return (n + k - 1) // k * k


def load(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """The model's JSON and all arrays."""
    n = int(np.frombuffer(data, "<u8", 1)[0])
    table = json.loads(data[8 : 8 + n])
    metadata = table.pop("__metadata__")
    parts = {}
    for name, entry in table.items():
        begin, end = (8 + n + k for k in entry["data_offsets"])
        parts[name] = np.frombuffer(data[begin:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
    if "sd" in metadata:  # version 1
        return json.loads(metadata["sd"]), parts
    text = json.loads(zlib.decompress(parts["model"].tobytes()))
    tensors = {}
    for dtype, stream in (("F32", "float32"), ("I8", "int8"), ("U8", "uint8")):
        at = 0
        for name, shape in sorted(text["tensors"].get(dtype, {}).items()):
            n = int(np.prod(shape))
            tensors[name] = parts[stream][at : at + n].reshape(shape)
            at += n
    return text["sd"], tensors


def weight(document: dict[str, Any], tensors: dict[str, Array], layer: str) -> Array:
    """float64 (M, Cg, KH, KW): the real weight of a layer."""
    entry = document["weights"][layer]
    arrays = {k.rsplit("/", 1)[1]: v for k, v in tensors.items() if k.startswith(f"weights/{layer}/")}
    m_all, cg, kh, kw = entry["shape"]
    whole = np.zeros((m_all, cg, kh, kw))
    if entry["kind"] == "int8":
        for m in range(m_all):
            for i in range(cg * kh * kw):
                w8 = arrays["w8"]
                whole[m].reshape(-1)[i] = w8[m, i] if w8.ndim == 2 else w8[m // 16, i, m % 16]
    else:
        table = document["alphabets"][entry["form"]["alphabet"]]
        taps = 2 <= kw <= 8
        s = kw if taps else 3
        rows = cg * kh if taps else up(cg, 3) // 3 * kh * kw
        for m in range(m_all):
            found = numbered_rows(table, m_all) if "rows" in arrays else stored_rows
            for r, codes in found(entry["form"], arrays, m, rows, s):
                basis = arrays["basis"][basis_of(entry["form"], arrays, m, r, rows)]
                coef = [table[c] for c in codes]
                for t in range(s):
                    value = sum(coef[k] * int(basis[k * s + t]) for k in range(s))
                    if taps:
                        whole[m, r // kh, r % kh, t] = value
                    else:
                        c3, ky, kx = r // (kh * kw), r // kw % kh, r % kw
                        if 3 * c3 + t < cg:
                            whole[m, 3 * c3 + t, ky, kx] = value
    return whole * arrays["scale"].astype(np.float64)[:, None, None, None]


def stored_rows(form: dict[str, Any], arrays: dict[str, Array], m: int, rows: int, s: int) -> Any:
    """(row, S nibbles) of every slot of a filter in use."""
    indexed = form["pattern"] in KEEP
    planes = s + 1 if indexed else s
    kept: list[int] = []
    if form["pattern"] == "shared":
        bitmap = arrays["bitmap"][m // form["group_filters"]]
        kept = [r for r in range(rows) if bitmap[r // 8] >> (r % 8) & 1]
    slots = {"16:16": rows, "shared": len(kept)}.get(form["pattern"])
    if slots is None:
        slots = up(rows, 16) // 16 * KEEP[form["pattern"]]
    for j in range(slots):
        unit = arrays["codes"][m // 8, j // 4]
        lane = 4 * (m % 8) + j % 4
        nibbles = []
        for p in range(planes):
            if p == planes - 1 and planes % 2:
                byte, high = unit[16 * (planes - 1) + lane % 16], lane >= 16
            else:
                byte, high = unit[32 * (p // 2) + lane], p % 2 == 1
            nibbles.append(int(byte) >> 4 if high else int(byte) & 15)
        if not indexed:
            yield (kept[j] if kept else j), nibbles
        elif any(nibbles[1:]):
            yield 16 * (j // KEEP[form["pattern"]]) + nibbles[0], nibbles[1:]


def numbered_rows(table: list[int], m_all: int) -> Any:
    """As :func:`stored_rows`, for the rows of version 2, which are numbers."""
    digits = [0] + [n for i in range(1, 8) if table[i] for n in (i, i + 8)]  # nibble of each digit

    def rows_of(form: dict[str, Any], arrays: dict[str, Array], m: int, rows: int, s: int) -> Any:
        bits = len(bin(len(digits) ** s - 1)) - 2
        blocks, keep = up(rows, 16) // 16, KEEP.get(form["pattern"], 0)
        stream = "".join(f"{byte:08b}"[::-1] for byte in arrays["rows"].tolist())
        place_bits = {0: 0, 2: 8, 4: 16, 8: 16}[keep]
        if form["pattern"] == "shared":
            bitmap = arrays["bitmap"][m // form["group_filters"]]
            where = [r for r in range(rows) if bitmap[r // 8] >> (r % 8) & 1]
        elif not keep:
            where = list(range(rows))
        else:
            where = []
            for b in range(blocks):
                place = stream[(m * blocks + b) * place_bits :][:place_bits]
                if keep == 2:
                    here = [int(place[i : i + 4][::-1], 2) for i in (0, 4)]
                else:
                    here = [i for i in range(16) if place[i] == "1"]
                where += [16 * b + i for i in here] + [-1] * (keep - len(here))
        start = m_all * blocks * place_bits + m * len(where) * bits
        for j, r in enumerate(where):
            number = int(stream[start + j * bits :][:bits][::-1], 2)
            if number or not keep:
                yield r, [digits[number // len(digits) ** k % len(digits)] for k in range(s)]

    return rows_of


def basis_of(form: dict[str, Any], arrays: dict[str, Array], m: int, r: int, rows: int) -> int:
    """Index of the basis that a row uses."""
    if form["basis_kind"] == "codebook":
        return int(arrays["ids"][m])
    if form["basis_kind"] == "slice":
        return m * (up(rows, form["slice_rows"]) // form["slice_rows"]) + r // form["slice_rows"]
    return m
