"""torch modules, exported programs and .pt2 files: same values, own names, typed refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from frontends import torchnets
from passes.running import arrays
from torch import nn

from sd_tvm._tvm import relax, tvm
from sd_tvm.calibration import Interpreter
from sd_tvm.errors import UnsupportedDTypeError, UnsupportedModelError
from sd_tvm.frontends import load_model
from sd_tvm.relay_passes._rewrite import bindings_of, constant, is_call, source_names


@pytest.mark.parametrize("name", torchnets.NETS)
def test_module_gives_torchs_values(name: str) -> None:
    model, inputs = torchnets.build(name)
    mod = load_model(model, inputs)
    executable = tvm.compile(mod, target=tvm.target.Target({"kind": "llvm", "opt-level": 0}))
    vm = relax.VirtualMachine(executable, tvm.cpu())
    got = arrays(vm["main"](*(tvm.runtime.tensor(i.numpy()) for i in inputs)))
    for a, b in zip(got, torchnets.outputs(model, inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_pt2_and_program_and_module_are_the_same(tmp_path: Path) -> None:
    model, inputs = torchnets.build("resnet")
    program = torch.export.export(model, inputs)
    torch.export.save(program, tmp_path / "net.pt2")
    mods = [load_model(model, inputs), load_model(program), load_model(tmp_path / "net.pt2")]
    texts = {m.script(show_meta=True) for m in mods}
    assert len(texts) == 1


def test_layers_carry_the_names_of_the_model() -> None:
    model, inputs = torchnets.build("resnet")
    mod = load_model(model, inputs)
    names = source_names(mod)
    layers = {
        names[v.name]
        for v, value in bindings_of(mod["main"])
        if is_call(value, "relax.nn.conv2d", "relax.matmul")
    }
    assert layers == {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert len(set(names.values())) == len(names)
    assert names["v_0"] == "0"  # an identifier for the module "0"


def test_numpy_example_inputs_and_training_flags() -> None:
    model, inputs = torchnets.build("dense")
    model.train()
    model[0].eval()
    mod = load_model(model, inputs[0].numpy())
    assert [m.training for m in model] == [False, True, True, True, True]
    got = Interpreter(mod).run([inputs[0].numpy()])
    np.testing.assert_allclose(got, torchnets.outputs(model.eval(), inputs)[0], rtol=1e-5, atol=1e-6)


def test_weights_are_constants() -> None:
    model, inputs = torchnets.build("mobile")
    mod = load_model(model, inputs)
    assert [p.name for p in mod["main"].params] == ["x"]
    convs = [v for _, v in bindings_of(mod["main"]) if is_call(v, "relax.nn.conv2d")]
    np.testing.assert_array_equal(constant(convs[0].args[1]), model.stem.weight.detach().numpy())


def test_needs_example_inputs() -> None:
    with pytest.raises(UnsupportedModelError, match="example_inputs"):
        load_model(nn.Linear(2, 2))


def test_dynamic_shape_names_input_and_dimension() -> None:
    batch = torch.export.Dim("batch", min=2, max=8)
    program = torch.export.export(nn.Linear(4, 2).eval(), (torch.randn(3, 4),), dynamic_shapes=({0: batch},))
    with pytest.raises(UnsupportedModelError, match=r"dimension 0 of the input 'input' is dynamic"):
        load_model(program)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types(dtype: torch.dtype) -> None:
    model = nn.Linear(4, 2).to(dtype).eval()
    with pytest.raises(UnsupportedDTypeError, match=str(dtype).removeprefix("torch.")):
        load_model(model, (torch.randn(1, 4, dtype=dtype),))


def test_data_dependent_branch() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(UnsupportedModelError, match="cannot export Branch"):
        load_model(Branch(), (torch.randn(2, 2),))


def test_operator_without_translation() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft(x).real

    with pytest.raises(UnsupportedModelError, match="importer does not translate"):
        load_model(Odd(), (torch.randn(2, 4),))


def test_file_that_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(b"not a zip")
    with pytest.raises(UnsupportedModelError, match=r"torch cannot load .*net\.pt2"):
        load_model(path)
