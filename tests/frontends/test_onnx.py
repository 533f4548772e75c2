"""ONNX: same values, names of nodes and weights, no torch needed, typed refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontends import onnxnets
from onnx import TensorProto

from sd_tvm.calibration import Interpreter
from sd_tvm.errors import UnsupportedDTypeError, UnsupportedModelError
from sd_tvm.frontends import load_model
from sd_tvm.relay_passes._rewrite import bindings_of, is_call, source_names


def image(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 2, 5, 5)).astype(np.float32)


def test_values_and_names(tmp_path: Path) -> None:
    onnx.save(onnxnets.classifier(), tmp_path / "net.onnx")
    for source in (onnxnets.classifier(), tmp_path / "net.onnx", str(tmp_path / "net.onnx")):
        mod = load_model(source)
        got = Interpreter(mod).run([image()])
        np.testing.assert_allclose(got, onnxnets.classifier_values(image()), rtol=1e-5, atol=1e-6)
        names = source_names(mod)
        named = {v.name: names.get(v.name) for v, _ in bindings_of(mod["main"])}
        assert named["stem"] == "stem"
        assert named["fc"] == "fc"
        assert named["stem_act_Clip"] == "stem.act.Clip"


def test_clip_stays_one_operator() -> None:
    values = [v for _, v in bindings_of(load_model(onnxnets.classifier())["main"])]
    assert sum(is_call(v, "relax.clip") for v in values) == 1
    assert not any(is_call(v, "relax.call_tir") for v in values)


def test_symbolic_dimension() -> None:
    model = onnxnets.classifier(("batch", 2, 5, 5))
    with pytest.raises(UnsupportedModelError, match=r"dimension 0 of the input 'image' is dynamic \(batch\)"):
        load_model(model)
    mod = load_model(model, example_inputs=(image(),))
    np.testing.assert_allclose(
        Interpreter(mod).run([image()]), onnxnets.classifier_values(image()), rtol=1e-5, atol=1e-6
    )


def test_wrong_number_of_example_inputs() -> None:
    with pytest.raises(UnsupportedModelError, match="2 example inputs for a model with 1"):
        load_model(onnxnets.classifier(), (image(), image()))


def test_half_precision() -> None:
    with pytest.raises(UnsupportedDTypeError, match="input 'image' is float16"):
        load_model(onnxnets.classifier(dtype=TensorProto.FLOAT16))


def test_unknown_operator() -> None:
    with pytest.raises(UnsupportedModelError, match="StringNormalizer"):
        load_model(onnxnets.unknown_operator())


def test_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\xff\xffnothing")
    with pytest.raises(UnsupportedModelError, match=r"onnx cannot load .*net\.onnx"):
        load_model(tmp_path / "net.onnx")


def test_torch_is_not_imported(tmp_path: Path) -> None:
    onnx.save(onnxnets.classifier(), tmp_path / "net.onnx")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from sd_tvm.frontends import load_model\n"
        f"load_model({str(tmp_path / 'net.onnx')!r})\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
