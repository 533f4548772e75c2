"""What a bit-serial array does with real data, by enumeration (NumPy-free, slow)."""

from __future__ import annotations

from collections import Counter
from itertools import product

from timing import costs
from timing.costs import Machine, chunks

from sd_tvm.accelerator.isa.spec import RowKind, WMode

Pixel = tuple[int, int]
SYNC = ("lane", "line", "array")


def recode(value: int) -> list[int]:
    """Radix-4 Booth digits -2..2, least significant first: two bits at a time, the upper one is the carry."""
    digits, carry = [], 0
    while not (value == 0 and carry == 0) and not (value == -1 and carry == 1):
        low, high = value & 1, (value >> 1) & 1
        digits.append(low - 2 * high + carry)
        value, carry = value >> 2, high
    return digits


def booth_digits(value: int) -> int:
    """Non-zero digits."""
    return sum(d != 0 for d in recode(value))


def evaluate(
    m: Machine,
    g: dict[str, int],
    w: dict[str, int],
    x: dict[tuple[int, int, int], int],
    rows_of: list[list[int]],
) -> tuple[Counter[str], int]:
    """Cycles by what binds, and added digits, of one GEMM of one channel group.

    Parameters
    ----------
    x
        Activation at (channel, y, x) of the padded input; stride and dilation as in ``g`` and ``w``, with
        ``inp_oy`` = stride * pitch and ``inp_ky`` = dilation * pitch.
    rows_of
        Of each filter, the row that each slot names.
    """
    pitch = w["pitch"]
    code = w["wmode"] != WMode.RAW8
    depthwise = w["cg"] == 1
    taps = w["rowkind"] == RowKind.TAPS if code else depthwise
    s = w["s"] if code else (w["n_kx"] if depthwise else 1)
    F = m["f_lanes"]

    def value(channel: int, ky: int, kx: int, pixel: Pixel) -> int:
        y = (pixel[0] * g["inp_oy"] + ky * g["inp_ky"]) // pitch
        return x.get((channel, y, pixel[1] * g["inp_ox"] + kx * w["inp_kx"]), 0) if channel >= 0 else 0

    def element(row: int, t: int) -> tuple[int, int, int]:
        if taps:
            return (row // w["n_ky"], row % w["n_ky"], t)
        tap = row % (w["n_ky"] * w["n_kx"])
        c = row // (w["n_ky"] * w["n_kx"]) * s + t
        return (c if c < w["cg"] else -1, tap // w["n_kx"], tap % w["n_kx"])

    fold = 1
    if not depthwise:
        fold = min(
            (f for f in (1, 2, 4, 8) if m["fold_mask"] & f), key=lambda f: costs.conv(m, g, w, f).cycles
        )
    lines = m["c_lines"] // fold
    slots = len(rows_of[0])
    at_once = max(1, min(g["n_oy"], m["c_lines"] // slots)) if depthwise else 1
    if code or depthwise:
        passes = [(0, c) for c in chunks(list(range(slots)), lines)]
    else:
        passes = [(k, c) for k in range(w["n_ky"] * w["n_kx"]) for c in chunks(list(range(w["cg"])), lines)]
    array, digits = costs.limits(m, g, w, fold, 1).array(), 0
    for oys, xs in product(chunks(list(range(g["n_oy"])), at_once), chunks(list(range(g["n_ox"])), fold * F)):
        for filters in chunks(list(range(g["n_m"])), m["m_slices"]):
            limit = costs.limits(m, g, w, fold, len(filters))
            macs = []
            for tap, held in passes:
                # Lines of all slices: (elements of its row by step, pixels of its lanes).
                work = []
                for f, slot, pixels, oy in product(filters, held, chunks(xs, F), oys):
                    if code or depthwise:
                        row = [element(rows_of[f][slot], t) for t in range(s)]
                    else:
                        row = [(slot, tap // w["n_kx"], tap % w["n_kx"])]
                    channel = (g.get("m_base", 0) + f) // w["mg"] if depthwise else 0
                    lanes = [
                        [
                            booth_digits(value(c + channel if c >= 0 else -1, ky, kx, (oy, px)))
                            for px in pixels
                        ]
                        for c, ky, kx in row
                    ]
                    work.append(lanes)
                    digits += sum(map(sum, lanes))

                def step(vector: list[int]) -> int:
                    return 0 if not any(vector) and m["skip_zero_vectors"] else max(1, *vector)

                sync = SYNC[m["sync_domain"]]
                if sync == "array":
                    row_cycles = sum(max(step(line[t]) for line in work) for t in range(s))
                elif sync == "line":
                    row_cycles = max(sum(step(v) for v in line) for line in work)
                else:
                    row_cycles = max(
                        sum(max(1, v[lane]) if step(v) else 0 for v in line)
                        for line in work
                        for lane in range(len(line[0]))
                    )
                macs.append(row_cycles)
            array += limit.group(macs)
    return array, digits
