"""Rebuild, MAC and bias nests to SETW and GEMM.

The three kinds of nest form one instruction. Strides, extents and addresses come from their indices;
the weight form (which the rebuild nests spell out) comes from the layer. What the instruction would
compute is checked against the indices: every channel address, every weight stride, and that the words
the GEMM reads are those that the loads brought for its filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sd_tvm._tvm import ir, tirx
from sd_tvm.accelerator.codegen.binding import Binding
from sd_tvm.accelerator.codegen.expr import Env, Key, Linear, Ranges, evaluate, linear, loads, unmapped
from sd_tvm.accelerator.codegen.memory import MemoryMap
from sd_tvm.accelerator.codegen.provenance import Provenance
from sd_tvm.accelerator.codegen.scopes import memory_of
from sd_tvm.accelerator.codegen.stream import Access, Stream
from sd_tvm.accelerator.codegen.tree import Nest, TreeBuilder
from sd_tvm.accelerator.isa.encode import encode_table
from sd_tvm.accelerator.isa.spec import AccInit, BasisKind, Mem, RowKind, WMode
from sd_tvm.layers import LANES, PACKED_LANES, ConvLayer, blocks16, constant_names
from sd_tvm.schedules.accel import marks

_WMODES = {
    "16:16": WMode.DENSE,
    "8:16": WMode.N8,
    "4:16": WMode.N4,
    "2:16": WMode.N2,
    "shared": WMode.SHARED,
}
_ADDRESSES = 1 << 16


def _setw(layer: ConvLayer, inp_kx: int) -> dict[str, int]:
    """Fields of SETW."""
    m, cg, kh, kw = layer.weight_shape
    fields = {
        "flags": int(layer.in_dtype == "int8"),
        "cg": cg,
        "mg": m // layer.groups,
        "n_ky": kh,
        "n_kx": kw,
        "inp_kx": inp_kx,
    }
    form, geometry = layer.form, layer.geometry
    if form is None:
        return fields | encode_table([0] * 16) | {"wmode": int(WMode.RAW8)}
    return (
        fields
        | encode_table([int(v) for v in form.table.table])
        | {
            "wmode": int(_WMODES[form.pattern]),
            "rowkind": int(RowKind.TAPS if geometry.kind == "taps" else RowKind.CHANNELS),
            "s": geometry.s,
            "basis_kind": int(BasisKind.CODEBOOK if form.basis_kind == "codebook" else BasisKind.SLICE),
            "slice_blocks": form.slice_rows // 16 if form.basis_kind == "slice" else 0,
            "kept_rows": form.kept_rows,
            "group_tiles": form.group_filters // LANES,
        }
    )


class GemmNests:
    """The nests of one GEMM.

    Parameters
    ----------
    layer
        The layer that the function carries.
    rebuild
        Nests that decode weights (none for raw int8).
    mac
        Nest of the sum.
    bias
        Nest that adds the bias.
    """

    def __init__(
        self, layer: ConvLayer, rebuild: list[Nest], mac: Nest, bias: Nest, tree: TreeBuilder
    ) -> None:
        self.layer, self.mac, self.bias, self.tree = layer, mac, bias, tree
        self._match_mac()
        self._match_bias()
        self._match_rebuild(rebuild)
        self._inp_kx = -1

    def begin(self) -> None:
        """Another step follows: its weight form is not set yet."""
        self._inp_kx = -1

    def _match_mac(self) -> None:
        """psum = 0 at the first step; psum += int32(x) * int32(w)."""
        if len(self.mac.stores) != 2:
            raise unmapped("the body of a MAC", [s.value for s in self.mac.stores])
        init, step = self.mac.stores
        axes = self.mac.axes
        reduced = {axes[a] for a in ("c", "ky", "kx") if self.mac.extents[axes[a]] > 1}
        starts = set(init.first) == reduced and isinstance(init.value, tirx.IntImm)
        if not starts or int(init.value.value) != 0 or step.first or hash(init.buffer) != hash(step.buffer):
            raise unmapped("the start of a sum", init.value)
        self.psum = linear(step.index)
        value = step.value
        if not isinstance(value, tirx.Add) or not isinstance(value.b, tirx.Mul):
            raise unmapped("the step of a sum", value)
        product = value.b
        same = isinstance(value.a, ir.TensorLoad) and hash(value.a.source) == hash(step.buffer)
        if not same or not linear(value.a.indices[0]) == self.psum == linear(init.index):
            raise unmapped("the step of a sum", value)
        self.inp, self.weight = (_widened(f) for f in (product.a, product.b))
        self.inp_home = self.tree.home(self.inp.source)
        if self.inp_home.mem is not Mem.INP:
            raise unmapped("the activations of a MAC", self.inp)
        self.inp_index, self.weight_index = linear(self.inp.indices[0]), linear(self.weight.indices[0])
        self._check_weight_strides(self.weight_index)

    def _check_weight_strides(self, index: Linear) -> None:
        """Weights stand as (mb, c, ky, kx, lane), dense."""
        _, cg, kh, kw = self.layer.weight_shape
        strides = {"lane": 1, "kx": LANES, "ky": LANES * kw, "c": LANES * kw * kh, "mb": LANES * kw * kh * cg}
        axes = self.mac.axes
        for axis, stride in strides.items():
            var = axes[axis]
            if self.mac.extents[var] > 1 and index.of(var) != stride:
                raise unmapped(f"the weights' stride along {axis}", index.of(var))
        if index.atoms or any(index.of(axes[a]) for a in ("n", "oy", "ox")):
            raise unmapped("the address of a weight", self.weight.indices[0])

    def _match_bias(self) -> None:
        """acc = psum + qp[filter].bias."""
        store = self.bias.only_store()
        value = store.value
        if not (
            isinstance(value, tirx.Add)
            and isinstance(value.a, ir.TensorLoad)
            and isinstance(value.b, ir.TensorLoad)
            and str(value.a.source.scope()) == marks.PSUM
            and memory_of(value.b.source) is Mem.QP
            and memory_of(store.buffer) is Mem.ACC
        ):
            raise unmapped("a bias", value)
        axes = self.bias.axes
        self.acc, self.acc_index = store.buffer, linear(store.index)
        self.qp, self.qp_index = value.b.source, linear(value.b.indices[0])
        psum = linear(value.a.indices[0])
        for axis in ("mb", "oy", "ox", "lane"):
            var, mac_var = axes[axis], self.mac.axes[axis]
            if self.bias.extents[var] > 1 and psum.of(var) != self.psum.of(mac_var):
                raise unmapped(f"the sums' stride along {axis}", psum.of(var))
        want = {"lane": 4, "mb": 4 * LANES, "oy": 0, "ox": 0}
        for axis, stride in want.items():
            if self.bias.extents[axes[axis]] > 1 and self.qp_index.of(axes[axis]) != stride:
                raise unmapped(f"the bias' stride along {axis}", self.qp_index.of(axes[axis]))
        if self.acc_index.atoms or self.qp_index.atoms or psum.atoms:
            raise unmapped("the address of a bias", value)

    def _match_rebuild(self, rebuild: list[Nest]) -> None:
        """Collect what the rebuild nests read on chip; their last one writes the MAC's weights."""
        self.reads: list[tuple[Any, list[_Start]]] = []
        starts: dict[Key, list[_Start]] = {}
        for nest in rebuild:
            for store in nest.stores:
                if str(store.buffer.scope()) != marks.W:
                    raise unmapped("a rebuilt weight outside the array", store.buffer)
                for load in loads(store.value):
                    if memory_of(load.source) is not None:
                        if hash(load.source) not in starts:
                            starts[hash(load.source)] = []
                            self.reads.append((load.source, starts[hash(load.source)]))
                        starts[hash(load.source)].append(_Start(nest, load.indices[0]))
        if self.layer.form is None:
            if rebuild or memory_of(self.weight.source) is not Mem.CODE:
                raise unmapped("the weights of a MAC", self.weight)
            return
        last = rebuild[-1].only_store() if rebuild else None
        if last is None or hash(last.buffer) != hash(self.weight.source):
            raise unmapped("weights that no rebuild nest makes", self.weight)
        made, axes = linear(last.index), rebuild[-1].axes
        for axis, var in axes.items():
            if rebuild[-1].extents[var] > 1 and made.of(var) != self.weight_index.of(self.mac.axes[axis]):
                raise unmapped(f"the rebuilt weights' stride along {axis}", made.of(var))

    def emit(
        self,
        env: Env,
        memory: MemoryMap,
        stream: Stream,
        held: Provenance,
        bindings: Sequence[Binding],
    ) -> None:
        """Emit one GEMM (and SETW before the first)."""
        ranges = self.bias.ranges(env)
        mac_ranges = self.mac.ranges(env)
        if ranges is None or mac_ranges is None:
            return
        axes = self.bias.axes
        extent = {a: ranges[v][1] for a, v in axes.items()}
        mac_extent = {a: mac_ranges[self.mac.axes[a]][1] for a in ("n", "mb", "oy", "ox")}
        low = [ranges[v][0] for v in axes.values()] + [mac_ranges[v][0] for v in mac_ranges]
        if any(low) or any(extent[a] != n for a, n in mac_extent.items()) or extent["n"] != 1:
            raise unmapped("the extents of a GEMM", f"{extent} and {mac_extent}")

        place = memory.of(self.qp)
        qp = place.start + _whole(self.qp_index.bind(env), 4)
        segment, m_base = held.of(Mem.QP, qp)
        operands = {name: bindings[i].segment for name, i in self._operands().items()}
        if segment != operands["qp"]:
            raise unmapped("the quantisation words of a GEMM come from operand", segment)
        n_m = min(LANES * extent["mb"], self.layer.out_channels - m_base)

        acc = self.acc_index.bind(env)
        fields = {
            "acc_init": int(AccInit.BIAS),
            "qp": qp,
            "acc": memory.of(self.acc).start + _whole(acc, LANES),
            "n_oy": extent["oy"],
            "n_ox": extent["ox"],
            "n_m": n_m,
            "m_base": m_base,
            "acc_oy": self._acc_stride("oy", extent),
            "acc_mb": self._acc_stride("mb", extent),
        }
        if extent["ox"] > 1 and self._acc_stride("ox", extent) != 1:
            raise unmapped("the sums' stride along ox", acc.of(axes["ox"]))
        inp, inp_kx, touched = self._inputs(env, mac_ranges, memory, m_base)
        fields |= inp
        weights, reads = self._weights(env, memory, held, operands, m_base, n_m)
        fields |= weights
        if inp_kx != self._inp_kx:
            stream.emit("SETW", _setw(self.layer, inp_kx))
            self._inp_kx = inp_kx
        reads.append(touched)
        reads.append(Access(Mem.QP, qp, qp + n_m))
        last = (extent["mb"] - 1) * fields["acc_mb"] + (extent["oy"] - 1) * fields["acc_oy"] + extent["ox"]
        stream.emit("GEMM", fields, reads, [Access(Mem.ACC, fields["acc"], fields["acc"] + last)])

    def _operands(self) -> dict[str, int]:
        """Parameter of each operand."""
        return {name: i for i, name in enumerate(["x", *constant_names(self.layer)])}

    def _acc_stride(self, axis: str, extent: dict[str, int]) -> int:
        stride = self.acc_index.of(self.bias.axes[axis])
        if extent[axis] == 1:
            return 0
        if stride % LANES:
            raise unmapped(f"the sums' stride along {axis}", stride)
        return stride // LANES

    def _inputs(
        self, env: Env, ranges: Ranges, memory: MemoryMap, m_base: int
    ) -> tuple[dict[str, int], int, Access]:
        """INP address and strides; checks every (filter, channel) address."""
        axes, index = self.mac.axes, self.inp_index.bind(env)
        fields, strides = {}, {}
        lanes_a_word = PACKED_LANES if self.layer.packed_input else LANES
        for axis in ("oy", "ox", "ky", "kx"):
            var = axes[axis]
            stride = self.inp_home.stride(index.of(var)) if ranges[var][1] > 1 else 0
            if stride % lanes_a_word or stride < 0:
                raise unmapped(f"the activations' stride along {axis}", stride)
            strides[axis] = stride // lanes_a_word
        n_mb, cg = ranges[axes["mb"]][1], self.layer.weight_shape[1]
        mb, lane, c = np.ogrid[:n_mb, :LANES, :cg]
        grid = dict(env) | {axes["mb"]: mb, axes["lane"]: lane, axes["c"]: c}
        at = index.const + sum(index.of(axes[a]) * v for a, v in (("mb", mb), ("lane", lane), ("c", c)))
        for factor, atom in index.atoms:
            at = at + factor * evaluate(atom, grid)
        m = m_base + LANES * mb + lane
        mg = self.layer.out_channels // self.layer.groups
        channel = m // mg * cg + c
        valid = np.broadcast_to(m < self.layer.out_channels, np.broadcast_shapes(m.shape, c.shape))
        at, channel = (np.broadcast_to(v, valid.shape)[valid] for v in (at, channel))
        words, lanes = np.divmod(self.inp_home.at(at), lanes_a_word)
        block = channel // LANES
        if (lanes != channel % LANES).any():
            raise unmapped("the lane of an activation", self.inp.indices[0])
        low, high = int(block.argmin()), int(block.argmax())
        inp_cb = 0
        if block[low] != block[high]:
            inp_cb = int(words[high] - words[low]) // int(block[high] - block[low])
        origin = words - block * inp_cb
        if (origin != origin[0]).any() or not 0 <= inp_cb < _ADDRESSES:
            raise unmapped("the address of an activation", self.inp.indices[0])
        start = memory.of(self.inp.source).start
        last = sum(strides[a] * (ranges[axes[a]][1] - 1) for a in strides)
        touched = Access(Mem.INP, start + int(words.min()), start + int(words.max()) + last + 1)
        fields = {
            "inp": (start + int(origin[0])) % _ADDRESSES,
            "inp_oy": strides["oy"],
            "inp_ox": strides["ox"],
            "inp_ky": strides["ky"],
            "inp_cb": inp_cb,
        }
        return fields, strides["kx"], touched

    def _weights(
        self,
        env: Env,
        memory: MemoryMap,
        held: Provenance,
        operands: dict[str, int],
        m_base: int,
        n_m: int,
    ) -> tuple[dict[str, int], list[Access]]:
        """Addresses of codes, bases, bitmaps and ids; each must hold the words of filter m_base."""
        layer, form, geometry = self.layer, self.layer.form, self.layer.geometry
        tile = m_base // LANES
        if form is None:
            taps = int(np.prod(layer.weight_shape[1:]))
            code = memory.of(self.weight.source).start + _whole(self.weight_index.bind(env), LANES)
            _expect(held.of(Mem.CODE, code), (operands["w8"], tile * taps))
            return {"code": code}, [Access(Mem.CODE, code, code + -(-n_m // LANES) * taps)]
        octet = form.slots(geometry) // 4 * form.planes(geometry.s)
        basis_words = blocks16(geometry.s**2)
        per_filter = form.n_slices(geometry) * basis_words
        fields: dict[str, int] = {}
        reads: list[Access] = []
        for buffer, starts in self.reads:
            place = memory.of(buffer)
            first = min(start.at(env) for start in starts)
            word = place.start + first // 16
            segment, dram = held.of(place.mem, word)
            if first % 16:
                raise unmapped("weights that start inside a word", first)
            if segment == operands["codes"]:
                fields["code"], want, words = word, 2 * tile * octet, -(-n_m // 8) * octet
            elif segment == operands["basis"] and form.basis_kind == "codebook":
                fields["basis"], want, words = word, 0, layer.n_bases * basis_words
            elif segment == operands["basis"]:
                fields["basis"], want, words = word, m_base * per_filter, n_m * per_filter
            elif segment == operands.get("ids"):
                fields["ids"], want, words = word, tile, -(-n_m // LANES)
            elif segment == operands.get("bitmap"):
                per_group = blocks16(-(-geometry.rows // 8))
                group, last = (m // form.group_filters for m in (m_base, m_base + n_m - 1))
                fields["idx"], want = word, group * per_group
                words = (last - group + 1) * per_group
            else:
                raise unmapped("a rebuild that reads operand", segment)
            _expect((segment, dram), (segment, want))
            reads.append(Access(place.mem, word, word + words))
        return fields, reads


def _widened(expr: Any) -> Any:
    """Load that is int32 or under an int32 cast."""
    load = expr.value if isinstance(expr, tirx.Cast) else expr
    if not isinstance(load, ir.TensorLoad) or str(expr.ty.dtype) != "int32":
        raise unmapped("a factor of a MAC", expr)
    return load


def _whole(index: Linear, elements: int) -> int:
    """Constant part of an address in words."""
    if index.const % elements:
        raise unmapped("an address inside a word", index.const)
    return index.const // elements


class _Start:
    """The byte that a rebuild nest reads when all its own loops are at their start."""

    def __init__(self, nest: Nest, index: Any) -> None:
        form = linear(index)
        self.linear = Linear(form.const, {v: c for v, c in form.coef.items() if v not in nest.extents})
        # A basis that a codebook id selects: the first one is at 0.
        self.atoms = [(factor, atom) for factor, atom in form.atoms if not loads(atom)]
        self.own = dict.fromkeys(nest.extents, 0)

    def at(self, env: Env) -> int:
        """Byte in one iteration of the outer loops."""
        total = self.linear.bind(env).const
        for factor, atom in self.atoms:
            total += factor * int(evaluate(atom, {**env, **self.own}))
        return total


def _expect(found: tuple[int, int], want: tuple[int, int]) -> None:
    if found != want:
        raise unmapped("weights of other filters", f"operand, word {found} instead of {want}")
