"""Rules: which layers, and what becomes of them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sd_tvm.recipe.form import Form, Strict
from sd_tvm.recipe.layer import Kind, LayerInfo

SELECTORS = ("name", "regex", "op")
WAYS = ("target", *SELECTORS)
#: Beginnings of a ``target``, and the selector that the rest of it is.
PREFIXES = {"re:": "regex", "type:": "op"}


class Rule(Strict):
    """One rule: a selector (exactly one of target, name, regex, op), bounds, and what the layers become.

    Attributes
    ----------
    name
        Exact name or shell pattern (``*``, ``?``, ``[...]``), case-sensitive, of the whole name.
    regex
        Python regular expression of the whole name.
    op
        ``conv2d`` | ``conv1d`` | ``depthwise`` (any depthwise convolution) | ``dense`` | ``*``.
    min_weights, max_weights
        Of the layers so selected take those with at least / at most so many weights.
    position
        Of what is left take only the ``first`` or the ``last`` in network order.
    kind
        ``sd``: SD form; ``int8``: int8, one scale a filter; ``skip``: stays fp32, on the CPU.
    form
        Only for ``sd``.
    even_if_larger
        Use SD form where int8 takes no more bytes in use or in the file (by default: int8).

    Notes
    -----
    ``target`` is read and not kept, a short way to write the selector: ``re:PATTERN`` is a ``regex``,
    ``type:OP`` an ``op``, anything else a ``name``.
    """

    name: str | None = None
    regex: str | None = None
    op: Literal["conv2d", "conv1d", "depthwise", "dense", "*"] | None = None
    min_weights: int | None = Field(default=None, ge=1)
    max_weights: int | None = Field(default=None, ge=1)
    position: Literal["first", "last"] | None = None
    kind: Kind
    form: Form | None = None
    even_if_larger: bool = False

    @model_validator(mode="before")
    @classmethod
    def _target(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "target" not in data:
            return data
        rest = {k: v for k, v in data.items() if k != "target"}
        target, given = data["target"], [k for k in SELECTORS if rest.get(k) is not None]
        if given:
            raise ValueError(f"give exactly one of {', '.join(WAYS)}; given: {['target', *given]}")
        if not isinstance(target, str):
            raise ValueError(f"target is a text, not {type(target).__name__}")
        for prefix, key in PREFIXES.items():
            if target.startswith(prefix):
                return {**rest, key: target.removeprefix(prefix)}
        return {**rest, "name": target}

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
        given = [k for k in SELECTORS if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(WAYS)}; given: {given or 'none'}")
        if self.max_weights is not None and self.max_weights < (self.min_weights or 0):
            raise ValueError(f"min_weights {self.min_weights} is above max_weights {self.max_weights}")
        if self.kind != "sd" and (self.form is not None or self.even_if_larger):
            raise ValueError(f"form and even_if_larger go with kind 'sd' only, not {self.kind!r}")
        return self

    @property
    def selector(self) -> str:
        """The selector as text, for messages and reports."""
        bounds = [(k, getattr(self, k)) for k in (*SELECTORS, "min_weights", "max_weights")]
        texts = [f"{k}: {v}" for k, v in bounds if v is not None]
        return ", ".join([*texts, self.position] if self.position else texts)

    def named(self, layers: Sequence[LayerInfo]) -> list[LayerInfo]:
        """Layers that the selector alone matches, whatever their size and position, in network order."""
        if self.op is not None:
            return [x for x in layers if self.op in ("*", x.op)]
        if self.regex is not None:
            return [x for x in layers if re.fullmatch(self.regex, x.name)]
        pattern = self.name or ""
        return [x for x in layers if x.name == pattern or fnmatch.fnmatchcase(x.name, pattern)]

    def select(self, layers: Sequence[LayerInfo]) -> list[str]:
        """Names of the layers that the rule matches, in network order."""
        low, high = self.min_weights or 0, self.max_weights
        names = [
            x.name for x in self.named(layers) if low <= x.n_weights and (high is None or x.n_weights <= high)
        ]
        if self.position == "first":
            return names[:1]
        return names[-1:] if self.position == "last" else names
