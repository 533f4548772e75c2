"""TVM in float32: TensorIR of a row, scheduled by a trace that MetaSchedule found (:mod:`.tune_tvm`).

Channels lie in blocks of ``lanes``, innermost: weights are packed when a row is built, x and y of a
convolution come and go in blocks, too. x and y of a dense layer lie as everybody's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sd_tvm._tvm import s_tir, te, tirx, tvm
from sd_tvm.bench.contestant import Contestant, Maker
from sd_tvm.bench.turns import threads
from sd_tvm.errors import OptionError
from sd_tvm.schedules.cpu.isa import Isa

from .shapes import Conv, Dense

Array = np.ndarray[Any, Any]
#: Traces, a file an instruction set.
FOLDER = Path(__file__).parent / "tuned"
#: Of a file.
SCHEMA = 1
NAME = "TVM fp32 (tuned)"
#: Largest difference from NumPy, of Frobenius norms: sums have another order.
TOLERANCE = 1e-3
_TUNE = "python -m cpu.tune_tvm"


def record_file(isa: Isa) -> Path:
    """Where the traces for an instruction set are."""
    return FOLDER / f"{isa.name}.json"


def read_records(isa: Isa) -> dict[str, Any]:
    """What was found for an instruction set, by the key of the row; empty without a file.

    Raises
    ------
    OptionError
        If the file's schema is another one.
    """
    path = record_file(isa)
    if not path.exists():
        return {}
    document = json.loads(path.read_text())
    if document.get("schema_version") != SCHEMA:
        raise OptionError(
            f"{path.name}: schema {document.get('schema_version')}",
            expected=f"schema {SCHEMA}",
            fix=f"{_TUNE} --isa {isa.name}",
        )
    rows: dict[str, Any] = document["rows"]
    return rows


def write_records(isa: Isa, rows: dict[str, Any]) -> None:
    """Replace the file of an instruction set; rows are sorted by their key, one a line."""
    lines = [f"{json.dumps(key)}: {json.dumps(rows[key], separators=(',', ':'))}" for key in sorted(rows)]
    text = ",\n".join(lines)
    FOLDER.mkdir(exist_ok=True)
    record_file(isa).write_text(f'{{"schema_version": {SCHEMA}, "rows": {{\n{text}\n}}}}\n')


def block_sizes(m: int) -> tuple[int, ...]:
    """Channels of a block that are worth a search: the two largest multiples of 8 up to 40 that divide m."""
    return tuple(n for n in range(8, 41, 8) if m % n == 0)[-2:]


def function(shape: Dense | Conv, lanes: int) -> Any:
    """PrimFunc main(x, w, y), unscheduled.

    Parameters
    ----------
    shape
        The row.
    lanes
        Channels of a block; has to divide them.
    """
    operands = _dense(shape, lanes) if isinstance(shape, Dense) else _conv(shape, lanes)
    return te.create_prim_func(operands).with_attr({"global_symbol": "main", "tirx.noalias": True})


def _dense(shape: Dense, lanes: int) -> list[Any]:
    x = te.placeholder((shape.batch, shape.k), "float32", name="x")
    w = te.placeholder((shape.m // lanes, shape.k, lanes), "float32", name="w")
    a = te.reduce_axis((0, shape.k), "a")
    y = te.compute(
        (shape.batch, shape.m // lanes, lanes), lambda b, o, j: te.sum(x[b, a] * w[o, a, j], axis=a), name="y"
    )
    return [x, w, y]


def _conv(shape: Conv, lanes: int) -> list[Any]:
    size, kernel, pad = shape.size, shape.kernel, shape.kernel // 2
    blocks, wide = shape.c // lanes, shape.size + 2 * pad
    x = te.placeholder((blocks, size, size, lanes), "float32", name="x")
    w = te.placeholder((shape.m // lanes, blocks, kernel, kernel, lanes, lanes), "float32", name="w")

    def padded(i: Any, r: Any, s: Any, j: Any) -> Any:
        inside = tirx.all(r >= pad, r < size + pad, s >= pad, s < size + pad)
        return tirx.if_then_else(inside, x[i, r - pad, s - pad, j], tirx.const(0.0, "float32"))

    image = te.compute((blocks, wide, wide, lanes), padded, name="pad") if pad else x
    i, j = te.reduce_axis((0, blocks), "i"), te.reduce_axis((0, lanes), "j")
    r, s = te.reduce_axis((0, kernel), "r"), te.reduce_axis((0, kernel), "s")
    y = te.compute(
        (shape.m // lanes, size, size, lanes),
        lambda o, p, q, n: te.sum(image[i, p + r, q + s, j] * w[o, i, r, s, j, n], axis=[i, r, s, j]),
        name="y",
    )
    return [x, w, y]


def packed(shape: Dense | Conv, lanes: int, w: Array, x: Array) -> tuple[Array, Array]:
    """(x, w) as :func:`function` wants them.

    Parameters
    ----------
    shape, lanes
        As :func:`function` got them.
    w, x
        (m, k) and (batch, k), or (m, c, kernel, kernel) and (1, c, size, size).
    """
    outer = shape.m // lanes
    if isinstance(shape, Dense):
        return x, np.ascontiguousarray(w.reshape(outer, lanes, shape.k).transpose(0, 2, 1))
    blocks, kernel, size = shape.c // lanes, shape.kernel, shape.size
    weight = w.reshape(outer, lanes, blocks, lanes, kernel, kernel).transpose(0, 2, 4, 5, 3, 1)
    image = x.reshape(blocks, lanes, size, size).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(image), np.ascontiguousarray(weight)


def unpacked(shape: Dense | Conv, y: Array) -> Array:
    """(batch, m) or (1, m, h, w) of a result of :func:`function`."""
    if isinstance(shape, Dense):
        return y.reshape(shape.batch, shape.m)
    return y.transpose(0, 3, 1, 2).reshape(1, shape.m, shape.size, shape.size)


def result_shape(shape: Dense | Conv, lanes: int) -> tuple[int, ...]:
    """Shape of y of :func:`function`."""
    if isinstance(shape, Dense):
        return (shape.batch, shape.m // lanes, lanes)
    return (shape.m // lanes, shape.size, shape.size, lanes)


def reference(shape: Dense | Conv, w: Array, x: Array) -> Array:
    """The same by NumPy's matrix products."""
    if isinstance(shape, Dense):
        return x @ w.T
    pad, size = shape.kernel // 2, shape.size
    wide = np.pad(x[0], ((0, 0), (pad, pad), (pad, pad)))
    y = np.zeros((shape.m, size * size), np.float32)
    for r in range(shape.kernel):
        for s in range(shape.kernel):
            y += w[:, :, r, s] @ wide[:, r : r + size, s : s + size].reshape(shape.c, -1)
    return y.reshape(1, shape.m, size, size)


def scheduled(shape: Dense | Conv, record: dict[str, Any]) -> Any:
    """IRModule of a record."""
    schedule = s_tir.Schedule(tvm.IRModule({"main": function(shape, record["lanes"])}))
    s_tir.schedule.Trace.apply_json_to_schedule(record["trace"], schedule)
    return schedule.mod


def peer(shape: Dense | Conv, w: Array, x: Array, isa: Isa | None) -> dict[str, Maker]:
    """TVM on a row, compiled for an instruction set; None: no peer."""
    return {} if isa is None else {NAME: lambda: _contestant(shape, w, x, isa)}


def _contestant(shape: Dense | Conv, w: Array, x: Array, isa: Isa) -> Contestant:
    """With the schedule that is stored.

    Raises
    ------
    OptionError
        If none is stored, if everybody has several threads (they are searched for one), or if the result is
        not NumPy's.
    """
    record = read_records(isa).get(shape.key)
    if record is None:
        raise OptionError(
            f"no schedule for {shape.key}, {isa.name}", expected="a record of MetaSchedule",
            fix=f"{_TUNE} --isa {isa.name} --only '{shape.key}'",
        )  # fmt: skip
    if threads() != 1:
        raise OptionError(f"{threads()} threads", expected="1: stored schedules have no parallel loop")
    kernel = tvm.compile(scheduled(shape, record), target=tvm.target.Target(isa.target))["main"]
    arguments = [tvm.runtime.tensor(a) for a in packed(shape, record["lanes"], w, x)]
    y = tvm.runtime.tensor(np.zeros(result_shape(shape, record["lanes"]), np.float32))
    kernel(*arguments, y)
    expected = reference(shape, w, x)
    error = float(np.linalg.norm(unpacked(shape, y.numpy()) - expected) / np.linalg.norm(expected))
    if not error < TOLERANCE:
        raise OptionError(
            f"{shape.key}: {error:.1e} from NumPy", expected=f"at most {TOLERANCE}", fix=f"{_TUNE}, again"
        )
    note = f"MetaSchedule, {record['trials']} trials, blocks of {record['lanes']} channels"
    return Contestant(NAME, "fp32", lambda: kernel(*arguments, y), w.nbytes, note)
