"""Links the steps of a region into one program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

from sd_tvm.accelerator.codegen.binding import Binding, Home, View
from sd_tvm.accelerator.codegen.generator import Generator
from sd_tvm.accelerator.codegen.lower import lower
from sd_tvm.accelerator.codegen.memory import Arena
from sd_tvm.accelerator.codegen.provenance import Provenance
from sd_tvm.accelerator.codegen.stream import Access, Stream
from sd_tvm.accelerator.codegen.tune import Tuning
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.program import Program
from sd_tvm.accelerator.isa.spec import BY_NAME, AluOp, AluSrcB, Mem
from sd_tvm.layers import LANES, PACKED_LANES, Layer, layer_from_json, layer_to_json, packed_width
from sd_tvm.schedules.accel import schedule_accel
from sd_tvm.schedules.accel.fusion import Buffer, Plan, Region, Source, plan_region
from sd_tvm.schedules.accel.placement import Placement
from sd_tvm.schedules.accel.tiles import Tile, TileDatabase
from sd_tvm.schedules.ops import build_primfunc

_MAX_PLANES = (1 << next(f.bits for f in BY_NAME["ALU"].fields if f.name == "n2")) - 1
_SIGNED_RESULT = 2


@dataclass(frozen=True)
class Linked:
    """A program of a region.

    Attributes
    ----------
    program
        Instructions of layer i stand behind ``MARK i``.
    plan
        Steps and buffers.
    """

    program: Program
    plan: Plan


@dataclass(frozen=True)
class Segments:
    """Operands of the program.

    Attributes
    ----------
    values
        Value -> segment, for those that exist in DRAM.
    constants
        For each node: segments of its constants, in operand order.
    records
        Segments of constants that hold records of 9 bytes, and the 3 bytes that follow in every word.
    sizes
        Bytes of each segment.
    n_results
        The last so many are written.
    """

    values: dict[int, int]
    constants: tuple[tuple[int, ...], ...]
    records: Mapping[int, tuple[int, int, int]]
    sizes: tuple[int, ...]
    n_results: int


def link(
    region: Region,
    plan: Plan,
    segments: Segments,
    config: AcceleratorConfig,
    tiles: TileDatabase | None = None,
    window: range | None = None,
) -> Program:
    """Emit all steps of a plan into one program.

    Parameters
    ----------
    region, plan
        What to compute, and how.
    segments
        Where operands are.
    config
        The machine.
    tiles
        Tiles that are known; the others are the best by their estimated cost.
    window
        Some of the steps only, to measure them: what they read is there already.

    Raises
    ------
    ScheduleError, CodegenError
        As :func:`sd_tvm.accelerator.codegen.compile_program`.
    """
    _CONFIGS[config.to_text()] = config
    stream, arena, held = Stream(), Arena(config), Provenance()
    born: set[int] = set()
    for number in window or range(len(plan.steps)):
        step = plan.steps[number]
        node = region.nodes[step.node]
        stream.emit("MARK", {"layer": step.node})
        output = step.output.buffer
        if output is not None and output not in born:
            born.add(output)
            _fill_padding(plan.buffers[output], stream)
            arena.use(Mem.INP, plan.buffers[output].start + plan.buffers[output].words)
        arena.inp = plan.free[number]
        bindings = [
            _bind(source, value, region, plan, segments)
            for source, value in zip(step.inputs, node.inputs, strict=True)
        ]
        bindings += [
            Binding(segment=s, records=segments.records.get(s)) for s in segments.constants[step.node]
        ]
        bindings.append(_bind(step.output, node.result, region, plan, segments))
        homes = tuple(b.home for b in bindings)
        layer = layer_to_json(replace(step.layer, name=""))
        tile = None if tiles is None else tiles.get(step.layer, config, step.placement)
        generator = _generator(layer, step.placement, homes, config.to_text(), tile)
        generator.emit(bindings, arena, stream, held, step.keep)
    stream.emit("FINISH", {})
    ahead = max(0, config.control.queue_depth - 2)
    return stream.program(segments.sizes, arena.required, segments.n_results, ahead)


@lru_cache(maxsize=1024)
def _generator(
    layer: str, placement: Placement, homes: tuple[Home, ...], config: str, tile: Tile | None
) -> Generator:
    """Matched nests of a step; equal steps share them."""
    parsed: Layer = layer_from_json(layer)
    machine = _CONFIGS[config]
    func = build_primfunc(parsed, "main")
    return Generator(lower(schedule_accel(func, machine, placement, tile)), parsed, homes)


#: Configurations by their text, for the cache.
_CONFIGS: dict[str, AcceleratorConfig] = {}


def _bind(source: Source, value: int, region: Region, plan: Plan, segments: Segments) -> Binding:
    """Place of an activation of a step."""
    shape = source.shape
    images, blocks, rows, _ = shape
    dense: tuple[int, ...] = (*shape, LANES)
    if source.buffer is None:
        _, _, height, width = region.values[value].shape
        lanes = LANES
        if region.values[value].packed:
            lanes, width = PACKED_LANES, packed_width(width)
            dense = (images, blocks, rows, width, lanes)
        plane = height * width * lanes
        first = source.image * blocks * plane + source.first * width * lanes
        view = None
        if rows != height:
            view = View(dense, (blocks * plane, plane, width * lanes, lanes, 1))
        return Binding(Home(None, view), segments.values[value], first)
    buffer = plan.buffers[source.buffer]
    plane = buffer.rows * buffer.pitch
    image = source.image if buffer.images > 1 else 0
    first = buffer.start + image * blocks * plane
    first += (source.first - buffer.origin) * buffer.pitch + source.left + buffer.left
    strides = (blocks * plane, plane, buffer.pitch, 1)
    last = sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
    view = View(dense, (*(s * LANES for s in strides), 1))
    return Binding(Home(Mem.INP, view), 0, first, last + 1)


def _fill_padding(buffer: Buffer, stream: Stream) -> None:
    """Write the words of a buffer that are padding."""
    top = max(0, -buffer.origin)
    bottom = max(0, buffer.origin + buffer.rows - buffer.height)
    right = buffer.pitch - buffer.left - buffer.width
    inside = buffer.rows - top - bottom
    for row, rows, column, columns in (
        (0, top, 0, buffer.pitch),
        (buffer.rows - bottom, bottom, 0, buffer.pitch),
        (top, inside, 0, buffer.left),
        (top, inside, buffer.pitch - right, right),
    ):
        if rows > 0 and columns > 0:
            _fill(stream, buffer, buffer.start + row * buffer.pitch + column, rows, columns)


def _fill(stream: Stream, buffer: Buffer, first: int, rows: int, columns: int) -> None:
    """Write a rectangle of every plane; the ALU does it, so that loads do not queue behind it."""
    plane, planes = buffer.rows * buffer.pitch, buffer.images * buffer.blocks
    for start in range(0, planes, _MAX_PLANES):
        n = min(_MAX_PLANES, planes - start)
        at = first + start * plane
        last = at + (n - 1) * plane + (rows - 1) * buffer.pitch + columns
        stream.emit(
            "ALU",
            {
                "op": int(AluOp.MOV),
                "b_src": int(AluSrcB.IMM),
                "dst_mem": int(Mem.INP),
                "a_mem": int(Mem.INP),
                "flags": _SIGNED_RESULT if buffer.pad_value < 0 else 0,
                "imm": buffer.pad_value,
                "dst": at,
                "n0": columns,
                "n1": rows,
                "n2": n,
                "dst_s0": 1,
                "dst_s1": buffer.pitch,
                "dst_s2": plane if n > 1 else 0,
            },
            writes=[Access(Mem.INP, at, last)],
        )


def compile_region(
    region: Region,
    constants: Sequence[Sequence[int]],
    n_constants: int,
    constant_bytes: Sequence[int],
    config: AcceleratorConfig,
    *,
    fuse: bool = True,
    records: Mapping[int, tuple[int, int, int]] = MappingProxyType({}),
    tuning: Tuning | None = None,
) -> tuple[Linked, list[int], list[int]]:
    """Plan and link a region.

    Parameters
    ----------
    region
        The layers. Values that nobody makes are inputs; those that leave are results.
    constants
        For each node, the numbers of its constants.
    n_constants
        How many constants there are.
    constant_bytes
        Bytes of each.
    config
        The machine.
    fuse
        Whether activations may stay on chip between layers.
    records
        Constants that are packed to 9 bytes a word (:func:`sd_tvm.schedules.ops.pack_records`).
    tuning
        Tiles that are known, and how many to try for those that are not.

    Returns
    -------
    tuple
        Program and plan; values that are inputs; values that are results, in the order of the segments:
        inputs, constants, results (those that leave, then those that only pass through DRAM).

    Raises
    ------
    ScheduleError, CodegenError
        If it does not fit, or does not map onto instructions.
    """
    plan = plan_region(region, config, fuse=fuse)
    inputs = [v for v in range(len(region.values)) if v not in region.maker]
    results = [v for v, item in enumerate(region.values) if v in region.maker and item.leaves]
    results += [v for v in plan.spilled if v not in results]
    base = len(inputs) + n_constants
    values = {v: i for i, v in enumerate(inputs)} | {v: base + i for i, v in enumerate(results)}
    wide = {n.result for n in region.nodes if getattr(n.layer, "out", "q8") != "q8"}

    def size(v: int) -> int:
        return region.values[v].words * LANES * (4 if v in wide else 1)

    sizes = (*(size(v) for v in inputs), *constant_bytes, *(size(v) for v in results))
    shifted = tuple(tuple(len(inputs) + c for c in node) for node in constants)
    spread = {len(inputs) + c: bytes_ for c, bytes_ in records.items()}
    segments = Segments(values, shifted, spread, sizes, len(results))
    tiles = None
    if tuning is not None:
        tiles = tuning.tiles

        def measure(known: TileDatabase, window: range | None) -> Program:
            return link(region, plan, segments, config, known, window)

        tuning.tune([(step.layer, step.placement) for step in plan.steps], config, measure)
    return Linked(link(region, plan, segments, config, tiles), plan), inputs, results
