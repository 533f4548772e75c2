"""Moments of one layer after the other on all examples, with bounded memory.

Examples are worked on in chunks, several chunks at a time. Each chunk's values start from the last place
where they were kept (:mod:`sd_tvm.calibration.stops`), in memory or in temporary files. Chunks are cut and
summed the same way whatever is kept where, so results depend on neither memory, disk nor cores of a machine.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sd_tvm.calibration.data import Array
from sd_tvm.calibration.examples import Examples
from sd_tvm.calibration.moments import MomentObserver, Moments, by_filter
from sd_tvm.calibration.parallel import ordered_map
from sd_tvm.calibration.spill import ChunkStore
from sd_tvm.calibration.stops import Limits, choose_stops
from sd_tvm.calibration.twin import Env, Twin

#: Activations of all examples that stay in memory.
MEMORY = 2**30
#: A chunk's values at the widest place of the network, and the most examples in a chunk.
CHUNK_BYTES, CHUNK_EXAMPLES = 32 * 2**20, 16
#: Share of the free disk that temporary files may take.
_DISK_SHARE = 0.7

#: The number of a chunk and, at the network's inputs, its examples.
_Chunk = tuple[int, list[tuple[Array, ...]]]


def sweep(
    twin: Twin, examples: Examples, places: Sequence[int], memory: int = MEMORY, *, folds: int = 1
) -> Iterator[tuple[int, list[Moments]]]:
    """Yield the moments of layer after layer; the caller puts the fitted weight into the twin in between.

    Parameters
    ----------
    twin
        Both copies of the network; :attr:`Twin.changed` holds what is fitted already.
    examples
        Calibration data.
    places
        Numbers of the layers' steps, rising.
    memory
        Bytes of activations to keep in memory.
    folds
        Example i counts in fold i modulo folds. Never more folds than examples.

    Yields
    ------
    place, moments
        Moments of the layer's inputs in the compressed copy with its outputs in the float32 one, by fold.

    Raises
    ------
    CalibrationError
        If the examples have changed, or the disk is full.
    """
    if not places:
        return
    state = _Sweep(twin, examples, places, memory, folds)
    try:
        for place in places:
            yield place, state.moments(place)
    finally:
        if state.store is not None:
            state.store.close()


class _Sweep:
    def __init__(
        self, twin: Twin, examples: Examples, places: Sequence[int], memory: int, folds: int
    ) -> None:
        self.twin = twin
        self.examples = examples
        self.specs = twin.interpreter.inputs
        self.store: ChunkStore | None = None
        self.at = 0
        for first in islice(examples.batches(self.specs), 1):
            twin.probe(first)
        widest = max((twin.nbytes(place) for place in twin.places), default=1)
        self.size = max(1, min(CHUNK_EXAMPLES, CHUNK_BYTES // max(widest, 1)))
        self.count = examples.count(self.specs)
        self.folds = min(folds, self.count)
        self.chunks = -(-self.count // self.size)
        starts = [0, *places]
        self.stops = dict(
            zip(
                places,
                choose_stops(
                    [twin.seconds(a, b) for a, b in zip(starts, places, strict=False)],
                    [twin.nbytes(place) for place in places],
                    self.count,
                    Limits(memory, int(_DISK_SHARE * shutil.disk_usage(tempfile.gettempdir()).free)),
                ),
                strict=True,
            )
        )

    def moments(self, place: int) -> list[Moments]:
        """Moments of one layer, the next one, by fold."""
        name, kept = self.twin.steps[place].name, self.stops[place]
        store = None if kept is None else ChunkStore(self.chunks, on_disk=kept == "disk")

        def work(chunk: _Chunk) -> list[MomentObserver]:
            observers = [MomentObserver([name]) for _ in range(self.folds)]
            packed: list[Array] = []
            for i, state in enumerate(self._states(chunk), start=chunk[0] * self.size):
                self.twin.advance(state, self.at, place)
                self._observe(observers[i % self.folds], state, place)
                if store is not None:
                    packed += self.twin.pack(state, place)
            if store is not None:
                store.put(chunk[0], packed)
                if self.store is not None:
                    self.store.free(chunk[0])
            return observers

        totals = [MomentObserver([name]) for _ in range(self.folds)]
        for observers in ordered_map(work, self._chunks()):
            for total, observer in zip(totals, observers, strict=True):
                total.merge(observer)
        if store is not None:
            if self.store is not None:
                self.store.close()
            self.store, self.at = store, place
        return [total.finish()[name] for total in totals]

    def _chunks(self) -> Iterator[_Chunk]:
        if self.store is not None:
            yield from ((i, []) for i in range(self.chunks))
            return
        yield from enumerate(_parts(self.examples.batches(self.specs), self.size))

    def _states(self, chunk: _Chunk) -> Iterator[tuple[Env, Env]]:
        index, inputs = chunk
        if self.store is None:
            yield from map(self.twin.start, inputs)
            return
        stored = iter(self.store.get(index))
        for _ in range(index * self.size, min((index + 1) * self.size, self.count)):
            yield self.twin.unpack(stored, self.at)

    def _observe(self, observer: MomentObserver, state: tuple[Env, Env], place: int) -> None:
        step, (wanted, actual) = self.twin.steps[place], state
        observer.reference = {step.name: by_filter(step.value, self.twin.wanted(step, wanted))}
        operands = [self.twin.interpreter.value(a, actual) for a in step.value.args]
        observer(step, operands, None, step.name)


def _parts(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
