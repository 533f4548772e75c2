"""A whole recipe: its YAML, and the plan that its rules make."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from sd_tvm._yaml import dump_yaml, load_yaml
from sd_tvm.errors import RecipeError
from sd_tvm.recipe.form import Form, Strict
from sd_tvm.recipe.layer import LayerInfo, LayerPlan
from sd_tvm.recipe.presets import PRESETS, RECIPE_VERSION
from sd_tvm.recipe.rule import Rule
from sd_tvm.weights.packing import packed_nbytes
from sd_tvm.weights.stored import stored_nbytes


class Activations(Strict):
    """Quantisation of activations: 8-bit type, and how calibration turns values into a range.

    ``minmax``: the extremes; ``percentile``: what is left after cutting ``100 - percentile`` per cent on
    either side; ``mse``: the clip that makes the squared error smallest.
    """

    dtype: Literal["uint8", "int8"] = "uint8"
    range: Literal["minmax", "percentile", "mse"] = "mse"
    percentile: float = Field(default=99.99, gt=50.0, le=100.0)


#: Relative to the mean second moment of a layer's inputs.
Strength = Annotated[float, Field(gt=0.0, le=1e6)]


class Solver(Strict):
    """How weights are decomposed.

    Attributes
    ----------
    method
        ``alternating``: ours; ``official``: the published SmartDeal algorithm, threshold included.
    iterations
        Passes of the official algorithm.
    ridge, damping
        Of the calibrated fit (:func:`~sd_tvm.decompose.calibrated.fit_calibrated`), relative to the mean
        second moment of a layer's inputs: how strongly a weight is held at the trained one, and what the
        codes add to the moments. None: that function's own values. ``auto``: chosen for every layer by
        cross-validation between the halves of the calibration data (:mod:`sd_tvm.calibration.validation`).
    weight_bits
        Bits of a rebuilt weight, sign included, that bases are rounded to keep to: an array with narrow
        multipliers needs it (``array.rebuilt_bits`` of a configuration). None: as wide as codes and 8-bit
        bases make it, 13 bits for two-term codes in rows of three.
    """

    method: Literal["alternating", "official"] = "alternating"
    iterations: int = Field(default=30, ge=1, le=1000)
    ridge: Strength | Literal["auto"] | None = None
    damping: Strength | Literal["auto"] | None = None
    weight_bits: int | None = Field(default=None, ge=8, le=16)

    @property
    def validates(self) -> bool:
        """Whether a strength is chosen by cross-validation."""
        return "auto" in (self.ridge, self.damping)

    def strengths(self, ridge: float, damping: float) -> tuple[float, float]:
        """Ridge and damping as numbers; the arguments stand for None.

        Raises
        ------
        RecipeError
            If one is ``auto``: nothing has chosen it.
        """
        if isinstance(self.ridge, str) or isinstance(self.damping, str):
            raise RecipeError(
                "ridge or damping `auto` where nothing is cross-validated",
                expected="numbers",
                fix="compress with calibration data: sd_tvm.compress(..., calibration=)",
            )
        return ridge if self.ridge is None else self.ridge, damping if self.damping is None else self.damping

    @model_validator(mode="after")
    def _consistent(self) -> Solver:
        if self.method == "official" and (self.ridge is not None or self.damping is not None):
            raise ValueError("ridge and damping go with method 'alternating' only: 'official' uses no data")
        if self.method == "official" and self.weight_bits is not None:
            raise ValueError("weight_bits goes with method 'alternating' only")
        return self


class Recipe(Strict):
    """A whole recipe; the package's documentation says how rules combine."""

    version: Literal[1] = 1
    rules: tuple[Rule, ...] = ()
    otherwise: Literal["int8", "skip"] = "int8"
    activations: Activations = Activations()
    solver: Solver = Solver()

    @classmethod
    def default(cls) -> Recipe:
        """Two-term 16:16 with a basis per filter; depthwise and the first convolution in int8."""
        return cls.named("default")

    @classmethod
    def named(cls, name: str) -> Recipe:
        """A preset of :data:`PRESETS`.

        Raises
        ------
        RecipeError
            If there is none of that name.
        """
        try:
            return cls.from_dict(PRESETS[name], source=f"preset {name}")
        except KeyError:
            raise RecipeError(
                f"unknown recipe {name!r}",
                expected=f"one of {sorted(PRESETS)}, or the path of a YAML file",
                fix=_suggest(name, sorted(PRESETS)) or "correct the name",
            ) from None

    @classmethod
    def load(cls, name_or_path: str | Path) -> Recipe:
        """A preset by name, or a YAML file by path.

        Raises
        ------
        RecipeError
            If it is neither, or the file is no valid recipe.
        """
        path = Path(name_or_path)
        if str(name_or_path) in PRESETS or path.suffix not in (".yaml", ".yml"):
            return cls.named(str(name_or_path))
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot read recipe {str(path)!r}: {error}", fix="correct the path") from error
        return cls.from_yaml(text, source=str(path))

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "<recipe>") -> Recipe:
        """A recipe from plain data.

        Raises
        ------
        RecipeError
            Names the key and the reason.
        """
        if not isinstance(data, dict):
            raise RecipeError(
                f"{source}: {type(data).__name__} instead of a mapping",
                expected="keys version, rules, ...",
                fix="see sd_tvm/recipe/__init__.py for an example",
            )
        if "version" not in data:
            raise RecipeError(f"{source}: no version", fix=f"add `version: {RECIPE_VERSION}`")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(p) for p in e['loc']) or 'recipe'}: {e['msg']}"
                for e in error.errors(include_url=False)[:5]
            )
            raise RecipeError(f"{source}: {problems}", fix="correct the recipe") from error

    @classmethod
    def from_yaml(cls, text: str, *, source: str = "<recipe>") -> Recipe:
        """A recipe from YAML text (duplicate keys are refused).

        Raises
        ------
        RecipeError
            Names the line or the key and the reason.
        """
        return cls.from_dict(load_yaml(text, source=source, error=RecipeError), source=source)

    def to_dict(self) -> dict[str, Any]:
        """Plain data with every default written out, so that it keeps its meaning."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_yaml(self) -> str:
        """YAML; equal recipes give equal text."""
        return dump_yaml(self.to_dict())

    def plan(self, layers: Sequence[LayerInfo]) -> dict[str, LayerPlan]:
        """Decide every layer.

        Parameters
        ----------
        layers
            In network order, with distinct names.

        Raises
        ------
        RecipeError
            If a rule by name or regex matches nothing, or two layers have one name.
        """
        names = [layer.name for layer in layers]
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise RecipeError(f"layers named twice: {twice[:5]}", fix="give layers distinct names")
        winner: dict[str, int] = {}
        for i, rule in enumerate(self.rules):
            matched = rule.select(layers)
            if not matched and rule.op is None and not rule.named(layers):
                raise RecipeError(
                    f"rule {i} ({rule.selector}) matches none of {len(names)} layers",
                    expected="a pattern that matches a layer",
                    fix=_suggest(rule.name or rule.regex or "", names) or "correct or drop the rule",
                )
            winner.update(dict.fromkeys(matched, i))
        return {layer.name: self._decide(layer, winner.get(layer.name)) for layer in layers}

    def _decide(self, layer: LayerInfo, index: int | None) -> LayerPlan:
        geometry = layer.geometry
        raw = stored_nbytes(geometry.shape, None)
        if index is None:
            reason = f"no rule matches; otherwise: {self.otherwise}"
            return LayerPlan(self.otherwise, None, 0, None, reason, None, raw)
        rule = self.rules[index]
        why = f"rule {index} ({rule.selector})"
        if rule.kind != "sd":
            return LayerPlan(rule.kind, None, 0, index, why, None, raw)
        spec = rule.form or Form()
        form, n_bases = spec.weight_form(geometry), spec.n_bases(geometry)
        size = stored_nbytes(geometry.shape, form, n_bases)
        used, used_raw = packed_nbytes(geometry.shape, form, n_bases), packed_nbytes(geometry.shape, None)
        if (size >= raw or used >= used_raw) and not rule.even_if_larger:
            why += f", but SD form takes {used} bytes in use and {size} in the file"
            why += f", int8 {used_raw} and {raw}"
            return LayerPlan("int8", None, 0, index, why, size, raw)
        why += f": {size} bytes, int8 takes {raw}"
        return LayerPlan("sd", form, n_bases, index, why, size, raw)


def _suggest(pattern: str, names: list[str]) -> str:
    close = difflib.get_close_matches(pattern, names, n=5, cutoff=0.4)
    if close:
        return f"did you mean {', '.join(map(repr, close))}"
    return f"choose among {', '.join(map(repr, names[:8]))}{', ...' * (len(names) > 8)}" if names else ""
