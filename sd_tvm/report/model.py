"""The report's data model: plain records, integers wherever something is added up.

A report has headline metrics and one row a layer call. Rows add up to the totals exactly: energies are
integer femtojoules, times are integer cycles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sd_tvm.accelerator.config.events import NOMINAL, energy_of
from sd_tvm.errors import FormatError
from sd_tvm.report.groups import group_names, grouped
from sd_tvm.report.listing import Section
from sd_tvm.report.occupancy import Occupancy

#: Raised when a field changes its meaning or goes away; new optional fields do not raise it.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Metric:
    """One number of the report: name, value, unit (``""``: none), and its extremes where it has a band."""

    name: str
    value: int | float | str
    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class EnergyConstant:
    """One constant of the energy model, with its origin.

    Attributes
    ----------
    name, value, unit
        What it is.
    low, high
        Ends of its uncertainty.
    node
        Process node, as the source states it.
    grade
        How far to trust it: ``published``, ``table``, ``quoted``, ``unverified`` or ``estimate``.
    source
        Where the number comes from.
    """

    name: str
    value: float
    unit: str
    node: str
    grade: str
    source: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Rejection:
    """A node that does not run on the accelerator, and why."""

    node: str
    op: str
    target: str
    reason: str


@dataclass(frozen=True)
class LayerRow:
    """One layer call.

    Attributes
    ----------
    name, kind
        Layer name; ``conv``, ``depthwise``, ``pointwise``, ``dense``, ``add``, ``max pool``, ``avg pool``
        or ``requant``.
    shape
        Readable shape, for example ``32x112x112 -> 16x112x112, 3x3/2``.
    form
        Form of the weight, for example ``two-term 16:16 filter`` or ``int8``; empty without a weight.
    weights
        Number of weights.
    weight_bytes
        Packed bytes of the weight: codes, indices, bases, scales.
    macs, macs_dense
        Multiply-accumulates that were executed, and those of the dense layer.
    instructions
        Instructions of the program.
    dram_read, dram_write
        Bytes.
    cycles, peak_macs
        Cycles, and what the array could have done in them; None in a functional run, which has no time.
    energy_fj
        Energy by component in femtojoules; None in a functional run.
    busy, stall
        Cycles by queue, and by queue and cause; None in a functional run.
    waits
        Cycles that a queue waits for a signal of another one (``LD.GE``); None if unknown.
    array
        Cycles of the array by what binds them: ``mac``, ``port``, ``rebuild``, ``drain``, ``fill``; None if
        unknown.
    events
        Counts of what costs energy, None in a functional run.
    bound
        What the layer's time is made of: a key of :data:`sd_tvm.report.bounds.BOUNDS`; empty if unknown.
    function, nodes, sources
        Way back: TensorIR function, Relax bindings, names of the model's own nodes (empty if unknown).
    """

    name: str
    kind: str
    shape: str
    form: str = ""
    weights: int = 0
    weight_bytes: int = 0
    macs: int = 0
    macs_dense: int = 0
    instructions: int = 0
    dram_read: int = 0
    dram_write: int = 0
    cycles: int | None = None
    peak_macs: int | None = None
    energy_fj: dict[str, int] | None = None
    busy: dict[str, int] | None = None
    stall: dict[str, int] | None = None
    waits: dict[str, int] | None = None
    array: dict[str, int] | None = None
    events: dict[str, int] | None = None
    bound: str = ""
    function: str = ""
    nodes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def dram_bytes(self) -> int:
        """Bytes of DRAM traffic; with the instructions' own where they are counted."""
        return self.dram_read + self.dram_write + (self.events or {}).get("dram_read_instruction_bytes", 0)

    @property
    def bits_per_weight(self) -> float | None:
        """Packed bits of a weight, None for layers without one."""
        return 8 * self.weight_bytes / self.weights if self.weights else None

    @property
    def utilisation(self) -> float | None:
        """Executed multiply-accumulates over what the array could do in the layer's own time, 0..1."""
        if not self.peak_macs or not self.cycles or self.own_cycles is None:
            return None
        return self.macs * self.cycles / (self.peak_macs * self.own_cycles)

    @property
    def own_cycles(self) -> int | None:
        """Cycles that the layer takes: its share of the run's, and at least those of its busiest queue.

        Layers of one program overlap; a share is how far a layer moves the end of the program, which can be
        next to nothing.
        """
        return None if self.cycles is None else max(self.cycles, *(self.busy or {"": 0}).values())

    @property
    def energy_total_fj(self) -> int | None:
        """Energy in femtojoules, None in a functional run."""
        return None if self.energy_fj is None else sum(self.energy_fj.values())


@dataclass(frozen=True)
class ClassRow:
    """Instructions of one name over the whole run.

    Attributes
    ----------
    name, count
        Name and number.
    cycles
        Sum of their durations, None in a functional run. They overlap, so they do not add up to the time.
    energy_fj
        Energy of the events that they cause, None if it is not known.
    """

    name: str
    count: int
    cycles: int | None = None
    energy_fj: int | None = None


@dataclass(frozen=True)
class Report:
    """Everything that a run has to say.

    Attributes
    ----------
    title
        Heading.
    metrics
        Headline numbers, in order.
    layers
        One row a layer call, in order of execution.
    rejected
        Nodes that run on the CPU, with the reason.
    config
        The accelerator's configuration, flat.
    constants
        The energy model's constants with their sources.
    versions
        Versions of what made the report.
    notes
        Sentences a reader must know.
    totals
        What the run itself says it took, when it says so; compared with the rows by :meth:`check`.
    classes
        Instructions by name.
    queues
        Cycles of each queue by cause (:func:`sd_tvm.report.build.queue_rows`).
    prices
        Corner of the energy table -> event -> fJ; ``nominal`` is what the energies are.
    occupancy
        Live bytes of each memory over time.
    sections
        The first instructions of each layer.
    """

    title: str
    metrics: tuple[Metric, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    config: dict[str, int | float | str] = field(default_factory=dict)
    constants: tuple[EnergyConstant, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    totals: dict[str, int] = field(default_factory=dict)
    classes: tuple[ClassRow, ...] = ()
    queues: dict[str, dict[str, int]] = field(default_factory=dict)
    prices: dict[str, dict[str, int]] = field(default_factory=dict)
    occupancy: tuple[Occupancy, ...] = ()
    sections: tuple[Section, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def timed(self) -> bool:
        """Whether the rows carry cycles and energy."""
        return bool(self.layers) and all(row.cycles is not None for row in self.layers)

    @property
    def components(self) -> tuple[str, ...]:
        """Energy components, in order of first appearance."""
        seen: dict[str, None] = {}
        for row in self.layers:
            seen.update(dict.fromkeys(row.energy_fj or {}))
        return tuple(seen)

    def group_sums(self) -> dict[str, int]:
        """Femtojoules by group of components (:mod:`sd_tvm.report.groups`), groups that are zero left out."""
        sums = dict.fromkeys(group_names(self.components), 0)
        for row in self.layers:
            for name, value in grouped(row.energy_fj).items():
                sums[name] += value
        return {name: value for name, value in sums.items() if value}

    def sums(self) -> dict[str, int]:
        """Sums over the rows: integers by name, energies by component as ``energy_fj.<name>``."""
        names = ("weights", "weight_bytes", "macs", "macs_dense", "instructions", "dram_read", "dram_write")
        out = {name: sum(getattr(row, name) for row in self.layers) for name in names}
        if self.timed:
            out["cycles"] = _total(row.cycles for row in self.layers)
            out["peak_macs"] = _total(row.peak_macs for row in self.layers)
            for name in self.components:
                out[f"energy_fj.{name}"] = _total((row.energy_fj or {}).get(name) for row in self.layers)
            out["energy_total_fj"] = sum(v for k, v in out.items() if k.startswith("energy_fj."))
        return out

    def metric(self, name: str) -> Metric:
        """A headline metric.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)

    def check(self) -> None:
        """Compare the rows' sums with the run's own totals.

        Raises
        ------
        FormatError
            If they differ, or counted events at their prices do not give the energies: the report would be
            wrong.
        """
        for row in self.layers:
            if NOMINAL not in self.prices or row.events is None or row.energy_fj is None:
                continue
            priced = energy_of(row.events, self.prices[NOMINAL])
            if priced != row.energy_total_fj:
                raise FormatError(
                    f"{row.name}: its events cost {priced} fJ and its energy is {row.energy_total_fj} fJ",
                    expected="equal numbers",
                    fix="report this: the simulator's bookkeeping is wrong",
                )
        sums = self.sums()
        for name, value in self.totals.items():
            if sums.get(name) != value:
                raise FormatError(
                    f"the layers' {name} add up to {sums.get(name)} and the run's total is {value}",
                    expected="equal numbers",
                    fix="report this: the simulator's bookkeeping is wrong",
                )


def _total(values: Iterable[int | None]) -> int:
    return sum(v or 0 for v in values)
