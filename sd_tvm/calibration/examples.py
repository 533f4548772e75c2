"""Calibration data that is read lazily and again and again, whatever the user passed."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from sd_tvm.calibration.data import Array, InputSpec, batches_of, split
from sd_tvm.errors import CalibrationError

#: A stream that can be read only once stays in memory up to this many bytes.
IN_MEMORY = 64 * 2**20
_SUFFIXES = (".npy", ".npz")
_EXPECTED = (
    "an array with examples along its first axis, an iterable of examples, a .npy file or a folder of them"
)


class Examples:
    """The examples of a calibration: one in memory at a time, the same ones at every reading.

    Parameters
    ----------
    data
        An array or memory map with examples along its first axis; a sequence or any other iterable of
        examples (a generator, which can be read once, is copied to a temporary file); a ``.npy`` file; a
        folder of ``.npy`` or ``.npz`` files, one example each, in the order of their names.

    Raises
    ------
    CalibrationError
        If it is no data.
    """

    def __init__(self, data: Any) -> None:
        self._data = _opened(data)
        self._marks: list[bytes] = []
        self._complete = False
        self._counted: int | None = None

    @classmethod
    def of(cls, data: Any) -> Examples:
        """The data, unless it is examples already."""
        return data if isinstance(data, cls) else cls(data)

    def batches(self, specs: Sequence[InputSpec]) -> Iterator[tuple[Array, ...]]:
        """Yield one tuple of arrays for every example, as :func:`batches_of`.

        Raises
        ------
        CalibrationError
            As ``batches_of``; also if an example is not what it was at the last reading.
        """
        if isinstance(self._data, Iterator):
            self._data = _Copy(batches_of(self._data, specs), specs)
        data = split(self._data, specs) if isinstance(self._data, _Rows) else self._data
        index = -1
        for index, example in enumerate(batches_of(data, specs)):
            mark = _mark(example)
            if index < len(self._marks):
                if mark != self._marks[index]:
                    raise _changed(f"calibration example {index} is not what it was when it was read before")
            elif self._complete:
                raise _changed(f"more calibration examples than the {len(self._marks)} read before")
            else:
                self._marks.append(mark)
            yield example
        if index + 1 < len(self._marks):
            raise _changed(f"{index + 1} calibration examples, {len(self._marks)} when they were read before")
        if self._counted not in (None, index + 1):
            raise CalibrationError(
                f"{index + 1} calibration examples in data of length {self._counted}",
                expected="as many examples as len() says",
                fix="correct __len__ or __iter__ of the data",
            )
        self._complete = True

    def count(self, specs: Sequence[InputSpec]) -> int:
        """Number of examples; reads them all if nothing else tells it."""
        if self._complete:
            return len(self._marks)
        self._counted = self._stated(specs)
        return sum(1 for _ in self.batches(specs)) if self._counted is None else self._counted

    def _stated(self, specs: Sequence[InputSpec]) -> int | None:
        """What the data says of its length."""
        if isinstance(self._data, _Rows) or hasattr(self._data, "__array__"):
            if len(specs) != 1:
                return None
            shape, wanted = self._data.shape, specs[0].shape
            return int(shape[0]) // wanted[0] if len(shape) == len(wanted) > 0 and wanted[0] > 0 else None
        return len(self._data) if hasattr(self._data, "__len__") else None

    def digest(self, specs: Sequence[InputSpec]) -> str:
        """Hexadecimal digest of all examples; reads them if that has not happened yet."""
        if not self._complete:
            for _ in self.batches(specs):
                pass
        return hashlib.blake2b(b"".join(self._marks), digest_size=32).hexdigest()


class Part(Examples):
    """Some of the examples of a calibration, read from it.

    Parameters
    ----------
    whole
        All of them.
    kept
        Of the number of an example, from 0 on: whether it is one of these.
    """

    def __init__(self, whole: Examples, kept: Callable[[int], bool]) -> None:
        super().__init__(())
        self._whole, self._kept = whole, kept

    def batches(self, specs: Sequence[InputSpec]) -> Iterator[tuple[Array, ...]]:
        """Yield one tuple of arrays for every example of the part."""
        for i, example in enumerate(self._whole.batches(specs)):
            if self._kept(i):
                yield example

    def count(self, specs: Sequence[InputSpec]) -> int:
        """Number of examples."""
        return sum(map(self._kept, range(self._whole.count(specs))))

    def digest(self, specs: Sequence[InputSpec]) -> str:
        """Digest of the examples of the part."""
        marks = b"".join(map(_mark, self.batches(specs)))
        return hashlib.blake2b(marks, digest_size=32).hexdigest()


class _Copy:
    """Examples of a stream in a temporary file, which vanishes with the process."""

    def __init__(self, examples: Iterable[tuple[Array, ...]], specs: Sequence[InputSpec]) -> None:
        self._specs = specs
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - kept open
        self._count = 0
        for example in examples:
            for array in example:
                self._file.write(array.reshape(-1).view(np.uint8).data)
            self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[Array, ...]]:
        at = 0
        for _ in range(self._count):
            arrays = []
            for spec in self._specs:
                array = np.empty(spec.shape, spec.dtype)
                self._file.seek(at)
                array.reshape(-1).view(np.uint8)[:] = np.frombuffer(self._file.read(array.nbytes), np.uint8)
                at += array.nbytes
                arrays.append(array)
            yield tuple(arrays)


class _Folder:
    """Examples of a folder, one file each."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Any]:
        for path in self._paths:
            yield _loaded(path, None)


def _opened(data: Any) -> Any:
    if isinstance(data, str | Path):
        return _of_path(Path(data))
    if hasattr(data, "__array__"):
        return data
    if isinstance(data, bytes | Mapping) or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise CalibrationError(
            f"calibration data of type {type(data).__name__}",
            expected=_EXPECTED,
            fix="pass the inputs themselves, preprocessed as the model gets them",
        )
    return data if hasattr(data, "__iter__") else _Indexed(data)


class _Rows:
    """Rows of a ``.npy`` file, read one by one: a map of the file would count as this process's memory."""

    def __init__(self, path: Path) -> None:
        mapped = _loaded(path, "r")
        if mapped.ndim == 0 or not mapped.flags.c_contiguous:
            raise CalibrationError(
                f"{str(path)!r} holds an array of shape {mapped.shape}",
                expected="examples along the first axis, in C order",
                fix="save it with numpy.save(path, numpy.ascontiguousarray(array))",
            )
        self.path, self.shape, self.ndim = path, mapped.shape, mapped.ndim
        self._dtype, self._start = mapped.dtype, mapped.offset

    def __getitem__(self, rows: slice) -> Array:
        first, last, _ = rows.indices(self.shape[0])
        size = math.prod(self.shape[1:])
        at = self._start + first * size * self._dtype.itemsize
        part = np.fromfile(self.path, self._dtype, (last - first) * size, offset=at)
        return part.reshape(last - first, *self.shape[1:])


class _Indexed:
    """Examples of something with ``__len__`` and ``__getitem__`` only, like a torch data set."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Any]:
        for i in range(len(self._data)):
            yield self._data[i]


def _of_path(path: Path) -> Any:
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES)
        if not paths:
            raise CalibrationError(
                f"the folder {str(path)!r} holds no examples",
                expected="one .npy or .npz file for each example",
                fix="save the preprocessed inputs with numpy.save",
            )
        return _Folder(paths)
    if path.suffix != ".npy" or not path.is_file():
        raise CalibrationError(
            f"calibration data {str(path)!r}", expected=_EXPECTED, fix="check the path and its suffix"
        )
    return _Rows(path)


def _loaded(path: Path, mode: Any) -> Any:
    try:
        loaded: Any = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CalibrationError(
            f"cannot read {str(path)!r}: {error}", expected="a file of numpy.save or numpy.savez"
        ) from error
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        return {name: loaded[name] for name in loaded.files}


def _mark(example: tuple[Array, ...]) -> bytes:
    """Digest of one example."""
    digest = hashlib.blake2b(digest_size=16)
    for array in example:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.digest()


def _changed(found: str) -> CalibrationError:
    return CalibrationError(
        found,
        expected="the same examples at every reading: they are read several times",
        fix="do not shuffle or augment at random, or pass a generator, which is read once",
    )
