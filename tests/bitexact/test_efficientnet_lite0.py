"""Every layer shape of EfficientNet-Lite0, random weights (4:16 but for depthwise layers), small buffers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from layerrun import compare

from sd_tvm.layers import AddLayer, ConvLayer, Layer, PoolLayer
from sd_tvm.weights.tensor import WeightForm

#: Repeats, kernel, stride, expansion, input and output channels (EfficientNet, arXiv 1905.11946, table 1).
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int, int]:
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return (total // 2, total // 2, total - total // 2, total - total // 2)


def conv(name: str, size: int, cin: int, cout: int, kernel: int, stride: int, groups: int = 1) -> ConvLayer:
    pad = same_padding(size, kernel, stride)
    return ConvLayer(
        name, 1, cin, (size, size), cout, (kernel, kernel), (stride, stride), pad, groups=groups,
        in_zero_point=7,
    )  # fmt: skip


def network() -> list[Layer]:
    """All layers, in order."""
    layers: list[Layer] = [conv("stem", 224, 3, 32, 3, 2)]
    size = 112
    for stage, (repeats, kernel, stride, expansion, first, cout) in enumerate(STAGES):
        for block in range(repeats):
            cin = first if block == 0 else cout
            step = stride if block == 0 else 1
            mid, name = cin * expansion, f"stage{stage}.{block}"
            if expansion > 1:
                layers.append(conv(f"{name}.expand", size, cin, mid, 1, 1))
            layers.append(conv(f"{name}.depthwise", size, mid, mid, kernel, step, mid))
            size = -(-size // step)
            layers.append(conv(f"{name}.project", size, mid, cout, 1, 1))
            if block:
                layers.append(AddLayer(f"{name}.add", 1, cout, (size, size), "uint8", 3, "uint8", 130))
    layers.append(conv("head", 7, 320, 1280, 1, 1))
    layers.append(PoolLayer("pool", "avg", 1, 1280, (7, 7), (7, 7), in_zero_point=2))
    layers.append(conv("classifier", 1, 1280, 1000, 1, 1))
    return layers


def distinct(layers: list[Layer]) -> list[Layer]:
    """Layers of one shape once, under the name of the first."""
    shapes: dict[Layer, Layer] = {}
    for layer in layers:
        shapes.setdefault(replace(layer, name=""), layer)
    return list(shapes.values())


def in_form(layer: Layer, pattern: str) -> Layer:
    """SD form for convolutions that are not depthwise, bases a filter."""
    if not isinstance(layer, ConvLayer) or pattern == "raw" or layer.groups > 1:
        return layer
    return replace(layer, form=WeightForm(pattern), n_bases=layer.out_channels)


LAYERS = distinct(network())


def test_it_is_the_network() -> None:
    convs = [layer for layer in network() if isinstance(layer, ConvLayer)]
    # The known sizes of the network: 385 MMAC, 4.6 M weights.
    assert sum(layer.macs for layer in convs) == 385_187_552
    assert sum(m * c * h * w for m, c, h, w in (layer.weight_shape for layer in convs)) == 4_608_992


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer(layer: Layer) -> None:
    compare(in_form(layer, "4:16"), 1, "edge", optimised=True)
