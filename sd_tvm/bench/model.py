"""A model of a user beside the libraries that are installed: ``sd-tvm bench``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sd_tvm.bench import sessions
from sd_tvm.bench.contestant import Contestant, Maker, gather
from sd_tvm.bench.machine import machine, versions
from sd_tvm.bench.spread import ratios
from sd_tvm.bench.turns import take_turns, threads
from sd_tvm.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from sd_tvm.recipe import Recipe

Array = np.ndarray[Any, Any]
#: Libraries that a model is measured beside, in float32.
PEERS = ("torch", "onnxruntime", "openvino")


def bench(
    source: Any,
    example_inputs: Any = None,
    *,
    reference: Any = None,
    recipe: Recipe | None = None,
    peers: tuple[str, ...] = PEERS,
    turns: int = 15,
    seconds: float = 60.0,
    tune: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Time a model on this processor, in turns with the same network in other libraries.

    Parameters
    ----------
    source
        A ``.sd`` file, a compressed model, or what :func:`sd_tvm.load_model` takes; that is compressed and
        calibrated with noise, for its speed only.
    example_inputs
        As for :func:`sd_tvm.load_model`.
    reference
        The float32 model for the other libraries; None: ``source`` itself, if it is one.
    recipe
        How a float32 source is compressed; None: the default recipe.
    peers
        Names of :data:`PEERS`.
    turns, seconds
        Turns of everybody, and the time after which no more than three are taken.
    tune
        Candidate kernels timed for every layer; 0: none.
    progress
        Called with (step, done, total).

    Returns
    -------
    dict
        ``schema_version``, ``date``, ``machine``, ``threads``, ``versions``, ``turns``, ``contestants``
        (microseconds: ``best``, ``median``, ``low``, ``high``), ``ratios`` (the peer's time over ours) and
        ``missing`` (name -> why it did not run).

    Raises
    ------
    OptionError
        If a peer is unknown, or there are turns for nobody.
    UnsupportedModelError, FormatError
        If the model cannot be read.
    """
    check(peers, turns)
    report = progress or (lambda _step, _done, _total: None)
    report("compile", 0, 1)
    ours, examples = _ours(source, example_inputs, recipe, tune, report)
    report("compile", 1, 1)
    report("other libraries", 0, 1)
    makers = _makers(source if reference is None else reference, examples)
    found, missing = gather({name: makers[name] for name in peers})
    report("other libraries", 1, 1)
    contestants = [ours, *found]
    import datetime

    before = machine()
    taken = take_turns(contestants, turns, seconds=seconds, progress=lambda i, n: report("turns", i, n))
    if taken < turns:
        report("turns", turns, turns)
    return {
        "schema_version": 1,
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "machine": before | {"load at end": os.getloadavg()[0]},
        "threads": threads(),
        "versions": versions(),
        "turns": taken,
        "contestants": [c.row() for c in contestants],
        "ratios": [
            {"ours": ours.name, "peer": p.name, "kind": p.kind, **ratios(ours.warm, p.warm)} for p in found
        ],
        "missing": missing,
    }


def check(peers: tuple[str, ...], turns: int) -> None:
    """Refuse options before the work.

    Raises
    ------
    OptionError
        If a peer is unknown or there is no turn.
    """
    unknown = [p for p in peers if p not in PEERS]
    if unknown:
        raise OptionError(
            f"unknown library {unknown[0]!r}", expected=f"some of {', '.join(PEERS)}", fix="correct it"
        )
    if turns < 1:
        raise OptionError(f"{turns} turns", expected="1 or more", fix="correct it")


def _ours(
    source: Any,
    example_inputs: Any,
    recipe: Recipe | None,
    tune: int,
    report: Callable[[str, int, int], None],
) -> tuple[Contestant, tuple[Array, ...]]:
    from sd_tvm._tvm import tvm
    from sd_tvm.bench.module import build_module
    from sd_tvm.execute import read_module
    from sd_tvm.schedules.cpu.tuning import KernelTuning

    mod = read_module(source, example_inputs)
    mod = _integer(mod, tuple(_example(p.ty, i) for i, p in enumerate(mod["main"].params)), recipe)
    examples = tuple(_example(p.ty, i) for i, p in enumerate(mod["main"].params))
    tvm.get_global_func("runtime.config_threadpool")(1, threads())  # without it, as many as the machine has
    host = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")()
    target = {"kind": "llvm", "mcpu": host}
    tuning = KernelTuning(tune=tune, progress=lambda i, n: report("tune", i, n)) if tune else None
    built = build_module(mod, examples, target, tuning)
    name = "sd-tvm" + (", tuned" if tune else "")
    return Contestant(name, "ours", built.call, built.weight_bytes, built.kernel), examples


def _integer(mod: Any, examples: tuple[Array, ...], recipe: Recipe | None) -> Any:
    """Integer layers; a float32 module is calibrated with noise, so that no scale is computed at run time."""
    from sd_tvm.relay_passes.calibrate import Calibrate
    from sd_tvm.relay_passes.decompose import Decompose, is_decomposed
    from sd_tvm.relay_passes.partition import Partition, is_partitioned
    from sd_tvm.relay_passes.pipeline import simplify, to_integer

    steps: list[Any] = to_integer(mod, recipe)
    if not is_partitioned(mod) and not is_decomposed(mod):
        noise = examples[0] if len(examples) == 1 else examples
        steps = [*simplify(), Calibrate([noise]), Decompose(recipe), Partition()]
    for step in steps:
        mod = step(mod)
    return mod


def _example(kind: Any, seed: int) -> Array:
    """Noise of a tensor type."""
    shape, dtype = [int(d) for d in kind.shape], np.dtype(str(kind.dtype))
    rng = np.random.default_rng(seed)
    if dtype.kind == "f":
        return np.asarray(rng.normal(size=shape)).astype(dtype)
    return np.zeros(shape, dtype=dtype)  # indices, masks: zero is always one of them


def _makers(source: Any, examples: tuple[Array, ...]) -> dict[str, Maker]:
    @cache
    def model() -> Any:
        return _float_model(source)

    @cache
    def exported() -> bytes:
        return _onnx(model(), examples)

    return {
        "torch": lambda: Contestant("torch fp32", "fp32", sessions.torch_call(_module(model()), *examples)),
        "onnxruntime": lambda: Contestant(
            "onnxruntime fp32", "fp32", sessions.onnxruntime_call(exported(), *examples)
        ),
        "openvino": lambda: Contestant(
            "openvino fp32", "fp32", sessions.openvino_call(exported(), *examples)
        ),
    }


def _float_model(source: Any) -> Any:
    """A torch module, or the path of an ONNX file, of what a user may call a model."""
    from sd_tvm import models
    from sd_tvm.frontends import callable as functions

    if isinstance(source, str) and source in models.names():
        source = models.spec(source)
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        if text.endswith(".onnx"):
            return Path(text)
        if text.endswith(".pt2"):
            torch = sessions.import_torch()
            return torch.export.load(text).module()
        if ":" in text and not Path(text).exists():
            source = functions.result(text)
    if isinstance(source, tuple):
        source = source[0]
    if hasattr(source, "state_dict") and callable(source):
        return source.eval()
    if hasattr(source, "module") and hasattr(source, "graph_signature"):  # torch.export.ExportedProgram
        return source.module()
    raise OptionError(
        "this model has no float32 form that other libraries read",
        expected="a torch module, a .pt2 or an .onnx file",
        fix="name the model that it was compressed from: --reference MODEL",
    )


def _module(model: Any) -> Any:
    if isinstance(model, Path):
        raise OptionError("torch reads no .onnx file", expected="a torch module or a .pt2 file")
    return model


def _onnx(model: Any, examples: tuple[Array, ...]) -> bytes:
    if isinstance(model, Path):
        return model.read_bytes()
    torch = sessions.import_torch()
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "the onnx package is not installed", expected="onnx", fix="pip install 'sd-tvm[onnx]'"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        values = tuple(torch.from_numpy(x) for x in examples)
        torch.onnx.export(model, values, str(path), dynamo=False, opset_version=17)
        return path.read_bytes()
