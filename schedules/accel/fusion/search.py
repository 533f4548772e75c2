"""The decision: which values stay on chip, and which runs of layers are made strip by strip.

Dynamic programming over the order of the layers. A state is the set of values on chip; a move is one layer,
or a run of layers whose inner values exist only as strips of rows. The cost is energy that the decision
changes: DRAM traffic and rows that strips compute twice (fJ, at the prices of the configuration's table).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.layers import ConvLayer, PoolLayer
from sd_tvm.schedules.accel.array import INSTRUCTION_BYTES
from sd_tvm.schedules.accel.conv_tiles import weight_words
from sd_tvm.schedules.accel.fusion.region import Region
from sd_tvm.schedules.accel.fusion.windows import result_hw, stays, window_of
from sd_tvm.schedules.accel.search import field_max, tile_sizes

#: Bytes of weights and activations that the array reads on chip for a multiply-accumulate (an estimate, not
#: measured: reuse over pixels and filters makes it a small part of two).
_BYTES_A_MAC = 0.06
#: Instructions of a further step: decides between plans that are equal otherwise.
_STEP_INSTRUCTIONS = 4
_LONGEST_RUN = 8
_BEAM = 64


@dataclass(frozen=True)
class Run:
    """Consecutive layers [first, last] made in strips of ``rows`` result rows (0: one layer as a whole).

    Attributes
    ----------
    keep
        The weights of all its layers stay on chip from strip to strip.
    output
        The last result stays on chip.
    """

    first: int
    last: int
    rows: int
    keep: bool
    output: bool


@dataclass(frozen=True)
class Extent:
    """Rows of a value in a strip: [first, last), padding included where outside the image."""

    first: int
    last: int


def strip_extents(region: Region, first: int, last: int, y0: int, y1: int) -> dict[int, Extent]:
    """Rows of each value that the layers [first, last] touch for result rows [y0, y1) of the last one."""
    need: dict[int, Extent] = {region.nodes[last].result: Extent(y0, y1)}
    for i in range(last, first - 1, -1):
        node = region.nodes[i]
        window = window_of(node.layer)
        assert window is not None
        height = result_hw(node.layer)[0]
        rows = need[node.result]
        a, b = window.rows(max(rows.first, 0), min(rows.last, height))
        for v in node.inputs:
            old = need.get(v, Extent(a, b))
            need[v] = Extent(min(a, old.first), max(b, old.last))
    return need


def strips(height: int, rows: int) -> Iterator[tuple[int, int]]:
    """Row ranges of so many rows."""
    for y in range(0, height, rows):
        yield y, min(y + rows, height)


@dataclass(frozen=True)
class Prices:
    """Energy of what a plan decides, fJ, from the configuration's energy table.

    Attributes
    ----------
    word
        A 16-byte word from or to DRAM.
    mac
        A multiply-accumulate with all that belongs to it.
    step
        A further step of the program.
    """

    word: int
    mac: int
    step: int

    @classmethod
    def of(cls, config: AcceleratorConfig) -> Prices:
        """Prices on a configuration."""
        price = config.energy_fj()
        product = price["mac_8x13" if config.rebuilds else "mac_8x8"] + price["psum"]
        on_chip = int(_BYTES_A_MAC * (price["inp_byte"] + price["code_byte"]))
        step = _STEP_INSTRUCTIONS * INSTRUCTION_BYTES * price["dram_byte"]
        return cls(16 * price["dram_byte"], product + on_chip, step)


class Space:
    """Sizes of a region's values and weights on one configuration.

    Parameters
    ----------
    region
        The layers.
    config
        The machine.
    inp_words
        Words of INP that may be used.
    """

    def __init__(self, region: Region, config: AcceleratorConfig, inp_words: int) -> None:
        self.region, self.config, self.inp_words = region, config, inp_words
        self.prices = Prices.of(config)
        self.weights = [
            weight_words(n.layer) if isinstance(n.layer, ConvLayer) else {} for n in region.nodes
        ]
        self.margins = [self._margins(v) for v in range(len(region.values))]
        self.last_use = [region.last_use(v) for v in range(len(region.values))]

    def _margins(self, value: int) -> tuple[int, int, int, int] | None:
        """Padding (top, left, bottom, right) around a value on chip; None: it cannot be on chip."""
        region = self.region
        maker = region.maker.get(value)
        item = region.values[value]
        if maker is None or item.leaves or not stays(region.nodes[maker].layer):
            return None
        top = left = bottom = right = 0
        pads: set[int] = set()
        _, _, height, width = item.shape
        for reader in region.readers[value]:
            layer = region.nodes[reader].layer
            window = window_of(layer)
            if window is None:
                return None
            if window.whole:
                continue
            oh, ow = result_hw(layer)
            a, b = window.rows(0, oh)
            c, d = window.columns(ow)
            top, left = max(top, -a), max(left, -c)
            bottom, right = max(bottom, b - height), max(right, d - width)
            if max(-a, -c, b - height, d - width) > 0:
                pads.add(window.pad_value)
        if len(pads) > 1 or (width + left + right) > field_max("ALU", "dst_s1"):
            return None
        return top, left, bottom, right

    def fits(self, value: int, rows: int | None = None) -> bool:
        """Whether instructions can address so many rows of a value (all of it) on chip."""
        one = self.words(value, rows, 1) // self.region.values[value].shape[1]
        return one <= field_max("ALU", "dst_s2")

    def words(self, value: int, rows: int | None = None, images: int | None = None) -> int:
        """Words of a value on chip: all of it with its padding, or so many rows."""
        margins = self.margins[value]
        assert margins is not None
        top, left, bottom, right = margins
        n, cb, h, w = self.region.values[value].shape
        return (n if images is None else images) * cb * (
            h + top + bottom if rows is None else rows
        ) * (w + left + right)

    def weight_bytes(self, node: int) -> int:
        """Bytes of a layer's constants."""
        return 16 * sum(self.weights[node].values())

    def keeps(self, first: int, last: int) -> bool:
        """Whether the constants of several layers fit at the same time."""
        total: dict[Mem, int] = {}
        for i in range(first, last + 1):
            for mem, words in self.weights[i].items():
                total[mem] = total.get(mem, 0) + words
        return all(words <= self.config.buffer_words(mem) for mem, words in total.items())


def _strip_of(space: Space, node: int, operand: int, budget: int) -> tuple[int, int] | None:
    """(words of the smallest strip, words read) of an input in DRAM; None if no strip fits the budget."""
    layer = space.region.nodes[node].layer
    value = space.region.nodes[node].inputs[operand]
    n, cb, h, _ = space.region.values[value].shape
    w = space.region.values[value].row_words
    window = window_of(layer)
    if window is None or not (isinstance(layer, ConvLayer) or _windowed(layer)):
        return 0, n * cb * h * w
    oh, ow = result_hw(layer)
    left, right = window.columns(ow)
    blocks = 1 if isinstance(layer, PoolLayer) or _depthwise(layer) else cb
    for rows in tile_sizes(oh):
        a, b = window.rows(0, rows)
        words = blocks * (b - a) * (right - left)
        copies = 2 if rows < oh or blocks < cb else 1
        if words * copies <= budget or (rows == 1 and words <= budget):
            read = n * cb * w * sum(
                min(e, h) - max(s, 0) for s, e in (window.rows(*r) for r in strips(oh, rows))
            )
            return words, read
    return None


def _windowed(layer: object) -> bool:
    return isinstance(layer, PoolLayer) and layer.mode == "max"


def _depthwise(layer: object) -> bool:
    return (
        isinstance(layer, ConvLayer)
        and layer.groups > 1
        and layer.weight_shape[1] == 1
        and layer.out_channels == layer.groups
    )


@dataclass(frozen=True)
class _Cut:
    """Rows of the values in each strip, words of the inner ones, whether they fit, rows made twice (fJ)."""

    ranges: list[dict[int, Extent]]
    words: int
    fits: bool
    twice: float


class Search:
    """Finds the cheapest runs of a region.

    Parameters
    ----------
    space
        Sizes.
    fuse
        Whether values may stay on chip at all.
    """

    def __init__(self, space: Space, *, fuse: bool = True) -> None:
        self.space, self.region, self.fuse = space, space.region, fuse
        self.prices = space.prices
        self._cuts: dict[tuple[int, int, int], _Cut] = {}

    def runs(self) -> list[Run]:
        """The cheapest runs, in order."""
        count = len(self.region.nodes)
        best: list[dict[frozenset[int], tuple[float, list[Run]]]] = [{} for _ in range(count + 1)]
        best[0][frozenset()] = (0.0, [])
        for at in range(count):
            states = sorted(best[at].items(), key=lambda item: (item[1][0], sorted(item[0])))[:_BEAM]
            for state, (cost, path) in states:
                for run, price in self._moves(at, state):
                    after = set(state)
                    if run.output:
                        after.add(self.region.nodes[run.last].result)
                    after = {v for v in after if self.space.last_use[v] > run.last}
                    key = frozenset(after)
                    known = best[run.last + 1].get(key)
                    if known is None or cost + price < known[0]:
                        best[run.last + 1][key] = (cost + price, [*path, run])
        return min(best[count].values(), key=lambda item: item[0])[1]

    def _moves(self, at: int, state: frozenset[int]) -> Iterator[tuple[Run, float]]:
        for output in (True, False):
            price = self._whole(at, state, output)
            if price is not None:
                yield Run(at, at, 0, False, output), price
        if not self.fuse:
            return
        for last in range(at + 1, min(at + _LONGEST_RUN, len(self.region.nodes))):
            if not self._closed(at, last):
                continue
            for output in (True, False):
                found = self._strips(at, last, state, output)
                if found is not None:
                    yield found

    def _reads(self, node: int, state: frozenset[int]) -> list[int]:
        """Operands that come from DRAM."""
        return [i for i, v in enumerate(self.region.nodes[node].inputs) if v not in state]

    def _budget(self, state: frozenset[int], result: int | None) -> int:
        """Words of INP that are left."""
        used = sum(self.space.words(v) for v in state)
        return self.space.inp_words - used - (0 if result is None else self.space.words(result))

    def _whole(self, at: int, state: frozenset[int], output: bool) -> float | None:
        """Price of one layer as a whole; None if it does not fit."""
        space, node = self.space, self.region.nodes[at]
        if output and (not self.fuse or space.margins[node.result] is None or not space.fits(node.result)):
            return None
        budget = self._budget(state, node.result if output else None)
        if budget < 0:
            return None
        price: float = self.prices.step
        for operand in self._reads(at, state):
            strip = _strip_of(space, at, operand, budget)
            if strip is None:
                if state or output:
                    return None
                strip = 0, self.region.values[node.inputs[operand]].words
            price += self.prices.word * strip[1]
        if not output:
            words = self.region.values[node.result].words
            price += self.prices.word * words * (1 if getattr(node.layer, "out", "q8") == "q8" else 4)
        return price

    def _closed(self, first: int, last: int) -> bool:
        """Whether the inner values of a run are used inside only, and every layer has a window."""
        region = self.region
        if region.nodes[last].layer.batch != region.nodes[first].layer.batch:
            return False
        for i in range(first, last + 1):
            window = window_of(region.nodes[i].layer)
            if window is None or window.whole:
                return False
            result = region.nodes[i].result
            if i < last and (self.space.margins[result] is None or self.space.last_use[result] > last):
                return False
            if i < last and not region.readers[result]:
                return False
        return True

    def _strips(self, first: int, last: int, state: frozenset[int], output: bool) -> tuple[Run, float] | None:
        """A run in the largest strips that fit, and its price."""
        space, region = self.space, self.region
        node = region.nodes[last]
        if output and (space.margins[node.result] is None or not space.fits(node.result)):
            return None
        budget = self._budget(state, node.result if output else None)
        inner = [region.nodes[i].result for i in range(first, last)]
        height = result_hw(node.layer)[0]
        images = node.layer.batch
        keep = space.keeps(first, last)
        for rows in tile_sizes(height):
            if rows == height and images == 1:
                continue
            cut = self._cut(first, last, rows)
            ranges = cut.ranges
            left = budget - cut.words
            if left < 0 or not cut.fits:
                continue
            price: float = self.prices.step * (last - first + 1) * len(ranges) * images
            fits = True
            for i in range(first, last + 1):
                for operand in self._reads(i, state):
                    v = region.nodes[i].inputs[operand]
                    if v in inner:
                        continue
                    _, cb, h, _ = region.values[v].shape
                    w = region.values[v].row_words
                    smallest = _strip_of(space, i, operand, left)
                    if smallest is None:
                        fits = False
                        continue
                    read = sum(min(r[v].last, h) - max(r[v].first, 0) for r in ranges)
                    price += self.prices.word * images * cb * w * read
            if not fits:
                continue
            price += cut.twice * images
            if not keep:
                weights = sum(space.weight_bytes(i) for i in range(first, last + 1))
                price += self.prices.word // 16 * weights * (len(ranges) * images - 1)
            if not output:
                price += self.prices.word * region.values[node.result].words
            return Run(first, last, rows, keep, output), price
        return None

    def _cut(self, first: int, last: int, rows: int) -> _Cut:
        """Strips of a run; they do not depend on what is on chip."""
        key = (first, last, rows)
        if key not in self._cuts:
            region, space = self.region, self.space
            height = result_hw(region.nodes[last].layer)[0]
            ranges = [strip_extents(region, first, last, a, b) for a, b in strips(height, rows)]
            inner = [region.nodes[i].result for i in range(first, last)]
            tallest = {v: max(r[v].last - r[v].first for r in ranges) for v in inner}
            self._cuts[key] = _Cut(
                ranges,
                sum(space.words(v, n, 1) for v, n in tallest.items()),
                all(space.fits(v, n) for v, n in tallest.items()),
                self._twice(first, last, ranges),
            )
        return self._cuts[key]

    def _twice(self, first: int, last: int, ranges: list[dict[int, Extent]]) -> float:
        """Price of rows that several strips compute."""
        total = 0.0
        for i in range(first, last):
            layer = self.region.nodes[i].layer
            if not isinstance(layer, ConvLayer):
                continue
            height = result_hw(layer)[0]
            spans = (r[self.region.nodes[i].result] for r in ranges)
            rows = sum(min(e.last, height) - max(e.first, 0) for e in spans)
            total += layer.macs / layer.batch / height * (rows - height) * self.prices.mac
        return total

