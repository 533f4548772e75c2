"""Descriptions of the integer layers that passes emit, schedules lower and the simulator runs.

A layer is one record, TVM-free and JSON-able. It says everything about shapes and weight form
and nothing about values; values (codes, bases, quantisation words) are separate arrays. The meaning of
every field is defined in ``docs/numerics.md``.

Activations are 8-bit, blocked by 16 channels: (N, ceil(C/16), H, W, 16). Lanes beyond C hold
unspecified values and are never read as data.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sd_tvm.errors import FormatError
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import WeightForm

LANES = 16
#: Channels of a pixel of an input that is packed for the accelerator.
PACKED_LANES = 4
ActDType = Literal["uint8", "int8"]
#: Widths of rebuilt weights that layers tell apart: arrays have multipliers of one of them.
NARROW_BITS, WIDE_BITS = 10, 16


def blocks16(n: int) -> int:
    """Blocks of 16 lanes that hold n channels."""
    return -(-n // LANES)


def packed_width(width: int) -> int:
    """Pixels of a stored row of a packed input: whole 16-byte words."""
    return -(-width // PACKED_LANES) * PACKED_LANES


@dataclass(frozen=True)
class ConvLayer:
    """Convolution or dense layer (dense: 1x1 kernel on a 1x1 image).

    Operands, in order: x; then ``w8`` int8 (ceil(M/16), K, 16) for a raw weight, or ``codes``
    uint8 (ceil(M/8), slots/4, 16*planes), ``basis`` int8 (NB, ceil16(S*S)), ``table`` int8 (16,),
    then ``bitmap`` uint8 (groups, ceil(R/8) padded to 16) for ``shared`` and ``ids`` uint8
    (ceil16(M),) for ``codebook``; then ``qp`` int32 (ceil16(M), 4).
    Result: ``q8``: 8-bit blocked (N, MB, OH, OW, 16); ``i32``: int32 accumulators, same blocking.
    """

    name: str
    batch: int
    in_channels: int
    in_hw: tuple[int, int]
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    form: WeightForm | None = None  # None: raw int8
    n_bases: int = 0
    in_dtype: ActDType = "uint8"
    in_zero_point: int = 0
    out_dtype: ActDType = "uint8"
    out: Literal["q8", "i32"] = "q8"
    #: x has 4 channels a pixel and rows of whole 16-byte words: (N, 1, H, 4 * ceil(W / 4), 4), 8 bit.
    packed_input: bool = False
    #: Bits that hold every rebuilt weight: NARROW_BITS or WIDE_BITS.
    weight_bits: int = WIDE_BITS
    kind: Literal["conv"] = "conv"

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(M, Cg, KH, KW)."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def geometry(self) -> RowGeometry:
        """Row view of the weight."""
        return RowGeometry(self.weight_shape)

    @property
    def out_hw(self) -> tuple[int, int]:
        """Output height and width."""
        t, left, b, r = self.padding
        (h, w), (kh, kw), (sh, sw), (dh, dw) = self.in_hw, self.kernel, self.stride, self.dilation
        return (
            (h + t + b - dh * (kh - 1) - 1) // sh + 1,
            (w + left + r - dw * (kw - 1) - 1) // sw + 1,
        )

    @property
    def reach(self) -> tuple[int, int]:
        """Height and width of the padded input that the windows of the output reach."""
        (oh, ow), (sh, sw), (dh, dw), (kh, kw) = self.out_hw, self.stride, self.dilation, self.kernel
        return (oh - 1) * sh + (kh - 1) * dh + 1, (ow - 1) * sw + (kw - 1) * dw + 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense layer, zeros included."""
        m, cg, kh, kw = self.weight_shape
        return self.batch * m * cg * kh * kw * self.out_hw[0] * self.out_hw[1]


@dataclass(frozen=True)
class AddLayer:
    """Sum of two quantised tensors of one shape. Operands: a, b, ``qp`` int32 (3, 4): words of a, b, out."""

    name: str
    batch: int
    channels: int
    hw: tuple[int, int]
    a_dtype: ActDType = "uint8"
    a_zero_point: int = 0
    b_dtype: ActDType = "uint8"
    b_zero_point: int = 0
    out_dtype: ActDType = "uint8"
    kind: Literal["add"] = "add"


@dataclass(frozen=True)
class PoolLayer:
    """Max or average pooling. Operands: x, ``qp`` int32 (1, 4) (average only; max keeps the scale).

    Average pooling counts padding (``count_include_pad``); a global average is a kernel of the
    image's size. Max pooling pads with the smallest 8-bit value.
    """

    name: str
    mode: Literal["max", "avg"]
    batch: int
    channels: int
    in_hw: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    in_dtype: ActDType = "uint8"
    in_zero_point: int = 0
    out_dtype: ActDType = "uint8"
    kind: Literal["pool"] = "pool"

    @property
    def out_hw(self) -> tuple[int, int]:
        """Output height and width."""
        t, left, b, r = self.padding
        (h, w), (kh, kw), (sh, sw) = self.in_hw, self.kernel, self.stride
        return ((h + t + b - kh) // sh + 1, (w + left + r - kw) // sw + 1)


@dataclass(frozen=True)
class RequantLayer:
    """Rescale and clip one tensor (stand-alone ReLU, clip). Operands: x, ``qp`` int32 (1, 4)."""

    name: str
    batch: int
    channels: int
    hw: tuple[int, int]
    in_dtype: ActDType = "uint8"
    in_zero_point: int = 0
    out_dtype: ActDType = "uint8"
    kind: Literal["requant"] = "requant"


@dataclass(frozen=True)
class LutLayer:
    """Any function of one 8-bit value, as a table. Operands: x, ``lut`` (256,) of the result's type.

    Entry i is the result for the byte i; an int8 x is read as its two's complement byte.
    """

    name: str
    batch: int
    channels: int
    hw: tuple[int, int]
    function: str = ""  # what the table holds, for reports: "silu", "add, clip, multiply"
    in_dtype: ActDType = "uint8"
    out_dtype: ActDType = "uint8"
    kind: Literal["lut"] = "lut"


@dataclass(frozen=True)
class MulLayer:
    """Product of two quantised tensors. Operands: a (N, C, H, W), b of that shape, ``qp`` int32 (1, 4).

    With ``b_per_channel``, b is (N, C, 1, 1): one factor a channel (squeeze-and-excite).
    """

    name: str
    batch: int
    channels: int
    hw: tuple[int, int]
    b_per_channel: bool = False
    a_dtype: ActDType = "uint8"
    a_zero_point: int = 0
    b_dtype: ActDType = "uint8"
    b_zero_point: int = 0
    out_dtype: ActDType = "uint8"
    kind: Literal["mul"] = "mul"

    @property
    def b_hw(self) -> tuple[int, int]:
        """Height and width of b."""
        return (1, 1) if self.b_per_channel else self.hw


@dataclass(frozen=True)
class ConcatLayer:
    """Channels of several tensors one after the other, each rescaled to the result's scale.

    Operands: the tensors in order, ``qp`` int32 (parts, 4): one word a tensor.
    """

    name: str
    batch: int
    parts: tuple[int, ...]  # channels of each operand
    hw: tuple[int, int]
    in_dtypes: tuple[ActDType, ...]
    in_zero_points: tuple[int, ...]
    out_dtype: ActDType = "uint8"
    kind: Literal["concat"] = "concat"

    @property
    def channels(self) -> int:
        """Channels of the result."""
        return sum(self.parts)

    @property
    def is_aligned(self) -> bool:
        """Whether every tensor but the last fills its blocks of 16 channels: no lane moves."""
        return all(c % LANES == 0 for c in self.parts[:-1])


@dataclass(frozen=True)
class ResizeLayer:
    """Nearest-neighbour enlargement by whole factors; scale and zero point stay. Operand: x."""

    name: str
    batch: int
    channels: int
    in_hw: tuple[int, int]
    factor: tuple[int, int]
    in_dtype: ActDType = "uint8"
    kind: Literal["resize"] = "resize"

    @property
    def out_dtype(self) -> ActDType:
        """Type of the result."""
        return self.in_dtype

    @property
    def out_hw(self) -> tuple[int, int]:
        """Output height and width."""
        return self.in_hw[0] * self.factor[0], self.in_hw[1] * self.factor[1]

    @property
    def hw(self) -> tuple[int, int]:
        """Output height and width, as of layers whose input and result agree."""
        return self.out_hw


@dataclass(frozen=True)
class InterleaveLayer:
    """Phases side by side in the channels become pixels: the end of a transposed convolution.

    Operand: x (N, fy * fx * CB, T, U, 16), CB = ceil(channels / 16) blocks a phase. With (v, u) = (oy + top,
    ox + left), result pixel (oy, ox) is pixel (v / fy, u / fx) of phase (v mod fy) * fx + (u mod fx).
    Scale and zero point stay.
    """

    name: str
    batch: int
    channels: int
    in_hw: tuple[int, int]
    factor: tuple[int, int]
    crop: tuple[int, int]  # top, left; each less than the factor
    out_hw: tuple[int, int]
    in_dtype: ActDType = "uint8"
    kind: Literal["interleave"] = "interleave"

    @property
    def out_dtype(self) -> ActDType:
        """Type of the result."""
        return self.in_dtype

    @property
    def phases(self) -> int:
        """Phases in the channels of the operand."""
        return self.factor[0] * self.factor[1]

    @property
    def hw(self) -> tuple[int, int]:
        """Output height and width."""
        return self.out_hw


@dataclass(frozen=True)
class SumLayer:
    """Partial sums of a convolution whose input channels were cut into parts, added and requantised.

    Operands: ``sums`` int32 (N, parts * CB, H, W, 16), CB = ceil(channels / 16), as a grouped convolution
    with int32 results leaves them; ``qp`` int32 (ceil16(channels), 4), whose bias is not read.
    """

    name: str
    batch: int
    channels: int
    hw: tuple[int, int]
    parts: int
    out_dtype: ActDType = "uint8"
    kind: Literal["sum"] = "sum"


Layer = (
    ConvLayer
    | AddLayer
    | PoolLayer
    | RequantLayer
    | LutLayer
    | MulLayer
    | ConcatLayer
    | ResizeLayer
    | InterleaveLayer
    | SumLayer
)
_KINDS: dict[str, type[Any]] = {
    "conv": ConvLayer,
    "add": AddLayer,
    "pool": PoolLayer,
    "requant": RequantLayer,
    "lut": LutLayer,
    "mul": MulLayer,
    "concat": ConcatLayer,
    "resize": ResizeLayer,
    "interleave": InterleaveLayer,
    "sum": SumLayer,
}


def n_activations(layer: Layer) -> int:
    """Number of a layer's first operands that are activations; weights and tables follow."""
    if isinstance(layer, ConcatLayer):
        return len(layer.parts)
    return 2 if isinstance(layer, AddLayer | MulLayer) else 1


def constant_names(layer: ConvLayer) -> list[str]:
    """Names of a convolution's operands after x, in order."""
    form = layer.form
    names = ["w8"] if form is None else ["codes", "basis", "table"]
    if form is not None and form.pattern == "shared":
        names.append("bitmap")
    if form is not None and form.basis_kind == "codebook":
        names.append("ids")
    return [*names, "qp"]


def layer_to_json(layer: Layer) -> str:
    """Canonical JSON (sorted keys) of a layer."""
    return json.dumps(asdict(layer), sort_keys=True)


def layer_from_json(text: str) -> Layer:
    """Inverse of :func:`layer_to_json`.

    Raises
    ------
    FormatError
        If the text is not a layer.
    """
    try:
        data = json.loads(text)
        cls = _KINDS[data["kind"]]
        for key, value in data.items():
            if isinstance(value, list):
                data[key] = tuple(value)
        if data.get("form") is not None:
            data["form"] = WeightForm(**data["form"])
        layer: Layer = cls(**data)
        return layer
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"not a layer description ({error!r})",
            expected=f"JSON of a layer whose kind is one of {sorted(_KINDS)}",
            fix="recompile the module with this version",
        ) from error
