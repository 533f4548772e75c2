"""Writing the integer graph: layers, conversions at its edges, bindings that stay.

A float32 value keeps its variable; an 8-bit value gets a new one. A conversion is written when somebody
first needs the other side, and once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sd_tvm._tvm import ir, relax
from sd_tvm.errors import NumericsError
from sd_tvm.layers import ConvLayer, Layer, blocks16
from sd_tvm.numerics.qparams import QParams
from sd_tvm.relay_passes import _integer, _integer_elementwise, _layout
from sd_tvm.relay_passes._dynamic import DYNAMIC, build_scale
from sd_tvm.relay_passes._elementwise import resize_factor
from sd_tvm.relay_passes._integer import ConvGeometry, Integer
from sd_tvm.relay_passes._layout import Layout
from sd_tvm.relay_passes._match import Group
from sd_tvm.relay_passes._matmul import is_symmetric, product, symmetric
from sd_tvm.relay_passes._modes import KEEP_SCALE
from sd_tvm.relay_passes._rewrite import Expr, IRModule, _vars_in, const, static_shape
from sd_tvm.relay_passes._unary import function_name
from sd_tvm.relay_passes._weights import identifier
from sd_tvm.relay_passes.legality import Node, as_nchw, pool_geometry
from sd_tvm.schedules.ops import (
    LAYER_ATTR,
    build_dequantize,
    build_dequantize_acc,
    build_primfunc,
    build_quantize,
    build_quantize_dynamic,
)
from sd_tvm.schedules.ops.relayout import build_relayout
from sd_tvm.weights.tensor import Weight


@dataclass(frozen=True)
class _Blocked:
    """An 8-bit value: its variable, what it means, and how the real tensor's axes lie in it."""

    var: Expr
    qparams: QParams
    layout: Layout


def conv_geometry(call: Expr) -> ConvGeometry:
    """Stride, padding, dilation and groups of a convolution or dense call."""
    if call.op.name == "relax.matmul":
        return ConvGeometry()
    a = call.attrs
    stride, dilation = ([int(v) for v in x] for x in (a.strides, a.dilation))
    padding = [int(p) for p in a.padding]
    if len(stride) == 1:
        left, right = padding
        return ConvGeometry((1, stride[0]), (0, left, 0, right), (1, dilation[0]), int(a.groups))
    top, left, bottom, right = padding
    return ConvGeometry(
        (stride[0], stride[1]), (top, left, bottom, right), (dilation[0], dilation[1]), int(a.groups)
    )


class Emitter:
    """Bindings of one function, block by block.

    Parameters
    ----------
    mod
        Module that receives the PrimFuncs.
    qparams
        Variable name -> quantisation of its value.
    weights
        Variable -> (layer name, weight).
    """

    def __init__(
        self, mod: IRModule, qparams: Mapping[str, QParams], weights: Mapping[Expr, tuple[str, Weight]]
    ) -> None:
        self.mod = mod
        self.qparams = qparams
        self.weights = weights
        self.builder = relax.BlockBuilder(mod)
        self._taken = {str(g.name_hint) for g in mod.get_global_vars()}
        self._bindings: list[Expr] = []
        self._blocked: dict[Expr, _Blocked] = {}
        self._dynamic: dict[tuple[Expr, Layout], tuple[Expr, Expr]] = {}
        self._moves: dict[tuple[Expr, Layout, int | None], _Blocked] = {}
        self._layers: set[str] = set()
        self._note = ""  # about the inputs of the layer being written
        self._pending: set[Expr] = set()  # variables whose float32 value nobody needed yet
        self._dataflow = True

    def begin(self, *, is_dataflow: bool) -> None:
        """Start a block."""
        self._bindings, self._blocked, self._dynamic, self._pending = [], {}, {}, set()
        self._moves = {}
        self._dataflow = is_dataflow

    def end(self, variables: list[Expr]) -> Expr:
        """The finished block; what leaves it is float32."""
        for var in variables:
            if not isinstance(var, relax.DataflowVar) or not self._dataflow:
                self._float(var)
        return (relax.DataflowBlock if self._dataflow else relax.BindingBlock)(self._bindings)

    def finish(self, name: str, func: Expr) -> IRModule:
        """The module with the new PrimFuncs and the new function; attributes stay."""
        out = self.mod.clone()
        known = {str(g.name_hint) for g in self.mod.get_global_vars()}
        for gvar, added in self.builder.get().functions_items():
            if str(gvar.name_hint) not in known:
                out[gvar] = added
        out.update_func(out.get_global_var(name), func)
        return out

    def keep_binding(self, binding: Expr) -> None:
        """A binding that is no plain one, as it is."""
        for var in relax.analysis.free_vars(binding.value):
            self._float(var)
        self._bindings.append(binding)

    def emit(self, group: Group, name: str) -> tuple[str, str]:
        """Write a group.

        Returns
        -------
        tuple of str
            (name of the PrimFunc or "", note); a view has the name of the layer it looks at. The group's
            mode becomes ``cpu``, with the reason, when its numbers do not fit.
        """
        if group.mode in ("view", "move"):
            source = self._blocked.get(group.inputs[0])
            if source is None or group.mode == "move":
                source = self._quantised(group.inputs[0], group.layouts[0])
            self._blocked[group.tail] = _Blocked(source.var, source.qparams, _planned(group))
            self._pending.add(group.tail)
            name = str(source.var.name)
            return name if name in self._layers else "", ""
        if group.mode in ("q8", "i32", "dynamic"):
            try:
                return self._layer(group, name) if group.mode == "q8" else self._sums(group, name)
            except NumericsError as error:
                group.mode, group.reason = "cpu", error.found
        self._keep(group.members)
        return "", ""

    def _keep(self, members: list[tuple[Expr, Expr]]) -> None:
        for var, value in members:
            for used in _vars_in(value):
                self._float(used)
            self._bindings.append(relax.VarBinding(var, value))

    def _layer(self, group: Group, name: str) -> tuple[str, str]:
        """An 8-bit layer."""
        if group.role == "matmul":
            return self._product(group, name)
        integer = self._integer(group, name)
        self._note = ""
        inputs = [self._quantised(v, at) for v, at in zip(group.inputs, group.layouts, strict=True)]
        symbol, result = self._call_layer(integer, [b.var for b in inputs])
        keeps = group.head.op.name in KEEP_SCALE or group.role == "interleave"
        out = inputs[0].qparams if keeps else self.qparams[group.tail.name]
        self._blocked[group.tail] = _Blocked(result, out, _planned(group))
        self._pending.add(group.tail)
        return symbol, "; ".join(note for note in (integer.note, self._note) if note)

    def _integer(self, group: Group, name: str) -> Integer:
        """The layer of a ``q8`` group. Nothing is written before its numbers are known to fit."""
        xs = [self._params(v) for v in group.inputs]
        shape, call = _image(static_shape(group.inputs[0]) or (), group.layouts[0]), group.head
        if call.op.name == "relax.nn.max_pool2d":
            return _integer.pool(name, "max", shape, pool_geometry(Node(call, group.tail)), xs[0], xs[0])
        if group.interleave is not None:
            return group.interleave.layer(name, shape, xs[0])
        if group.role == "resize":
            return _integer_elementwise.resize(name, shape, resize_factor(call) or (1, 1), xs[0])
        out = self.qparams[group.tail.name]
        if group.role == "lut" and group.table is not None:
            table = group.table(xs[0], out, name)
            return _integer_elementwise.lut(name, shape, table, function_name(group.members), xs[0], out)
        if group.role == "mul":
            alike = static_shape(group.inputs[0]) == static_shape(group.inputs[1])
            return _integer_elementwise.mul(
                name, shape, xs[0], xs[1], out, group.bounds, b_per_channel=not alike
            )
        if group.role == "concat":
            shapes = [
                _image(static_shape(v) or (), at) for v, at in zip(group.inputs, group.layouts, strict=True)
            ]
            return _integer_elementwise.concat(name, shapes, xs, out, group.bounds)
        if group.role in ("conv", "dense") and group.weight is not None:
            geometry = conv_geometry(call)
            return _integer.conv(name, shape, group.weight[1], group.bias, geometry, xs[0], out, group.bounds)
        if group.role == "add":
            return _integer.add(name, shape, xs[0], xs[1], out, group.bounds)
        if group.role == "pool":
            window = pool_geometry(Node(call, group.members[0][0]))
            return _integer.pool(name, "avg", shape, window, xs[0], out, group.bounds)
        return _integer.requant(name, shape, xs[0], out, group.bounds)

    def _product(self, group: Group, name: str) -> tuple[str, str]:
        """A product of two activations: the second one stands where the weights stand."""
        self._note = ""
        params = [symmetric(self._params(v), signed=i == 1) for i, v in enumerate(group.inputs)]
        real = [static_shape(v) or () for v in group.inputs]
        (rows, k), m, groups = real[0][-2:], real[1][-1], math.prod(real[0][:-2])
        out = self.qparams[group.tail.name]
        integer = product(name, (groups, rows, k, m), params[0], params[1], out, group.gain, group.bounds)
        layer = integer.layer
        assert isinstance(layer, ConvLayer)
        operands = []
        for i, (var, at) in enumerate(zip(group.inputs, group.layouts, strict=True)):
            self._make_symmetric(var, at, signed=i == 1)
            rows_of = blocks16(k) * 16 if i == 1 else rows
            shape = (layer.out_channels // 16, rows_of, 16) if i else _block_shape(_sizes(layer))
            operands.append(self._shaped(self._quantised(var, at, pixels=rows_of).var, shape))
        symbol, result = self._call_layer(integer, operands)
        self._blocked[group.tail] = _Blocked(result, out, _planned(group))
        self._pending.add(group.tail)
        return symbol, self._note

    def _make_symmetric(self, var: Expr, layout: Layout, *, signed: bool) -> None:
        """Give the 8-bit value of a variable a quantisation without zero point, by a layer of its own."""
        if var not in self._blocked:
            self.qparams = {**self.qparams, var.name: symmetric(self.qparams[var.name], signed=signed)}
        have = self._params(var)
        if is_symmetric(have, signed=signed):
            return
        source, want = self._quantised(var, layout), symmetric(have, signed=signed)
        image = _image(static_shape(var) or (), layout)
        integer = _integer.requant(f"{var.name}_symmetric", image, have, want, _integer.NO_BOUNDS)
        _, result = self._call_layer(integer, [source.var])
        self._blocked[var] = _Blocked(result, want, layout)

    def _shaped(self, var: Expr, shape: tuple[int, ...]) -> Expr:
        """The same bytes under another shape."""
        return (
            var if static_shape(var) == shape else self._new(relax.op.reshape(var, shape), f"{var.name}_view")
        )

    def _sums(self, group: Group, name: str) -> tuple[str, str]:
        """A layer with int32 results, which the host scales; activations follow in float32."""
        assert group.weight is not None
        x, (_, weight) = group.inputs[0], group.weight
        dynamic = group.mode == "dynamic"
        at = group.layouts[0]
        shape = _image(static_shape(x) or (), at)
        params = DYNAMIC if dynamic else self._params(x)
        # an integer bias leaves the host one rounding; with a scale of run time there is no such bias
        inside, outside = (None, group.bias) if dynamic else (group.bias, None)
        integer = _integer.conv(name, shape, weight, inside, conv_geometry(group.head), params, None)
        assert integer.scale is not None
        if dynamic:
            quantised, scale = self._quantise_dynamic(x, at)
        else:
            scale, quantised = const(np.array([params.scale], np.float32)), self._quantised(x, at).var
        symbol, acc = self._call_layer(integer, [quantised])
        bias = np.zeros(weight.shape[0], np.float32) if outside is None else outside
        var = group.members[group.n_linear - 1][0]
        edge = _edge(static_shape(var) or (), _planned(group))
        host = self._add(f"dequantize_{symbol}", lambda s: build_dequantize_acc(edge, s))
        operands = [acc, scale, const(integer.scale), const(bias)]
        self._bind_float(var, self._call(host, operands, edge, "float32"), _planned(group))
        self._keep(group.members[group.n_linear :])
        return symbol, integer.note

    def _call_layer(self, integer: Integer, inputs: list[Expr]) -> tuple[str, Expr]:
        layer = integer.layer
        gvar = self._add(layer.name, lambda symbol: build_primfunc(layer, symbol))
        shape, dtype = _result_of(layer)
        symbol = str(gvar.name_hint)
        self._layers.add(symbol)
        constants = [const(c) for c in integer.constants]
        return symbol, self._new(self._call(gvar, [*inputs, *constants], shape, dtype), symbol)

    def _params(self, var: Expr) -> QParams:
        blocked = self._blocked.get(var)
        return blocked.qparams if blocked else self.qparams[var.name]

    def _quantised(self, var: Expr, layout: Layout, pixels: int | None = None) -> _Blocked:
        """The 8-bit value of a variable in a layout, converted if there is none.

        With ``pixels``, zeros follow the tensor's own up to so many.
        """
        real = static_shape(var) or ()
        edge = _edge(real, layout)
        if var not in self._blocked:
            q = self.qparams[var.name]
            gvar = self._add(
                f"quantize_{var.name}",
                lambda s: build_quantize(edge, q.scale, q.zero_point, q.dtype, s),
            )
            value = self._call(gvar, [self._edge_value(var, layout)], _block_shape(edge), q.dtype)
            self._blocked[var] = _Blocked(self._new(value, f"{var.name}_q"), q, layout)
        have, shape = self._blocked[var], _block_shape(_image(real, layout))
        more = pixels is not None and pixels != shape[2] * shape[3]
        if more or not _layout.same_memory(real, have.layout, layout):
            return self._moved(var, have, layout, pixels)
        return _Blocked(self._shaped(have.var, shape), have.qparams, layout)

    def _moved(self, var: Expr, have: _Blocked, layout: Layout, pixels: int | None) -> _Blocked:
        """An 8-bit value brought into another layout by the host, once for all that want it so."""
        self._note = f"{var.name} is laid out anew on the host: a DMA moves words of 16 channels, not lanes"
        if (var, layout, pixels) not in self._moves:
            real, dtype = static_shape(var) or (), have.qparams.dtype
            source = tuple(static_shape(have.var) or ())
            gvar = self._add(
                f"relayout_{var.name}",
                lambda s: build_relayout(real, have.layout, layout, dtype, s, source, pixels=pixels),
            )
            n, c, h, w = _image(real, layout)
            shape = _block_shape((n, c, h, w) if pixels is None else (n, c, 1, pixels))
            moved = self._new(self._call(gvar, [have.var], shape, dtype), f"{var.name}_moved")
            self._moves[(var, layout, pixels)] = _Blocked(moved, have.qparams, layout)
        return self._moves[(var, layout, pixels)]

    def _quantise_dynamic(self, var: Expr, layout: Layout) -> tuple[Expr, Expr]:
        """(8-bit value, its scale), the scale computed at run time; once for all layers that read it."""
        if (var, layout) not in self._dynamic:
            self._float(var)
            real, name = static_shape(var) or (), str(var.name)
            scale = self._add(f"scale_of_{name}", lambda s: build_scale(real, s))
            scale_var = self._new(self._call(scale, [var], (1,), "float32"), f"{name}_scale")
            edge = _edge(real, layout)
            gvar = self._add(
                f"quantize_{name}",
                lambda s: build_quantize_dynamic(edge, DYNAMIC.zero_point, DYNAMIC.dtype, s),
            )
            operands = [self._edge_value(var, layout), scale_var]
            value = self._call(gvar, operands, _block_shape(edge), DYNAMIC.dtype)
            self._dynamic[(var, layout)] = (self._new(value, f"{name}_q"), scale_var)
        return self._dynamic[(var, layout)]

    def _edge_value(self, var: Expr, layout: Layout) -> Expr:
        """The float32 value of a variable in the order and rank that conversions take."""
        self._float(var)
        real, value = static_shape(var) or (), var
        edge = _edge(real, layout)
        order = _full_order(real, layout)
        if edge == real:
            return var
        if _is_first(real, layout) or order == tuple(range(len(real))):
            return self._new(relax.op.reshape(value, edge), f"{var.name}_2d")
        value = self._new(relax.op.permute_dims(value, list(order)), f"{var.name}_order")
        return self._new(relax.op.reshape(value, edge), f"{var.name}_2d")

    def _float(self, var: Expr) -> None:
        """Make sure that a variable has its float32 value."""
        if var not in self._pending:
            return
        self._pending.discard(var)
        blocked, real = self._blocked[var], static_shape(var) or ()
        blocked = self._quantised(var, blocked.layout)  # in the shape of this value
        q, edge = blocked.qparams, _edge(real, blocked.layout)
        gvar = self._add(
            f"dequantize_{var.name}",
            lambda s: build_dequantize(edge, q.scale, q.zero_point, q.dtype, s),
        )
        self._bind_float(var, self._call(gvar, [blocked.var], edge, "float32"), blocked.layout)

    def _bind_float(self, var: Expr, value: Expr, layout: Layout) -> None:
        real = static_shape(var) or ()
        order = _full_order(real, layout)
        if _edge(real, layout) == real:
            pass
        elif _is_first(real, layout) or order == tuple(range(len(real))):
            value = relax.op.reshape(self._new(value, f"{var.name}_2d"), real)
        else:
            value = relax.op.reshape(self._new(value, f"{var.name}_2d"), [real[a] for a in order])
            back = [order.index(a) for a in range(len(real))]
            value = relax.op.permute_dims(self._new(value, f"{var.name}_order"), back)
        self._bindings.append(relax.VarBinding(var, self.builder.normalize(value)))

    def _add(self, name: str, build: Callable[[str], Any]) -> Expr:
        base = symbol = identifier(name)
        i = 1
        while symbol in self._taken:
            i += 1
            symbol = f"{base}_{i}"
        self._taken.add(symbol)
        func = build(symbol)
        if LAYER_ATTR not in func.attrs:  # private: may be fused with its neighbours and removed
            func = func.without_attr("global_symbol")
        return self.builder.add_func(func, symbol)

    def _call(self, gvar: Expr, args: list[Expr], shape: tuple[int, ...], dtype: str) -> Expr:
        return relax.call_tir(gvar, args, out_ty=relax.TensorType(shape, dtype))

    def _new(self, value: Expr, hint: str) -> Expr:
        value = self.builder.normalize(value)
        var = (relax.DataflowVar if self._dataflow else ir.Var)(hint, value.ty)
        self._bindings.append(relax.VarBinding(var, value))
        return var


def _sizes(layer: ConvLayer) -> tuple[int, int, int, int]:
    return layer.batch, layer.in_channels, *layer.in_hw


def _planned(group: Group) -> Layout:
    if group.layout is None:
        raise ValueError(f"{group.tail} has no layout")  # a view without one is not written
    return group.layout


def _is_first(shape: tuple[int, ...], layout: Layout) -> bool:
    return 2 <= len(shape) <= 4 and layout == _layout.channels_first(shape)


def _image(shape: tuple[int, ...], layout: Layout) -> tuple[int, int, int, int]:
    """(N, C, H, W) of a value; with channels first it keeps which axis is H."""
    return as_nchw(shape) if _is_first(shape, layout) else layout.nchw(shape)


def _full_order(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """All axes in the order of memory; those of size one are last."""
    return (*layout.order, *(a for a in range(len(shape)) if a not in layout.order))


def _edge(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """Shape that the conversions take: rank 2 or 4."""
    return shape if len(shape) == 2 and _is_first(shape, layout) else _image(shape, layout)


def _block_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    n, c, h, w = as_nchw(shape)
    return (n, blocks16(c), h, w, 16)


def _result_of(layer: Layer) -> tuple[tuple[int, ...], str]:
    """Blocked shape and type of a layer's result."""
    if isinstance(layer, ConvLayer):
        dtype = layer.out_dtype if layer.out == "q8" else "int32"
        return _block_shape((layer.batch, layer.out_channels, *layer.out_hw)), dtype
    hw = layer.out_hw if layer.kind == "pool" else layer.hw
    return _block_shape((layer.batch, layer.channels, *hw)), layer.out_dtype
