"""Reading and writing of ``.sd`` files."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sd_tvm.errors import FormatError
from sd_tvm.format.container import LENGTH_BYTES, Container, decode, encode, header_size
from sd_tvm.format.model import StoredModel
from sd_tvm.format.schema import from_container, to_container
from sd_tvm.weights.stored import Storage


def dumps(model: StoredModel, storage: Storage = "plain") -> bytes:
    """Bytes of a ``.sd`` file; equal models give equal bytes, and they were verified as a reader does.

    Parameters
    ----------
    model
        What to store.
    storage
        ``plain``, or ``entropy``: smaller, and reading it needs the optional entropy coder.

    Raises
    ------
    FormatError
        If the model cannot be stored; says which part.
    MissingExtraError
        If storage 'entropy' has no coder.
    """
    data = encode(*to_container(model, storage))
    loads(data)
    return data


def loads(data: bytes) -> StoredModel:
    """Model in the bytes of a ``.sd`` file; everything is verified before it is used.

    Raises
    ------
    FormatError
        Names what is wrong and where.
    """
    return from_container(decode(data), len(data))


def write(path: str | os.PathLike[str], model: StoredModel, storage: Storage = "plain") -> int:
    """Write a ``.sd`` file atomically: at no time is there a partial file under this name.

    Parameters
    ----------
    path
        File to write; an old one is replaced.
    model, storage
        As :func:`dumps`.

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    FormatError
        If the model cannot be stored or the file cannot be written.
    """
    data = dumps(model, storage)
    target = Path(path)
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise FormatError(
            f"cannot write {str(target)!r}: {error.strerror}", fix="check the folder and its free space"
        ) from error
    finally:
        part.unlink(missing_ok=True)  # also after an interrupt; a finished file has its own name by now
    return len(data)


def read(path: str | os.PathLike[str]) -> StoredModel:
    """Read a ``.sd`` file; everything is verified before it is used, nothing is ever executed.

    Raises
    ------
    FormatError
        Names the file, what is wrong and where.
    """
    model, _, _ = read_parts(path)
    return model


def read_parts(path: str | os.PathLike[str]) -> tuple[StoredModel, Container, int]:
    """As :func:`read`; also the container and the file's bytes."""
    source = Path(path)
    try:
        if not source.is_file():
            raise FormatError(
                "a directory or device" if source.exists() else "no such file",
                expected="a .sd file",
                fix="correct the path",
            )
        with source.open("rb") as file:
            # The length is checked before anything is read in full.
            header_size(file.read(LENGTH_BYTES), source.stat().st_size)
            file.seek(0)
            data = file.read()
        container = decode(data)
        return from_container(container, len(data)), container, len(data)
    except OSError as error:
        raise FormatError(
            f"{str(source)!r}: cannot be read: {error.strerror}", fix="check the file's permissions"
        ) from error
    except FormatError as error:
        raise FormatError(
            f"{str(source)!r}: {error.found}", expected=error.expected, fix=error.fix
        ) from error
