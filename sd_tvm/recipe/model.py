"""The recipe's models: forms, rules and the plan they make."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sd_tvm._yaml import dump_yaml, load_yaml
from sd_tvm.errors import RecipeError
from sd_tvm.recipe.layer import Kind, LayerInfo, LayerPlan
from sd_tvm.recipe.presets import PRESETS, RECIPE_VERSION
from sd_tvm.weights.alphabet import ALPHABETS
from sd_tvm.weights.packing import packed_nbytes
from sd_tvm.weights.rows import ROWS_PER_BLOCK, RowGeometry
from sd_tvm.weights.tensor import BasisKind, Pattern, WeightForm

MAX_CODEBOOK = 256
MAX_GROUP_FILTERS = 240


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class Form(_Strict):
    """SD form of a rule; becomes a :class:`~sd_tvm.weights.tensor.WeightForm` for each layer.

    Attributes
    ----------
    pattern
        ``16:16`` (dense), ``8:16``, ``4:16``, ``2:16``: rows kept of every 16 rows of every filter;
        ``shared``: groups of filters keep the same rows.
    alphabet
        Name of a code table.
    basis
        ``filter``, ``slice`` (needs ``slice_rows``) or ``codebook`` (``bases``, default 16).
    slice_rows
        Rows of a slice, a multiple of 16; a layer with no more rows than that has one basis a filter.
    bases
        Bases of a codebook, 1 to 256.
    kept, kept_rows, group_filters
        For ``shared``: the fraction (0, 1] or the number of rows a group keeps (give one), and the
        filters of a group (a multiple of 16, at most 240; default 32).
    """

    pattern: Pattern = "16:16"
    alphabet: str = "two-term"
    basis: BasisKind = "filter"
    slice_rows: int | None = Field(default=None, ge=ROWS_PER_BLOCK)
    bases: int | None = Field(default=None, ge=1, le=MAX_CODEBOOK)
    kept: float | None = Field(default=None, gt=0.0, le=1.0)
    kept_rows: int | None = Field(default=None, ge=1)
    group_filters: int | None = Field(default=None, ge=16, le=MAX_GROUP_FILTERS)

    @model_validator(mode="after")
    def _consistent(self) -> Form:
        if self.alphabet not in ALPHABETS:
            raise ValueError(f"alphabet {self.alphabet!r} is none of {sorted(ALPHABETS)}")
        for field, owner, value in (
            ("slice_rows", "slice", self.basis),
            ("bases", "codebook", self.basis),
            ("kept", "shared", self.pattern),
            ("kept_rows", "shared", self.pattern),
            ("group_filters", "shared", self.pattern),
        ):
            if getattr(self, field) is not None and value != owner:
                raise ValueError(f"{field} goes with {owner!r} only, not with {value!r}")
        if self.basis == "slice" and (self.slice_rows is None or self.slice_rows % ROWS_PER_BLOCK):
            raise ValueError(f"basis 'slice' needs slice_rows, a multiple of {ROWS_PER_BLOCK}")
        if self.pattern == "shared" and (self.kept is None) == (self.kept_rows is None):
            raise ValueError("pattern 'shared' needs either kept or kept_rows")
        if self.group_filters is not None and self.group_filters % 16:
            raise ValueError("group_filters is a multiple of 16")
        return self

    def weight_form(self, geometry: RowGeometry) -> WeightForm:
        """The form of a layer of this geometry (fractions become row counts)."""
        rows = geometry.rows
        basis: BasisKind = self.basis
        if basis == "slice" and rows <= (self.slice_rows or 0):
            basis = "filter"
        shared = self.pattern == "shared"
        kept = self.kept_rows if self.kept is None else max(1, round(self.kept * rows))
        return WeightForm(
            pattern=self.pattern,
            alphabet=self.alphabet,
            basis_kind=basis,
            slice_rows=(self.slice_rows or 0) if basis == "slice" else 0,
            kept_rows=min(kept or rows, rows) if shared else 0,
            group_filters=(self.group_filters or 32) if shared else 0,
        )

    def n_bases(self, geometry: RowGeometry) -> int:
        """Bases of a layer of this geometry."""
        m = geometry.shape[0]
        if self.basis == "codebook":
            return min(self.bases or 16, m)
        return m * self.weight_form(geometry).n_slices(geometry)


class Rule(_Strict):
    """One rule: a selector (exactly one of name, regex, op) and what the layers become.

    Attributes
    ----------
    name
        Exact name or shell pattern (``*``, ``?``, ``[...]``), case-sensitive, of the whole name.
    regex
        Python regular expression of the whole name.
    op
        ``conv2d`` | ``conv1d`` | ``depthwise`` (any depthwise convolution) | ``dense`` | ``*``.
    position
        Of the layers so selected take only the ``first`` or the ``last`` in network order.
    kind
        ``sd``: SD form; ``int8``: int8, one scale a filter; ``skip``: stays fp32, on the CPU.
    form
        Only for ``sd``.
    even_if_larger
        Use SD form where int8 takes no more bytes (default: such a layer becomes int8).
    """

    name: str | None = None
    regex: str | None = None
    op: Literal["conv2d", "conv1d", "depthwise", "dense", "*"] | None = None
    position: Literal["first", "last"] | None = None
    kind: Kind
    form: Form | None = None
    even_if_larger: bool = False

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Rule:
        given = [k for k in ("name", "regex", "op") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of name, regex, op; given: {given or 'none'}")
        if self.kind != "sd" and (self.form is not None or self.even_if_larger):
            raise ValueError(f"form and even_if_larger go with kind 'sd' only, not {self.kind!r}")
        return self

    @property
    def selector(self) -> str:
        """The selector as text, for messages and reports."""
        text = next(f"{k}: {v}" for k in ("name", "regex", "op") if (v := getattr(self, k)))
        return f"{text}, {self.position}" if self.position else text

    def select(self, layers: Sequence[LayerInfo]) -> list[str]:
        """Names of the layers that the rule matches, in network order."""
        if self.op is not None:
            names = [x.name for x in layers if self.op in ("*", x.op)]
        elif self.regex is not None:
            names = [x.name for x in layers if re.fullmatch(self.regex, x.name)]
        else:
            pattern = self.name or ""
            names = [x.name for x in layers if x.name == pattern or fnmatch.fnmatchcase(x.name, pattern)]
        if self.position == "first":
            return names[:1]
        return names[-1:] if self.position == "last" else names


class Activations(_Strict):
    """Quantisation of activations: 8-bit type, and how calibration turns values into a range.

    ``minmax``: the extremes; ``percentile``: what is left after cutting ``100 - percentile`` per cent on
    either side; ``mse``: the clip that makes the squared error smallest.
    """

    dtype: Literal["uint8", "int8"] = "uint8"
    range: Literal["minmax", "percentile", "mse"] = "mse"
    percentile: float = Field(default=99.99, gt=50.0, le=100.0)


class Solver(_Strict):
    """How weights are decomposed.

    ``alternating``: ours; ``official``: the published SmartDeal algorithm, threshold included.
    """

    method: Literal["alternating", "official"] = "alternating"
    iterations: int = Field(default=30, ge=1, le=1000)


class Recipe(_Strict):
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
            if not matched and rule.op is None:
                raise RecipeError(
                    f"rule {i} ({rule.selector}) matches none of {len(names)} layers",
                    expected="a pattern that matches a layer",
                    fix=_suggest(rule.name or rule.regex or "", names) or "correct or drop the rule",
                )
            winner.update(dict.fromkeys(matched, i))
        return {layer.name: self._decide(layer, winner.get(layer.name)) for layer in layers}

    def _decide(self, layer: LayerInfo, index: int | None) -> LayerPlan:
        geometry = layer.geometry
        raw = packed_nbytes(geometry.shape, None)
        if index is None:
            reason = f"no rule matches; otherwise: {self.otherwise}"
            return LayerPlan(self.otherwise, None, 0, None, reason, None, raw)
        rule = self.rules[index]
        why = f"rule {index} ({rule.selector})"
        if rule.kind != "sd":
            return LayerPlan(rule.kind, None, 0, index, why, None, raw)
        spec = rule.form or Form()
        form, n_bases = spec.weight_form(geometry), spec.n_bases(geometry)
        size = packed_nbytes(geometry.shape, form, n_bases)
        if size >= raw and not rule.even_if_larger:
            why += f", but SD form takes {size} bytes and int8 {raw}"
            return LayerPlan("int8", None, 0, index, why, size, raw)
        why += f": {size} bytes, int8 takes {raw}"
        return LayerPlan("sd", form, n_bases, index, why, size, raw)


def _suggest(pattern: str, names: list[str]) -> str:
    close = difflib.get_close_matches(pattern, names, n=5, cutoff=0.4)
    if close:
        return f"did you mean {', '.join(map(repr, close))}"
    return f"choose among {', '.join(map(repr, names[:8]))}{', ...' * (len(names) > 8)}" if names else ""
