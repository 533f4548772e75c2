"""The real network on the real images: 18 of 20 in torch and in Relax, and through every clean-up pass."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from sd_tvm._tvm import relax, tvm
from sd_tvm.calibration import Interpreter
from sd_tvm.data.samples import PHOTOGRAPHS, imagenet_samples, photographs
from sd_tvm.errors import CalibrationError
from sd_tvm.frontends import load_model
from sd_tvm.models import efficientnet_lite0
from sd_tvm.relay_passes._rewrite import bindings_of, is_call, source_names
from sd_tvm.relay_passes.calibrate import Calibrate, calibration
from sd_tvm.relay_passes.canonicalize import Canonicalize
from sd_tvm.relay_passes.fold_batch_norm import FoldBatchNorm
from sd_tvm.relay_passes.fold_pad import FoldPad
from sd_tvm.relay_passes.graph_io import from_graph, graph_to_text, to_graph


@cache
def network() -> Any:
    return efficientnet_lite0.build()


@cache
def imported() -> Any:
    return load_model("sd_tvm.models.efficientnet_lite0:model")


@cache
def cleaned() -> Any:
    return tvm.transform.Sequential([Canonicalize(), FoldBatchNorm(), FoldPad()])(imported())


@cache
def images() -> tuple[np.ndarray, np.ndarray]:
    samples = imagenet_samples()
    return efficientnet_lite0.preprocess_all(s.image for s in samples), np.array([s.label for s in samples])


@cache
def torch_scores() -> np.ndarray:
    with torch.no_grad():
        return network()(torch.from_numpy(images()[0])).numpy()


def test_torch_top1_and_top5() -> None:
    x, labels = images()
    assert x.shape == (20, 3, 224, 224)
    scores = torch_scores()
    assert (scores.argmax(1) == labels).sum() == 18
    assert sum(label in row for label, row in zip(labels, np.argsort(-scores, 1)[:, :5], strict=True)) == 19


def test_relax_gives_torchs_scores_before_and_after_the_passes() -> None:
    x, labels = images()
    interpreter = Interpreter(cleaned())
    scores = np.concatenate([interpreter.run([i[None]]) for i in x])
    assert (scores.argmax(1) == labels).sum() == 18
    assert np.abs(scores - torch_scores()).max() < 1e-4 * np.abs(torch_scores()).max()
    before = Interpreter(imported()).run([x[:1]])
    assert np.abs(before - scores[:1]).max() < 1e-4 * np.abs(scores).max()


def test_tvm_gives_torchs_scores_after_the_passes() -> None:
    executable = tvm.compile(relax.get_pipeline("zero")(cleaned()), target="llvm")
    got = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(images()[0][:1])).numpy()
    assert np.abs(got - torch_scores()[:1]).max() < 1e-4 * np.abs(torch_scores()).max()


def test_what_the_graph_consists_of() -> None:
    counts: dict[str, int] = {}
    for _, value in bindings_of(cleaned()["main"]):
        if isinstance(value, relax.Call):
            counts[value.op.name.removeprefix("relax.")] = (
                counts.get(value.op.name.removeprefix("relax."), 0) + 1
            )
    assert counts == {"nn.conv2d": 49, "add": 59, "clip": 33, "mean": 1, "reshape": 1, "matmul": 1}
    names = source_names(cleaned())
    layers = [names[v.name] for v, e in bindings_of(cleaned()["main"]) if is_call(e, "relax.nn.conv2d")]
    assert len(layers) == 49
    assert set(layers) == {n for n, m in network().named_modules() if isinstance(m, torch.nn.Conv2d)}


def test_calibration_on_photographs() -> None:
    ranges = calibration(Calibrate(efficientnet_lite0.calibration_images(4))(cleaned()))
    for name, r in ranges.items():
        assert r["min"] <= r["lo"] <= r["hi"] <= r["max"], name
    assert ranges["inputs"]["min"] >= -1
    for var, value in bindings_of(cleaned()["main"]):
        if is_call(value, "relax.clip"):
            assert (ranges[var.name]["lo"], ranges[var.name]["max"]) == (0.0, 6.0)


def test_graph_round_trip() -> None:
    graph, tensors = to_graph(cleaned())
    new = from_graph(graph, tensors)
    again, _ = to_graph(new)
    assert graph_to_text(again) == graph_to_text(graph)
    x = images()[0][:1]
    np.testing.assert_array_equal(Interpreter(new).run([x]), Interpreter(cleaned()).run([x]))


def test_photographs_are_distinct_and_always_the_same() -> None:
    found = photographs(64)
    assert len({p.tobytes() for p in found}) == 64
    assert all(p.ndim == 3 and p.shape[2] == 3 and p.dtype == np.uint8 for p in found)
    assert all(np.array_equal(a, b) for a, b in zip(photographs(20), found, strict=False))
    with pytest.raises(CalibrationError, match=f"1 to {6 * len(PHOTOGRAPHS)}"):
        photographs(1000)


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("foolbox", "sd_tvm.data.samples.imagenet_samples()"),
        ("skimage", "sd_tvm.data.samples.photographs()"),
        ("PIL", "sd_tvm.data.samples.photographs()"),
        ("efficientnet_lite_pytorch", "sd_tvm.models.efficientnet_lite0.build()"),
        ("torch", "sd_tvm.models.efficientnet_lite0.build()"),
    ],
)
def test_missing_packages_name_the_extra(package: str, call: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import sd_tvm.data.samples, sd_tvm.models.efficientnet_lite0\n"
        "from sd_tvm.errors import MissingExtraError\n"
        f"try: {call}\n"
        "except MissingExtraError as e: print(e)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'sd-tvm[demo" in result.stdout, result.stderr
