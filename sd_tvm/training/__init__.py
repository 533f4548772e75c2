"""Training in SD form: retraining on labelled data, distillation on unlabelled inputs.

    from sd_tvm import training
    handle = training.attach(model, "sd-4:16", training.Options(rows=(16, 8, 8, 4)))
    optimizer = torch.optim.SGD(model.parameters(), ...)
    handle.follow(optimizer)                  # codes follow the weights after its steps
    for epoch in range(epochs):
        handle.begin_epoch(epoch)
        ...                                   # any training loop
    handle.export(example_inputs, calibration=images).save("net.sd")

The model computes with the very numbers that the file will hold; the float weights it had are the masters
that gradients move (``docs/training.md``). Importing this package does not load torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sd_tvm.errors import MissingExtraError
from sd_tvm.training.options import Options

if TYPE_CHECKING:
    from sd_tvm.recipe import Recipe
    from sd_tvm.training.distillation import Distilled
    from sd_tvm.training.handle import Handle


def attach(
    model: Any,
    recipe: Recipe | str | Path,
    options: Options | None = None,
    *,
    example_inputs: Sequence[Any] | Any | None = None,
) -> Handle:
    """Put the weights of a torch model into the form of a recipe, and keep them trainable.

    Every ``Linear``, ``Conv1d`` and ``Conv2d`` that the recipe puts into SD form or int8 gets a
    parametrisation (:mod:`torch.nn.utils.parametrize`): its weight is what the compressed one rebuilds, bit
    for bit, and the gradient goes straight through to the float32 weight the layer had, which stays the
    same ``Parameter``.

    Parameters
    ----------
    model
        torch module, float32; changed in place.
    recipe
        A recipe, the name of a preset, or a YAML file.
    options
        How training goes; default :class:`Options`.
    example_inputs
        Inputs of the model's forward. With them, layers are numbered in the order in which they run, which
        rules with a ``position`` depend on; without, in the order in which the modules were registered.

    Returns
    -------
    Handle

    Raises
    ------
    MissingExtraError
        If torch is not installed.
    UnsupportedModelError
        If the model is no torch module, has no such layer, or has a parametrised one already.
    UnsupportedDTypeError
        If a weight is not float32.
    NumericsError
        If a weight is not finite; names the layer.
    RecipeError
        If the recipe is invalid, a rule matches nothing, or every layer is skipped.
    OptionError
        If the options do not fit the recipe.
    """
    _need_torch()
    from sd_tvm.training.handle import attach as implementation

    return implementation(model, recipe, options or Options(), example_inputs)


def distill(
    student: Any,
    teacher: Any,
    inputs: Any,
    *,
    handle: Handle,
    blocks: Sequence[str] = (),
    epochs: int = 1,
    block_epochs: int = 1,
    batch: int = 32,
    rate: float = 1e-3,
    temperature: float = 2.0,
    feature_weight: float = 1.0,
    seed: int = 0,
) -> Distilled:
    """Train a model in SD form to answer like the float32 one, on inputs without labels.

    First block by block in the given order: a block's parameters learn to give the teacher's output of that
    block from what the student's earlier blocks deliver (mean squared error over the variance of the
    teacher's). Then all together: KL divergence of the outputs, and the blocks' errors.

    Parameters
    ----------
    student, teacher
        Models of the same structure; the student has ``handle`` attached. Both stay in evaluation mode, so
        that batch norm keeps its statistics.
    inputs
        Tensor or array with examples along its first axis.
    handle
        What :func:`attach` returned for the student; its codes follow the weights.
    blocks
        Names of submodules whose outputs are compared, in network order; empty: only end to end.
    epochs, block_epochs
        Passes over the inputs end to end, and for each block.
    batch, rate
        Examples of a step, and the learning rate of Adam.
    temperature
        Softens both distributions.
    feature_weight
        Weight of the blocks' errors beside the divergence, end to end.
    seed
        Of the order of the inputs.

    Returns
    -------
    Distilled
        What the loss was in every epoch, and how many codes moved.

    Raises
    ------
    MissingExtraError
        If torch is not installed.
    OptionError
        If a number is out of range, a block does not exist, or there are no inputs.
    """
    _need_torch()
    from sd_tvm.training.distillation import Plan, run

    plan = Plan(tuple(blocks), epochs, block_epochs, batch, rate, temperature, feature_weight, seed)
    return run(student, teacher, inputs, handle, plan)


def _need_torch() -> None:
    try:
        import_module("torch")
    except ImportError as error:
        raise MissingExtraError(
            "PyTorch is not installed", expected="torch", fix="pip install 'sd-tvm[torch]'"
        ) from error


__all__ = ["Options", "attach", "distill"]
