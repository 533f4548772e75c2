"""The sensitivity report: one row for each layer and option, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: Raised when a field of the JSON form changes its meaning or goes away.
SENSITIVITY_SCHEMA_VERSION = 2


@dataclass(frozen=True)
class OptionRow:
    """One layer in one option.

    Attributes
    ----------
    option
        Name of the option.
    kind, pattern, alphabet, basis
        ``sd`` or ``int8``, and the form of ``sd`` (empty for int8); ``basis`` reads like ``codebook x 64``.
    error
        Squared error of the layer's output over the variance of the output, on calibration examples that the
        fit has not seen (on those it has seen if there is only one example).
    fit_error
        The same on the examples of the fit.
    effect, effect_spread
        What the layer alone in this option does to the network's outputs: squared change over the variance of
        the outputs, mean over some examples that the fit has not seen, and standard error of this mean. None
        for options that cannot be a choice: another one of the layer costs no more and errs no more.
    nbytes
        Bytes in a file: codes, row indices, bases, ids, scales, with their padding.
    bits_per_weight
        ``8 * nbytes`` over the weights of the dense layer.
    sparsity
        Fraction of the rebuilt weights that are zero.
    shift_add_macs
        Multiplications of one example whose factor is a coefficient (at most two powers of two, hence shifts
        and an add): output positions times non-zero coefficients. 0 for int8.
    cycles, energy_fj
        Of the layer on an accelerator, one example; None without a configuration, and where the layer does
        not run there.
    next_option, next_bytes, next_effect
        One step further: the next smaller option worth taking, the bytes it saves and the effect it adds;
        empty, 0 and 0 when there is none.
    warnings
        What the user should know of this option of this layer.
    """

    option: str
    kind: str
    pattern: str
    alphabet: str
    basis: str
    error: float
    fit_error: float
    nbytes: int
    bits_per_weight: float
    sparsity: float
    shift_add_macs: int
    effect: float | None = None
    effect_spread: float = 0.0
    cycles: int | None = None
    energy_fj: int | None = None
    next_option: str = ""
    next_bytes: int = 0
    next_effect: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def gap(self) -> float | None:
        """Error on new examples over the error on the fitted ones; None where the latter is zero."""
        return self.error / self.fit_error if self.fit_error > 0 else None

    @property
    def risk(self) -> float:
        """Effect and its standard error: what budgets minimise, so that a badly measured option pays."""
        return (self.effect or 0.0) + self.effect_spread

    @property
    def costs(self) -> tuple[int, ...]:
        """Bytes, and cycles and energy where they are known."""
        return (self.nbytes, *(c for c in (self.cycles, self.energy_fj) if c is not None))


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer.

    Attributes
    ----------
    name, op, shape
        As recipes see the layer.
    macs
        Multiply-accumulates of one example, dense.
    int8_bytes
        Packed bytes in int8.
    inputs
        Inputs of one output (K).
    samples
        Output positions of the examples that were fitted.
    options
        In the order of the options.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int
    int8_bytes: int
    inputs: int
    samples: int
    options: tuple[OptionRow, ...]

    def usable(self) -> list[int]:
        """Indices of the options that a recipe would really take: no SD form that int8 undercuts.

        All of them if none is left.
        """
        found = [i for i, o in enumerate(self.options) if o.kind == "int8" or o.nbytes < self.int8_bytes]
        return found or list(range(len(self.options)))

    def undominated(self) -> list[int]:
        """Indices of the usable options that no other one beats in all costs and in error."""
        usable = self.usable()
        keys = {i: (*self.options[i].costs, self.options[i].error) for i in usable}

        def beaten(i: int) -> bool:
            mine = keys[i]
            return any(
                len(keys[j]) == len(mine)
                and all(a <= b for a, b in zip(keys[j], mine, strict=True))
                and (keys[j] != mine or j < i)
                for j in usable
                if j != i
            )

        return [i for i in usable if not beaten(i)]

    def candidates(self) -> list[int]:
        """Indices of the options whose effect was measured: those among which a budget chooses."""
        return [i for i, o in enumerate(self.options) if o.effect is not None]


@dataclass(frozen=True)
class SensitivityReport:
    """Every layer in every option.

    Attributes
    ----------
    title
        Heading.
    examples, held_out, watched
        Calibration examples, how many of them no fit has seen, and on how many effects were measured.
    target
        Accelerator configuration that cycles and energy are of; empty: none.
    layers
        In network order.
    notes
        Sentences a reader must know.
    versions
        What made the report.
    """

    title: str
    examples: int
    held_out: int
    watched: int
    target: str
    layers: tuple[LayerSensitivity, ...]
    notes: tuple[str, ...]
    versions: dict[str, str]
    schema_version: int = SENSITIVITY_SCHEMA_VERSION

    def warnings(self) -> Iterator[tuple[str, str, str]]:
        """(layer, option, sentence) of everything that was warned of."""
        for layer in self.layers:
            for row in layer.options:
                for text in row.warnings:
                    yield layer.name, row.option, text

    def to_json(self) -> str:
        """JSON text: ``schema_version`` first, keys in a fixed order."""
        from sd_tvm.tradeoff.files import report_to_json

        return report_to_json(self)


def frontier(points: Sequence[tuple[int, float]]) -> list[int]:
    """Indices on the lower convex hull of (bytes, error), by rising bytes and falling error.

    These are the options that some price of a byte makes best.
    """
    hull: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (*points[i], i)):
        if hull and points[i][1] >= points[hull[-1]][1]:
            continue
        while len(hull) > 1 and _slope(points, hull[-2], hull[-1]) >= _slope(points, hull[-1], i):
            hull.pop()
        hull.append(i)
    return hull


def _slope(points: Sequence[tuple[int, float]], a: int, b: int) -> float:
    return (points[b][1] - points[a][1]) / (points[b][0] - points[a][0])
