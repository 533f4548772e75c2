"""What load_model takes: callables, IRModules, and clear words for everything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frontends import torchnets
from passes import nets

from sd_tvm._tvm import relax, structural_equal, tirx, tvm
from sd_tvm.calibration import Interpreter
from sd_tvm.errors import MissingExtraError, UnsupportedDTypeError, UnsupportedModelError
from sd_tvm.frontends import load_model


def test_callable_with_inputs() -> None:
    mod = load_model("frontends.torchnets:sequence")
    assert [p.name for p in mod["main"].params] == ["input"]


def test_callable_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_net.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Linear(3, 2)\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    mod = load_model("my_own_net:build", np.zeros((1, 3), np.float32))
    assert len(mod["main"].params) == 1
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("no_such_module_anywhere:f", "cannot import the module 'no_such_module_anywhere'"),
        ("frontends.torchnets:nothing", "has no callable 'nothing'"),
        ("frontends.torchnets:NOT_CALLABLE", "has no callable 'NOT_CALLABLE'"),
        ("frontends.torchnets:raises", "no weights here"),
        ("missing.onnx", "no file 'missing.onnx'"),
        ("missing.pt2", "no file 'missing.pt2'"),
        ("model.pth", "unknown suffix '.pth'.*torch.export.save"),
        ("model.sd", "sd_tvm.load"),
        ("model", "unknown suffix ''"),
        (3, "builtins.int is not a model"),
        (None, "NoneType is not a model"),
    ],
)
def test_refusals(source: Any, match: str) -> None:
    with pytest.raises(UnsupportedModelError, match=match):
        load_model(source)


@pytest.mark.parametrize(("package", "source"), [("torch", "net.pt2"), ("onnx", "net.onnx")])
def test_missing_package_names_the_extra(package: str, source: str, tmp_path: Path) -> None:
    (tmp_path / source).write_bytes(b"")
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from sd_tvm.errors import MissingExtraError\n"
        "from sd_tvm.frontends import load_model\n"
        f"try: load_model({str(tmp_path / source)!r})\n"
        "except MissingExtraError as e: print(e)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"pip install 'sd-tvm[{package}]'" in result.stdout
    assert issubclass(MissingExtraError, Exception)


def test_module_passes_through() -> None:
    mod = nets.classifier()
    assert structural_equal(load_model(mod)["main"], mod["main"])


def test_weights_in_the_params_attribute_are_bound() -> None:
    model, inputs = torchnets.build("dense")
    import torch
    from tvm.relax.frontend.torch import from_exported_program

    program = torch.export.export(model, inputs)
    mod = from_exported_program(program, keep_params_as_input=True, unwrap_unit_return_tuple=True)
    bound = load_model(mod)
    assert len(bound["main"].params) == 1
    got = Interpreter(bound).run([inputs[0].numpy()])
    np.testing.assert_allclose(got, torchnets.outputs(model, inputs)[0], rtol=1e-5, atol=1e-6)
    with pytest.raises(UnsupportedModelError, match="BindParams"):
        load_model(tvm.IRModule({"main": mod["main"].without_attr("params")}))


def _identity(shape: list[Any], dtype: str = "float32") -> Any:
    x = relax.Var("x", relax.TensorType(shape, dtype))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            out = builder.emit_output(relax.op.abs(x))
        builder.emit_func_output(out)
    return builder.get()


def test_modules_that_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="dimension 0 of input 'x' is dynamic"):
        load_model(_identity([tirx.Var("n", "int64"), 3]))
    with pytest.raises(UnsupportedDTypeError, match="input 'x' is float16"):
        load_model(_identity([2, 3], "float16"))
    with pytest.raises(UnsupportedModelError, match="no Relax function 'main'"):
        load_model(tvm.IRModule({}))
    both = _identity([2])
    both["other"] = both["main"].with_attr("global_symbol", "other")
    with pytest.raises(UnsupportedModelError, match=r"\['other'\] beside 'main'"):
        load_model(both)


def test_import_loads_neither_tvm_nor_torch() -> None:
    code = "import sys, sd_tvm.frontends; print(int('tvm' in sys.modules), int('torch' in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["0", "0"]
