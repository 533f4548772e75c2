"""Options of the compilation, which ``relay.build`` has no arguments for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.errors import OptionError
from sd_tvm.recipe import Recipe


@dataclass(frozen=True)
class Options:
    """Options.

    Attributes
    ----------
    recipe
        A recipe, plain data of one, the name of a preset or a YAML file.
    calibration
        Representative inputs as :func:`sd_tvm.compress` takes them: an array with examples along its first
        axis, or an iterable of examples, each an array, a tuple in the order of the module's inputs, or a
        mapping from their names. None: weights are fitted without data and activation scales are computed at
        run time.
    config
        Accelerator configuration, its name or YAML file; None: the target's.
    python
        Interpreter that compiles; None: what ``SD_TVM_PYTHON`` names.
    keep
        Folder where every compile job is kept (module, examples, ``model.sd``, plan).
    """

    recipe: Recipe | Mapping[str, Any] | str | Path = "default"
    calibration: Any = None
    config: AcceleratorConfig | str | Path | None = None
    python: str | PathLike[str] | None = None
    keep: str | PathLike[str] | None = None

    def loaded_recipe(self) -> Recipe:
        """The recipe.

        Raises
        ------
        RecipeError
            If it does not exist or is invalid.
        """
        if isinstance(self.recipe, Mapping):
            return Recipe.from_dict(self.recipe)
        return self.recipe if isinstance(self.recipe, Recipe) else Recipe.load(self.recipe)

    def machine(self, default: str) -> AcceleratorConfig:
        """The configuration.

        Raises
        ------
        ConfigError
            If it does not exist or is invalid.
        """
        chosen = default if self.config is None else self.config
        return chosen if isinstance(chosen, AcceleratorConfig) else AcceleratorConfig.load(chosen)


_stack: list[Options] = [Options()]


def current() -> Options:
    """Options in force."""
    return _stack[-1]


@contextmanager
def configure(**options: Any) -> Iterator[Options]:
    """Options for the builds inside a ``with`` block; what is left out stays as around it.

    Parameters
    ----------
    options
        Attributes of :class:`Options`.

    Raises
    ------
    OptionError
        If there is no such option.
    """
    known = [f.name for f in fields(Options)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise OptionError(f"option {unknown[0]!r}", expected=", ".join(known), fix="correct its name")
    _stack.append(replace(_stack[-1], **options))
    try:
        yield _stack[-1]
    finally:
        _stack.pop()
