"""Reference costs of single instructions, by enumeration instead of closed forms.

``m`` is the machine as the integers of ``AcceleratorConfig.to_text()``. Each function walks what the
hardware would do piece by piece, and counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product
from math import ceil

from timing.asm import Op

from sd_tvm.accelerator.isa.spec import MEMORIES, AccInit, Mem, RowKind, WMode, Xform

Machine = dict[str, int]
WORD_BYTES = {m.mem: m.word_bytes for m in MEMORIES}
KEPT = {WMode.N8: 8, WMode.N4: 4, WMode.N2: 2}


def beats(m: Machine, addresses: list[int], length: int) -> int:
    """Bus cycles of rows of ``length`` bytes; rows without a hole between them are one."""
    rows: list[tuple[int, int]] = []
    for a in addresses:
        if rows and sum(rows[-1]) == a:
            rows[-1] = (rows[-1][0], rows[-1][1] + length)
        else:
            rows.append((a, length))
    cycles, pieces = 0, 0
    for start, n in rows:
        while n:
            piece = min(n, m["dram_burst_bytes"] - start % m["dram_burst_bytes"])
            cycles += ceil(piece / m["dram_bytes_per_cycle"])
            pieces += 1
            start, n = start + piece, n - piece
    cycles += max(0, pieces - 1) * m["dram_gap_cycles"]
    return -(-cycles * 100 // m["dram_efficiency_percent"])


def box(f: dict[str, int], length: int) -> list[int]:
    return (
        [
            16 * (f.get("dram", 0) + z * f.get("dram_zs", 0) + y * f.get("dram_ys", 0))
            for z, y in product(range(f["z"]), range(f["y"]))
        ]
        if length
        else []
    )


def load(m: Machine, o: Op) -> dict[str, int]:
    """Phases of a LOAD."""
    f = o.fields
    per_word = 1 if f.get("xform") else max(1, WORD_BYTES[Mem(f["mem"])] // 16)
    expand = f.get("xform") == Xform.EXPAND4
    x = f["x"] // per_word
    # The DRAM words that hold any of the pixels.
    row = len({(o.flags // 2 + pixel) // 4 for pixel in range(x)}) if expand else f["x"]
    if f.get("xform") == Xform.SPREAD9:
        row = len({byte // 16 for byte in range(9 * x)})
    padded = (x + f.get("pad_l", 0) + f.get("pad_r", 0)) * (f["y"] + f.get("pad_t", 0) + f.get("pad_b", 0))
    pads = f["z"] * (padded - x * f["y"])
    data = beats(m, box(f, row), 16 * row)
    if f.get("xform") in (Xform.EXPAND4, Xform.SPREAD9):
        data = max(data, ceil(16 * x * f["y"] * f["z"] / m["port_bytes_per_cycle"]))
    data += pads
    return {"front": m["decode_cycles"], "latency": m["dram_latency_cycles"], "data": data}


def store(m: Machine, o: Op) -> dict[str, int]:
    """Phases of a STORE."""
    length = o.fields["x"] * WORD_BYTES[Mem(o.fields["mem"])]
    return {
        "front": m["decode_cycles"],
        "data": beats(m, box(o.fields, length), length),
        "tail": m["dram_write_latency_cycles"],
    }


def alu(m: Machine, o: Op) -> dict[str, int]:
    """Phases of an ALU instruction."""
    f = o.fields
    reads = (f["a_mem"] == Mem.ACC and not (f["op"] == 0 and f["b_src"] == 1)) + (f["b_src"] == 2)
    turns = max(1, ceil(reads / m["alu_acc_ports"]))
    vectors = sum(1 for _ in product(range(f["n0"]), range(f["n1"]), range(f["n2"])))
    return {"front": m["decode_cycles"] + m["alu_fill_cycles"] + ceil(16 * vectors / m["alu_lanes"]) * turns}


@dataclass
class GemmCost:
    cycles: int
    events: Counter[str]
    array: Counter[str]  # cycles by what binds


def rows_of(w: dict[str, int]) -> tuple[int, int, int]:
    """Rows of a filter, slots that lines work on, steps of a row (SD form)."""
    s = w["s"]
    rows = w["cg"] * w["n_ky"] if w["rowkind"] == RowKind.TAPS else ceil(w["cg"] / s) * w["n_ky"] * w["n_kx"]
    mode = WMode(w["wmode"])
    slots = (
        w["kept_rows"]
        if mode == WMode.SHARED
        else rows
        if mode == WMode.DENSE
        else KEPT[mode] * ceil(rows / 16)
    )
    return rows, slots, s


def window(m: Machine, g: dict[str, int], w: dict[str, int], xs: list[int], taps: int) -> int:
    """Words of an input row that ``taps`` taps of the pixels ``xs`` touch; a stretch is fetched whole."""
    lo = min(x * g["inp_ox"] for x in xs)
    hi = max(x * g["inp_ox"] + (taps - 1) * w["inp_kx"] for x in xs)
    return min(len(xs) * taps, hi - lo + 1)


def chunks(items: list[int], n: int) -> list[list[int]]:
    return [items[i : i + n] for i in range(0, len(items), n)]


def gemm(m: Machine, g: dict[str, int], w: dict[str, int]) -> GemmCost:
    """The cheapest fold's cost."""
    if w["cg"] == 1:
        return depthwise(m, g, w)
    folds = [f for f in (1, 2, 4, 8) if m["fold_mask"] & f]
    return min((conv(m, g, w, f) for f in folds), key=lambda c: c.cycles)


def worst_step(m: Machine, w: dict[str, int]) -> int:
    """Cycles of a step; on a serial array with the most Booth digits that a byte can have."""
    if m["mac_serial"]:
        return 4 if w.get("signed") else 5
    return ceil(m["f_lanes"] / m["lanes_per_line"])


def slots_of(w: dict[str, int]) -> int:
    """Rows of a filter that lines work on, where a row has several steps."""
    return w["n_ky"] if w["wmode"] == WMode.RAW8 else rows_of(w)[1]


def input_rows(g: dict[str, int], w: dict[str, int], oys: list[int]) -> int:
    return len({oy * g["inp_oy"] + ky * g["inp_ky"] for oy in oys for ky in range(w["n_ky"])})


@dataclass
class Limits:
    """What bounds a GEMM besides the products."""

    port: int  # of a row pass
    rebuild: int  # of a row pass, and the first one
    drain: int  # of a group
    fill: int  # decode and fill

    @property
    def row(self) -> int:
        """Least cycles of a row pass."""
        return max(self.port, self.rebuild)

    @property
    def overhead(self) -> int:
        """Decode, fill, first rebuild, last drain."""
        return self.fill + self.rebuild + self.drain

    def array(self) -> Counter[str]:
        """Cycles outside the groups, by what binds."""
        return Counter({"fill": self.fill, "rebuild": self.rebuild, "drain": self.drain})

    def group(self, macs: list[int]) -> Counter[str]:
        """Cycles of a group whose passes' products take ``macs`` cycles, by what binds."""
        out: Counter[str] = Counter()
        for mac in macs:
            # The longest; of equals, products before input before weights.
            longest, name = max((n, -i) for i, n in enumerate((mac, self.port, self.rebuild)))
            out[("mac", "port", "rebuild")[-name]] += longest
        return out if out.total() >= self.drain else Counter({"drain": self.drain})


def limits(m: Machine, g: dict[str, int], w: dict[str, int], fold: int, filters: int) -> Limits:
    """Limits of a pass over so many filters."""
    code, F = w["wmode"] != WMode.RAW8, m["f_lanes"]
    if w["cg"] == 1:
        steps = w["s"] if code else w["n_kx"]
        at_once = max(1, min(g["n_oy"], m["c_lines"] // slots_of(w)))
        lanes = list(range(min(F, g["n_ox"])))
        channels = ceil(filters / w["mg"])
        port = channels * input_rows(g, w, list(range(at_once))) * window(m, g, w, lanes, w["n_kx"])
        values = at_once * len(lanes)
    else:
        steps = w["s"] if code else 1
        taps = code and w["rowkind"] == RowKind.TAPS
        lane = window(m, g, w, list(range(F)), steps) if taps else F * steps
        port = m["c_lines"] * lane * 16 // KEPT.get(WMode(w["wmode"]), 16)
        values = min(g["n_ox"], fold * F)
    rebuild = steps * m["lines_per_re"] if code else 0
    drain = ceil(values / m["drain_values_per_cycle"])
    fill = m["decode_cycles"] + m["gemm_fill_cycles"]
    return Limits(ceil(port / m["port_bytes_per_cycle"]), rebuild, drain, fill)


def conv(m: Machine, g: dict[str, int], w: dict[str, int], fold: int) -> GemmCost:
    """Group by group over channel groups, output rows, pixels and filters."""
    code = w["wmode"] != WMode.RAW8
    lines, F = m["c_lines"] // fold, m["f_lanes"]
    taps = code and w["rowkind"] == RowKind.TAPS
    density = KEPT.get(WMode(w["wmode"]), 16)
    e: Counter[str] = Counter()
    # Passes: the sets of rows that the lines hold at once.
    if code:
        rows, slots, steps = rows_of(w)
        passes = chunks(list(range(slots)), lines)
        delivered = w["kept_rows"] if w["wmode"] == WMode.SHARED else rows
    else:
        steps = 1
        passes = [c for _ in range(w["n_ky"] * w["n_kx"]) for c in chunks(list(range(w["cg"])), lines)]
    limit = limits(m, g, w, fold, m["m_slices"])
    group = limit.group([steps * worst_step(m, w)] * len(passes))
    array = limit.array()
    filters: dict[int, list[int]] = {}
    for f in range(g["n_m"]):
        filters.setdefault((g.get("m_base", 0) + f) // w["mg"], []).append(f)
    terms = 2 if any(w[f"code{i}"] & 8 for i in range(16)) else 1
    planes = steps + (density != 16)
    for _, xs in product(range(g["n_oy"]), chunks(list(range(g["n_ox"])), fold * F)):
        for of_group in filters.values():
            for fs in chunks(of_group, m["m_slices"]):
                array += group
                for pixels in chunks(xs, F):
                    if not code:
                        e["inp_read_bytes"] += len(pixels) * w["cg"] * w["n_ky"] * w["n_kx"]
                        e["fifo_bytes"] += len(fs) * len(pixels) * w["cg"] * w["n_ky"] * w["n_kx"]
                        e["mac_8x8"] += len(fs) * len(pixels) * w["cg"] * w["n_ky"] * w["n_kx"]
                        continue
                    width = window(m, g, w, pixels, steps) if taps else len(pixels) * steps
                    e["inp_read_bytes"] += delivered * width
                    e["fifo_bytes"] += len(fs) * slots * width
                    e["picker_bytes"] += len(fs) * slots * width if density != 16 else 0
                    e["mac_8x13"] += len(fs) * slots * steps * len(pixels)
                if w["wmode"] == WMode.SHARED:
                    e["idx_read_bytes"] += 16 * ceil(rows / 128)
                # Weights are read, and rebuilt, for every group.
                if not code:
                    e["code_read_bytes"] += len(fs) * w["cg"] * w["n_ky"] * w["n_kx"]
                else:
                    e["code_read_bytes"] += len(fs) * (ceil(slots / 4) * 4 * planes // 2)
                    slices = ceil(rows / (16 * w["slice_blocks"])) if w.get("slice_blocks") else 1
                    e["basis_read_bytes"] += len(fs) * slices * steps * steps
                    e["rebuild_shift_adds"] += len(fs) * slots * steps * steps * terms
                bias(e, g, len(fs))
    outputs(e, g)
    return GemmCost(array.total(), e, array)


def bias(e: Counter[str], g: dict[str, int], filters: int) -> None:
    e["qp_read_bytes"] += 4 * filters if g.get("acc_init", 0) == AccInit.BIAS else 0


def outputs(e: Counter[str], g: dict[str, int]) -> None:
    n = g["n_oy"] * g["n_ox"] * g["n_m"] * 4
    e["acc_write_bytes"] += n
    e["acc_read_bytes"] += n if g.get("acc_init", 0) == AccInit.KEEP else 0
    e["psum_updates"] += e["mac_8x8"] + e["mac_8x13"]


def depthwise(m: Machine, g: dict[str, int], w: dict[str, int]) -> GemmCost:
    """One channel a filter: a line holds one row of one output row of its slice's channel."""
    code = w["wmode"] != WMode.RAW8
    e: Counter[str] = Counter()
    F = m["f_lanes"]
    rows, slots, steps = rows_of(w) if code else (w["n_ky"], w["n_ky"], w["n_kx"])
    taps = not code or w["rowkind"] == RowKind.TAPS
    density = KEPT.get(WMode(w["wmode"]), 16)
    at_once = max(1, min(g["n_oy"], m["c_lines"] // slots))
    passes = chunks(list(range(slots)), m["c_lines"])
    array = limits(m, g, w, 1, 1).array()
    terms = 2 if any(w[f"code{i}"] & 8 for i in range(16)) else 1
    planes = steps + (density != 16)
    for oys, xs in product(chunks(list(range(g["n_oy"])), at_once), chunks(list(range(g["n_ox"])), F)):
        e["inp_read_bytes"] += (
            ceil(g["n_m"] / w["mg"]) * input_rows(g, w, oys) * window(m, g, w, xs, w["n_kx"])
        )
        if w["wmode"] == WMode.SHARED:
            e["idx_read_bytes"] += ceil(g["n_m"] / m["m_slices"]) * 16 * ceil(rows / 128)
        for fs in chunks(list(range(g["n_m"])), m["m_slices"]):
            n = len(fs)
            limit = limits(m, g, w, 1, n)
            array += limit.group([steps * worst_step(m, w)] * len(passes))
            width = window(m, g, w, xs, steps) if taps else len(xs) * steps
            e["fifo_bytes"] += n * slots * len(oys) * width
            e["picker_bytes"] += n * slots * len(oys) * width if density != 16 else 0
            e["mac_8x13" if code else "mac_8x8"] += n * slots * steps * len(oys) * len(xs)
            if code:
                slices = ceil(rows / (16 * w["slice_blocks"])) if w.get("slice_blocks") else 1
                e["code_read_bytes"] += n * (ceil(slots / 4) * 4 * planes // 2)
                e["basis_read_bytes"] += n * slices * steps * steps
                e["rebuild_shift_adds"] += n * slots * steps * steps * terms
            else:
                e["code_read_bytes"] += n * w["n_ky"] * w["n_kx"]
            bias(e, g, n)
    outputs(e, g)
    return GemmCost(array.total(), e, array)
