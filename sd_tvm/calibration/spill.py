"""Values of many examples, in chunks, in memory or in temporary files that vanish with the process."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from sd_tvm.calibration.data import Array
from sd_tvm.errors import CalibrationError

#: A store's chunks lie in so many files: each is given back to the disk when all of its chunks are free.
SECTIONS = 32


class ChunkStore:
    """Lists of arrays by chunk number.

    Parameters
    ----------
    chunks
        How many chunks there are.
    on_disk
        Keep them in temporary files (in ``TMPDIR``), not in memory. The files have no name: whatever ends the
        process, the disk has its space back.
    """

    def __init__(self, chunks: int, *, on_disk: bool) -> None:
        self.on_disk = on_disk
        self._chunks = chunks
        self._arrays: dict[int, list[Array]] = {}
        self._places: dict[int, tuple[int, list[tuple[tuple[int, ...], np.dtype[Any], int]]]] = {}
        self._files: dict[int, IO[bytes]] = {}
        self._ends: dict[int, int] = {}
        self._left = [0] * SECTIONS
        for chunk in range(chunks):
            self._left[self._section(chunk)] += 1
        self._lock = threading.Lock()

    def put(self, chunk: int, arrays: Sequence[Array]) -> None:
        """Keep the arrays of a chunk.

        Raises
        ------
        CalibrationError
            If the disk is full.
        """
        if not self.on_disk:
            self._arrays[chunk] = list(arrays)
            return
        section, places = self._section(chunk), []
        try:
            with self._lock:
                if section not in self._files:
                    self._files[section] = tempfile.TemporaryFile(prefix="sd-tvm-", buffering=0)  # noqa: SIM115
                file, at = self._files[section], self._ends.get(section, 0)
                self._ends[section] = at + sum(a.nbytes for a in arrays)
            for array in arrays:
                places.append((array.shape, array.dtype, at))
                _write(file.fileno(), np.ascontiguousarray(array).reshape(-1).view(np.uint8), at)
                at += array.nbytes
        except OSError as error:
            raise CalibrationError(
                f"cannot write activations to {tempfile.gettempdir()!r}: {error.strerror}",
                expected="space for the values of all calibration examples at one place of the network",
                fix="set TMPDIR to a folder on a larger disk, or calibrate with fewer examples",
            ) from error
        self._places[chunk] = (section, places)

    def get(self, chunk: int) -> list[Array]:
        """The arrays of a chunk, not to be written to."""
        if not self.on_disk:
            return self._arrays[chunk]
        section, places = self._places[chunk]
        found = []
        for shape, dtype, at in places:
            array = np.empty(shape, dtype)
            _read(self._files[section].fileno(), array.reshape(-1).view(np.uint8), at)
            found.append(array)
        return found

    def free(self, chunk: int) -> None:
        """Give up a chunk."""
        if not self.on_disk:
            del self._arrays[chunk]
            return
        section, _ = self._places.pop(chunk)
        with self._lock:
            self._left[section] -= 1
            if self._left[section] == 0:
                self._files.pop(section).close()

    def close(self) -> None:
        """Give up everything."""
        self._arrays.clear()
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _section(self, chunk: int) -> int:
        return chunk * SECTIONS // self._chunks


def _write(fd: int, data: Array, at: int) -> None:
    done = 0
    while done < data.size:
        done += os.pwrite(fd, data[done:].data, at + done)


def _read(fd: int, data: Array, at: int) -> None:
    done = 0
    while done < data.size:
        got = os.preadv(fd, [data[done:].data], at + done)
        if got == 0:
            raise CalibrationError("a temporary file is shorter than what was written to it", fix="try again")
        done += got
