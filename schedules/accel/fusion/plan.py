"""The plan of a region: steps in order, and the buffers that hold activations between them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.errors import ScheduleError
from sd_tvm.layers import Layer
from sd_tvm.schedules.accel.fusion.addresses import place
from sd_tvm.schedules.accel.fusion.region import Region
from sd_tvm.schedules.accel.fusion.search import Extent, Run, Search, Space, strip_extents, strips
from sd_tvm.schedules.accel.fusion.windows import part_of, result_hw, window_of
from sd_tvm.schedules.accel.placement import Placement

#: Shares of INP that plans try; buffers of a plan may fit in number of words and still not in place.
_SHARES = (1.0, 0.92, 0.84, 0.75, 0.6, 0.4)


@dataclass
class Buffer:
    """Rows of a value on chip: (images, blocks, rows, pitch) words.

    Attributes
    ----------
    value
        The value.
    images, blocks, rows, pitch
        Extents in words.
    origin
        Row of the value that the first row of the buffer holds; negative: padding.
    left
        Words of padding before each row.
    height, width
        Size of the value.
    pad_value
        Byte of the padding.
    first_step, last_step
        Its life.
    start
        First word in INP.
    """

    value: int
    images: int
    blocks: int
    rows: int
    pitch: int
    origin: int
    left: int
    height: int
    width: int
    pad_value: int
    first_step: int
    last_step: int
    start: int = 0

    @property
    def words(self) -> int:
        """Size."""
        return self.images * self.blocks * self.rows * self.pitch


@dataclass(frozen=True)
class Source:
    """Where a step reads an input: rows [first, first + rows) and columns [left, left + columns).

    Attributes
    ----------
    buffer
        Index of a buffer; None: DRAM.
    image
        First image.
    first, left
        First row and column of the value.
    shape
        (images, blocks, rows, columns) that the step sees.
    """

    buffer: int | None
    image: int
    first: int
    left: int
    shape: tuple[int, int, int, int]


@dataclass(frozen=True)
class Step:
    """One layer, or a strip of it.

    Attributes
    ----------
    node
        The layer's node.
    layer
        What the step computes: the layer on a window of its inputs.
    inputs
        Where the inputs are.
    output
        Where the result goes (first row, shape and place as for inputs).
    placement
        For the schedule.
    keep
        Steps with the same key share the place of their weights; None: they do not.
    """

    node: int
    layer: Layer
    inputs: tuple[Source, ...]
    output: Source
    placement: Placement
    keep: tuple[int, int] | None = None


@dataclass
class Plan:
    """Steps and buffers.

    Attributes
    ----------
    steps
        In order.
    buffers
        Activations on chip.
    runs
        The decision that they follow from.
    spilled
        Values inside the region that go through DRAM.
    free
        For each step: (first word, words) of INP that its own buffers may use.
    """

    steps: list[Step] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    spilled: list[int] = field(default_factory=list)
    free: list[tuple[int, int]] = field(default_factory=list)


def plan_region(region: Region, config: AcceleratorConfig, *, fuse: bool = True) -> Plan:
    """Steps and buffers of a region.

    Parameters
    ----------
    region
        The layers.
    config
        The machine.
    fuse
        Whether activations may stay on chip between layers.

    Raises
    ------
    ScheduleError
        If nothing fits.
    """
    words = config.buffer_words(Mem.INP)
    for share in _SHARES:
        search = Search(Space(region, config, int(words * share)), fuse=fuse)
        plan = _Planner(region, search.space, search.runs()).plan
        if _place(plan, words):
            return plan
    raise ScheduleError(
        f"{region.nodes[0].layer.name}: the activations that stay on chip do not fit",
        expected=f"buffers within {words} words of INP (configuration {config.name!r})",
        fix="compile without fusion",
    )


class _Planner:
    """Writes runs down as steps."""

    def __init__(self, region: Region, space: Space, runs: list[Run]) -> None:
        self.region, self.space = region, space
        self.plan = Plan(runs=runs)
        self.home: dict[int, int] = {}  # value -> buffer
        for run in runs:
            if run.rows:
                self._strips(run)
            else:
                self._whole(run)
        made = {v for run in runs for v in self._inner(run) if v not in self.home}
        self.plan.spilled = sorted(
            v
            for v in region.maker
            if v not in self.home and v not in made and not region.values[v].leaves and region.readers[v]
        )

    def _inner(self, run: Run) -> list[int]:
        return [self.region.nodes[i].result for i in range(run.first, run.last)]

    def _buffer(self, value: int, images: int, rows: Extent | None, pad_value: int) -> int:
        """A new buffer of a value: all of it, or a strip of one image."""
        margins = self.space.margins[value]
        assert margins is not None
        top, left, bottom, right = margins
        _, cb, h, w = self.region.values[value].shape
        extent = rows or Extent(-top, h + bottom)
        step = len(self.plan.steps)
        self.plan.buffers.append(
            Buffer(
                value,
                images,
                cb,
                extent.last - extent.first,
                w + left + right,
                extent.first,
                left,
                h,
                w,
                pad_value,
                step,
                step,
            )
        )
        return len(self.plan.buffers) - 1

    def _pad_value(self, value: int) -> int:
        for reader in self.region.readers[value]:
            window = window_of(self.region.nodes[reader].layer)
            if window is not None and window.pads:
                return window.pad_value
        return 0

    def _whole(self, run: Run) -> None:
        node = self.region.nodes[run.first]
        output = None
        if run.output:
            images = self.region.values[node.result].shape[0]
            output = self._buffer(node.result, images, None, self._pad_value(node.result))
            self.home[node.result] = output
        if window_of(node.layer) is None:
            whole = tuple(Source(None, 0, 0, 0, self.region.values[v].shape) for v in node.inputs)
            result = Source(None, 0, 0, 0, self.region.values[node.result].shape)
            self.plan.steps.append(Step(run.first, node.layer, whole, result, Placement()))
            return
        self._step(run.first, 0, node.layer.batch, 0, result_hw(node.layer)[0], self.home, output, None)

    def _strips(self, run: Run) -> None:
        """Image by image, strip by strip, layer by layer."""
        region = self.region
        last = region.nodes[run.last]
        output = None
        if run.output:
            output = self._buffer(last.result, last.layer.batch, None, self._pad_value(last.result))
            self.home[last.result] = output
        for image in range(last.layer.batch):
            for a, b in strips(result_hw(last.layer)[0], run.rows):
                ranges = strip_extents(region, run.first, run.last, a, b)
                local = dict(self.home)
                for i in range(run.first, run.last + 1):
                    value = region.nodes[i].result
                    rows = ranges[value]
                    target = output
                    if i < run.last:
                        target = self._buffer(value, 1, rows, self._pad_value(value))
                    height = result_hw(region.nodes[i].layer)[0]
                    y0, y1 = max(rows.first, 0), min(rows.last, height)
                    keep = (run.first, i) if run.keep else None
                    self._step(i, image, 1, y0, y1, local, target, keep)
                    if i < run.last and target is not None:
                        local[value] = target

    def _step(
        self,
        index: int,
        image: int,
        images: int,
        y0: int,
        y1: int,
        home: dict[int, int],
        output: int | None,
        keep: tuple[int, int] | None,
    ) -> None:
        """Result rows [y0, y1) of a layer."""
        region = self.region
        node = region.nodes[index]
        window = window_of(node.layer)
        assert window is not None
        if window.whole:
            self._at_once(index, home, output)
            return
        _, ow = result_hw(node.layer)
        a, b = window.rows(y0, y1)
        c, d = window.columns(ow)
        sources, in_hw, padding = [], (b - a, d - c), (0, 0, 0, 0)
        here = len(self.plan.steps)
        for v in node.inputs:
            _, cb, h, w = region.values[v].shape
            buffer = home.get(v)
            if buffer is not None:
                sources.append(Source(buffer, image, a, c, (images, cb, b - a, d - c)))
                self.plan.buffers[buffer].last_step = here
                continue
            top, bottom = max(a, 0), min(b, h)
            # A window never starts behind an image: at least one row exists, or the strip is empty.
            in_hw = (bottom - top, w)
            padding = (top - a, window.padding[1], b - bottom, window.padding[3])
            sources.append(Source(None, image, top, 0, (images, cb, bottom - top, w)))
        mb = region.values[node.result].shape[1]
        target = Source(output, image, y0, 0, (images, mb, y1 - y0, ow))
        if output is not None:
            self.plan.buffers[output].last_step = here
        layer = part_of(node.layer, images, in_hw, padding)
        placement = Placement(
            tuple(s.buffer is not None for s in sources), output is not None, None, keep is not None
        )
        self.plan.steps.append(Step(index, layer, tuple(sources), target, placement, keep))


    def _at_once(self, index: int, home: dict[int, int], output: int | None) -> None:
        """A layer that is made from all of its inputs at once."""
        node, values = self.region.nodes[index], self.region.values
        here = len(self.plan.steps)
        sources = tuple(Source(home.get(v), 0, 0, 0, values[v].shape) for v in node.inputs)
        target = Source(output, 0, 0, 0, values[node.result].shape)
        for source in (*sources, target):
            if source.buffer is not None:
                self.plan.buffers[source.buffer].last_step = here
        placement = Placement(tuple(s.buffer is not None for s in sources), output is not None)
        self.plan.steps.append(Step(index, node.layer, sources, target, placement))


def _place(plan: Plan, words: int) -> bool:
    """Addresses of all buffers, and what INP has left for each step; False if they do not fit."""
    buffers = plan.buffers
    lives = [(b.first_step, b.last_step) for b in buffers]
    for buffer, start in zip(buffers, place([b.words for b in buffers], lives), strict=True):
        buffer.start = start
        if start + buffer.words > words:
            return False
    for i, step in enumerate(plan.steps):
        taken = sorted(
            (b.start, b.start + b.words) for b in buffers if b.first_step <= i <= b.last_step
        )
        best, at = (0, 0), 0
        for first, last in [*taken, (words, words)]:
            if first - at > best[1]:
                best = (at, first - at)
            at = max(at, last)
        plan.free.append(best)
        plan.steps[i] = replace(step, placement=replace(step.placement, inp_words=best[1]))
    return True
