"""PyTorch: modules and exported programs (torch.export). The only front end that needs torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from sd_tvm._tvm import ir
from sd_tvm.errors import MissingExtraError, UnsupportedModelError
from sd_tvm.frontends.checks import check_dtype, dynamic_shape, finish, translate
from sd_tvm.frontends.naming import apply_names, propose, spread_scopes


def _torch() -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        raise MissingExtraError(
            "PyTorch is not installed", expected="torch", fix="pip install 'sd-tvm[torch]'"
        ) from error


def from_file(path: str) -> Any:
    """Import a ``.pt2`` file written by ``torch.export.save``."""
    torch = _torch()
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise UnsupportedModelError(
            f"torch cannot load {path!r}: {str(error).splitlines()[0][:200] if str(error) else error!r}",
            expected="a file written by torch.export.save",
            fix="save with torch.export.save(torch.export.export(model, inputs), 'model.pt2')",
        ) from error
    return from_program(program)


def _as_tensors(example_inputs: Sequence[Any] | Any | None) -> tuple[Any, ...]:
    torch = _torch()
    if example_inputs is None:
        raise UnsupportedModelError(
            "a torch module without example_inputs",
            expected="example_inputs: the tensor(s) that its forward takes",
            fix="pass example_inputs=(torch.zeros(1, 3, 224, 224),) with your shapes",
        )
    if not isinstance(example_inputs, tuple | list):
        example_inputs = (example_inputs,)
    return tuple(torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in example_inputs)


def from_module(module: Any, example_inputs: Sequence[Any] | Any | None) -> Any:
    """Export a torch module in evaluation mode and import it; its training flags are put back."""
    torch = _torch()
    inputs = _as_tensors(example_inputs)
    for name, tensor in list(module.named_parameters()) + list(module.named_buffers()):
        check_dtype(str(tensor.dtype).removeprefix("torch."), f"the tensor {name!r}")
    training = [(m, m.training) for m in module.modules()]
    try:
        module.eval()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, inputs)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnsupportedModelError(
            f"torch.export cannot export {type(module).__name__}: {first[:300]}",
            expected="a module without data-dependent control flow that accepts example_inputs",
            fix="check that module(*example_inputs) runs, and rewrite branches that depend on values",
        ) from error
    finally:
        for m, flag in training:
            m.training = flag
    return from_program(program)


def _check_program(program: Any) -> None:
    torch = _torch()
    kinds = torch.export.graph_signature.InputKind
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    for spec in program.graph_signature.input_specs:
        value = values.get(spec.arg.name)
        what = (
            f"the input {spec.arg.name!r}" if spec.kind == kinds.USER_INPUT else f"the tensor {spec.target!r}"
        )
        if not isinstance(value, torch.Tensor):
            if spec.kind == kinds.USER_INPUT:
                raise UnsupportedModelError(
                    f"{what} is not a tensor", expected="tensors", fix="make it a constant of the module"
                )
            continue
        check_dtype(str(value.dtype).removeprefix("torch."), what)
        for i, dim in enumerate(value.shape):
            if not isinstance(dim, int):
                raise dynamic_shape(what, i, str(dim))


def _scope(node: Any) -> str:
    """Path of the innermost module that a node of the exported graph runs in."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()))[0] if stack else ""
    return str(path).removeprefix("L['self'].").removeprefix("L__self__").lstrip(".")


def from_program(program: Any) -> Any:
    """Import an ExportedProgram (any torch >= 2.8 that saved it)."""
    from tvm.relax.frontend.torch import exported_program_translator as translator

    _check_program(program)
    known: dict[str, str] = {}
    signature: dict[str, str] = {}

    def run() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lowered = program.run_decompositions()
            importer = translator.ExportedProgramImporter()
            # weights stay parameters: their names are needed once more
            mod = importer.from_exported_program(lowered, True, True, False, None)
        for node, var in importer.env.items():
            if isinstance(var, ir.Var):
                known.setdefault(var.name, _scope(node))  # a no-op (dropout) hands its input on
        signature.update(lowered.graph_signature.inputs_to_parameters)
        return mod

    mod = translate(run, "the exported program")
    func = mod["main"]
    return finish(apply_names(mod, propose(func, signature, spread_scopes(func, known))))
