"""Layer shapes of the networks, each from one table. Batch 1; no pooling, additions and embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sd_tvm.accelerator.baselines.shapes import LayerShape

#: Inverted residuals: expansion, kernel, stride, channels, repeats.
EFFICIENTNET_LITE0 = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip
MOBILENET_V2 = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 3, 2, 32, 3), (6, 3, 2, 64, 4), (6, 3, 1, 96, 3),
    (6, 3, 2, 160, 3), (6, 3, 1, 320, 1),
)  # fmt: skip
#: Residual stages: width, blocks, stride of the first block.
RESNET18 = ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2))
RESNET50 = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
#: 3x3 convolutions, "M" halves the map; then dense layers.
VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
VGG19 = (
    64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M",
)  # fmt: skip
#: Layers, width, heads, width of the feed-forward part, tokens.
MINILM_L6 = (6, 384, 12, 1536, 128)


def _conv(name: str, m: int, c: int, k: int, stride: int, size: int, **more: bool) -> LayerShape:
    out = -(-size // stride)
    return LayerShape(name, "conv", m, c, k, stride, (out, out), (size, size), **more)


def _dense(name: str, m: int, c: int, tokens: int = 1, **more: bool) -> LayerShape:
    return LayerShape(name, "dense", m, c, 1, 1, (1, tokens), (1, tokens), **more)


def _ends(layers: list[LayerShape]) -> tuple[LayerShape, ...]:
    layers[0] = replace(layers[0], first=True)
    layers[-1] = replace(layers[-1], last=True)
    return tuple(layers)


def _inverted(table: Sequence[tuple[int, int, int, int, int]]) -> tuple[LayerShape, ...]:
    size, c = 112, 32
    out = [_conv("stem", c, 3, 3, 2, 224, raw=True, signed_input=True)]
    for stage, (t, k, first_stride, m, repeats) in enumerate(table):
        for i in range(repeats):
            stride, name, wide = (first_stride if i == 0 else 1), f"b{stage}.{i}", t * c
            if t > 1:
                out.append(_conv(f"{name}.expand", wide, c, 1, 1, size, inner_out=True, signed_input=True))
            small = -(-size // stride)
            hw, small_hw = (size, size), (small, small)
            out.append(
                LayerShape(f"{name}.depthwise", "depthwise", wide, wide, k, stride, small_hw, hw, wide,
                           inner_in=t > 1, inner_out=True)
            )  # fmt: skip
            out.append(_conv(f"{name}.project", m, wide, 1, 1, small, inner_in=True))
            size, c = small, m
    out.append(_conv("head", 1280, c, 1, 1, size, signed_input=True))
    return _ends([*out, _dense("classifier", 1000, 1280)])


def _resnet(table: Sequence[tuple[int, int, int]], bottleneck: bool) -> tuple[LayerShape, ...]:
    size, c = 56, 64
    out = [_conv("stem", 64, 3, 7, 2, 224, raw=True, signed_input=True)]
    for stage, (width, blocks, first_stride) in enumerate(table):
        for i in range(blocks):
            s, name = (first_stride if i == 0 else 1), f"s{stage}.{i}"
            small, m = -(-size // s), width * (4 if bottleneck else 1)
            if bottleneck:
                out.append(_conv(f"{name}.a", width, c, 1, 1, size))
                out.append(_conv(f"{name}.b", width, width, 3, s, size))
                out.append(_conv(f"{name}.c", m, width, 1, 1, small))
            else:
                out.append(_conv(f"{name}.a", width, c, 3, s, size))
                out.append(_conv(f"{name}.b", width, width, 3, 1, small))
            if s != 1 or c != m:
                out.append(_conv(f"{name}.down", m, c, 1, s, size))
            size, c = small, m
    return _ends([*out, _dense("classifier", 1000, c)])


def _vgg(table: Sequence[int | str], size: int, dense: Sequence[int]) -> tuple[LayerShape, ...]:
    c, out = 3, list[LayerShape]()
    for item in table:
        if isinstance(item, str):
            size //= 2
        else:
            first = not out
            out.append(_conv(f"conv{len(out)}", item, c, 3, 1, size, raw=first, signed_input=first))
            c = item
    c *= size * size
    for i, m in enumerate(dense):
        out.append(_dense(f"fc{i}", m, c))
        c = m
    return _ends(out)


def _encoder(table: tuple[int, int, int, int, int]) -> tuple[LayerShape, ...]:
    n, d, heads, wide, tokens = table
    out: list[LayerShape] = []
    for i in range(n):
        out += [_dense(f"l{i}.{x}", d, d, tokens, inner_out=True, signed_input=True) for x in "qkv"]
        for name, columns, depth in (("scores", tokens, d // heads), ("mix", d // heads, tokens)):
            out.append(
                LayerShape(f"l{i}.{name}", "matmul", heads * columns, heads * depth, 1, 1, (1, tokens),
                           (1, tokens), heads, inner_in=True, inner_out=True, signed_input=True)
            )  # fmt: skip
        out.append(_dense(f"l{i}.out", d, d, tokens, inner_in=True, signed_input=True))
        out.append(_dense(f"l{i}.ffn1", wide, d, tokens, inner_out=True, signed_input=True))
        out.append(_dense(f"l{i}.ffn2", d, wide, tokens, inner_in=True, signed_input=True))
    return _ends(out)


_BUILDERS: dict[str, Callable[[], tuple[LayerShape, ...]]] = {
    "EfficientNet-Lite0": lambda: _inverted(EFFICIENTNET_LITE0),
    "MobileNetV2": lambda: _inverted(MOBILENET_V2),
    "ResNet-18": lambda: _resnet(RESNET18, bottleneck=False),
    "ResNet-50": lambda: _resnet(RESNET50, bottleneck=True),
    "VGG16-CIFAR": lambda: _vgg(VGG16, 32, (512, 10)),
    "VGG19-CIFAR": lambda: _vgg(VGG19, 32, (10,)),
    "VGG11-ImageNet": lambda: _vgg(VGG11, 224, (4096, 4096, 1000)),
    "MiniLM-L6 seq 128": lambda: _encoder(MINILM_L6),
}

#: Network name -> layers.
WORKLOADS: dict[str, tuple[LayerShape, ...]] = {name: build() for name, build in _BUILDERS.items()}

#: Only for the check of the papers' claims, which were made on it.
VGG16_IMAGENET = _vgg(VGG16, 224, (4096, 4096, 1000))
