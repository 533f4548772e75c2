"""Random regions: layers that feed each other, run as one program and by the golden model layer by layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import layergen
import numpy as np

from sd_tvm.accelerator.codegen.region import Linked, compile_region
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.simulator import run_program
from sd_tvm.layers import (
    AddLayer,
    ConcatLayer,
    ConvLayer,
    Layer,
    LutLayer,
    MulLayer,
    PoolLayer,
    RequantLayer,
    ResizeLayer,
    blocks16,
    packed_width,
)
from sd_tvm.numerics import golden
from sd_tvm.schedules.accel.fusion import Node, Region, Value


class Net:
    """A region under construction, with operands and golden values."""

    def __init__(
        self, seed: int, channels: int, hw: tuple[int, int], batch: int = 1, *, packed: bool = False
    ) -> None:
        self.seed, self.batch = seed, batch
        self.nodes: list[Node] = []
        self.values: list[Value] = []
        self.arrays: list[np.ndarray] = []
        self.types: list[tuple[int, tuple[int, int], str, int]] = []
        self.constants: list[np.ndarray] = []
        self.of_node: list[list[int]] = []
        shape = (batch, blocks16(channels), *hw)
        rng = np.random.default_rng(seed)
        kind = (channels, hw, "uint8", 3)
        if packed:
            array = rng.integers(0, 255, (batch, 1, hw[0], packed_width(hw[1]), 4)).astype(np.uint8)
            self._value(shape, "x", array, kind)
            self.values[0] = Value(shape, "x", packed=True)
        else:
            self._value(shape, "x", rng.integers(0, 255, (*shape, 16)).astype(np.uint8), kind)

    def _value(self, shape: Any, name: str, array: np.ndarray, kind: Any) -> int:
        self.values.append(Value(shape, name))
        self.arrays.append(array)
        self.types.append(kind)
        return len(self.values) - 1

    def add(self, layer: Layer, inputs: list[int], zero_point: int = 0) -> int:
        """Append a layer; returns its value."""
        operands = layergen.operands_of(layer, self.seed + len(self.nodes))
        n = len(inputs)
        operands[:n] = [self.arrays[v] for v in inputs]
        result = golden.run_layer(layer, operands)
        channels = layer.out_channels if isinstance(layer, ConvLayer) else layer.channels
        hw = layer.out_hw if hasattr(layer, "out_hw") else layer.hw
        value = self._value(result.shape[:4], layer.name, result, (channels, hw, layer.out_dtype, zero_point))
        self.nodes.append(Node(layer, tuple(inputs), len(operands) - n, value))
        self.of_node.append(list(range(len(self.constants), len(self.constants) + len(operands) - n)))
        self.constants += operands[n:]
        return value

    def conv(self, x: int, m: int, k: int = 1, **options: Any) -> int:
        """A convolution of a value."""
        channels, hw, dtype, zero = self.types[x]
        layer = ConvLayer(
            f"conv{len(self.nodes)}", self.batch, channels, hw, m, (k, k), in_dtype=dtype,
            in_zero_point=zero, out_dtype="uint8", packed_input=self.values[x].packed, **options,
        )  # fmt: skip
        return self.add(layer, [x], 0)

    def residual(self, a: int, b: int) -> int:
        """Sum of two values."""
        (channels, hw, da, za), (_, _, db, zb) = self.types[a], self.types[b]
        layer = AddLayer(f"add{len(self.nodes)}", self.batch, channels, hw, da, za, db, zb, "uint8")
        return self.add(layer, [a, b], 0)

    def pool(self, x: int, mode: str, kernel: tuple[int, int], **options: Any) -> int:
        """A pool of a value."""
        channels, hw, dtype, zero = self.types[x]
        layer = PoolLayer(
            f"pool{len(self.nodes)}", mode, self.batch, channels, hw, kernel, in_dtype=dtype,
            in_zero_point=zero if mode == "avg" else 0, out_dtype=dtype if mode == "max" else "uint8",
            **options,
        )  # fmt: skip
        return self.add(layer, [x], zero if mode == "max" else 0)

    def requant(self, x: int) -> int:
        """A requantisation of a value."""
        channels, hw, dtype, zero = self.types[x]
        return self.add(
            RequantLayer(f"req{len(self.nodes)}", self.batch, channels, hw, dtype, zero, "uint8"), [x]
        )

    def lut(self, x: int) -> int:
        """A table of random bytes."""
        channels, hw, dtype, _ = self.types[x]
        return self.add(LutLayer(f"lut{len(self.nodes)}", self.batch, channels, hw, "", dtype, "uint8"), [x])

    def mul(self, a: int, b: int) -> int:
        """Product of two values; b may have one pixel."""
        (channels, hw, da, za), (_, small, db, zb) = self.types[a], self.types[b]
        layer = MulLayer(
            f"mul{len(self.nodes)}", self.batch, channels, hw, small != hw, da, za, db, zb, "uint8"
        )
        return self.add(layer, [a, b])

    def concat(self, parts: list[int]) -> int:
        """Channels of several values."""
        kinds = [self.types[v] for v in parts]
        layer = ConcatLayer(
            f"concat{len(self.nodes)}", self.batch, tuple(k[0] for k in kinds), kinds[0][1],
            tuple(k[2] for k in kinds), tuple(k[3] for k in kinds), "uint8",
        )  # fmt: skip
        return self.add(layer, parts)

    def resize(self, x: int) -> int:
        """Twice the size."""
        channels, hw, dtype, zero = self.types[x]
        return self.add(
            ResizeLayer(f"up{len(self.nodes)}", self.batch, channels, hw, (2, 2), dtype), [x], zero
        )

    def region(self, outputs: list[int]) -> Region:
        """The finished region."""
        values = tuple(replace(v, leaves=i in outputs) for i, v in enumerate(self.values))
        return Region(tuple(self.nodes), values)


def run(
    net: Net, outputs: list[int], config: AcceleratorConfig, *, fuse: bool = True, mode: str = "functional"
) -> tuple[Linked, dict[str, Any]]:
    """Compile and simulate; every output must be the golden one."""
    region = net.region(outputs)
    linked, inputs, results = compile_region(
        region, net.of_node, len(net.constants), [c.nbytes for c in net.constants], config, fuse=fuse
    )
    out = [np.full(net.arrays[v].shape, 85, net.arrays[v].dtype) for v in results]
    tensors = [*(net.arrays[v] for v in inputs), *net.constants, *out]
    stats = run_program(linked.program.to_bytes(), config, tensors, mode)
    for v, array in zip(results, out, strict=True):
        channels = net.types[v][0]
        n, cb, h, w, _ = array.shape
        flat = [
            a.transpose(0, 1, 4, 2, 3).reshape(n, cb * 16, h, w)[:, :channels] for a in (array, net.arrays[v])
        ]
        np.testing.assert_array_equal(flat[0], flat[1], err_msg=net.values[v].name)
    return linked, stats
