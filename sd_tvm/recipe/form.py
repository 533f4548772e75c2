"""The SD form that a rule asks for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sd_tvm.weights.alphabet import ALPHABETS
from sd_tvm.weights.rows import ROWS_PER_BLOCK, RowGeometry
from sd_tvm.weights.tensor import BasisKind, Pattern, WeightForm

MAX_CODEBOOK = 256
MAX_GROUP_FILTERS = 240


class Strict(BaseModel):
    """No unknown keys, no changes, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class Form(Strict):
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
