"""Cycles and energy of what ran inside a ``with`` block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.records import layer_records
from sd_tvm.accelerator.simulator import Profiler
from sd_tvm.errors import OptionError
from sd_tvm.plan.run import Runner
from sd_tvm.relay_passes.relay.codegen import unwatch, watch

if TYPE_CHECKING:
    from sd_tvm.report import Report


@dataclass
class Profile:
    """What ran.

    Attributes
    ----------
    records
        One entry a call of a program (:class:`sd_tvm.accelerator.simulator.Profiler`).
    totals
        Sums over all calls: ``cycles``, ``energy_total_fj`` (femtojoules) and others.
    runners
        The plans that ran.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    runners: list[Runner] = field(default_factory=list, repr=False)

    @property
    def layers(self) -> list[dict[str, Any]]:
        """One row a layer: ``name``, ``function``, ``layer`` (its record), ``stats`` (cycles, energy)."""
        return layer_records(self.records)

    def report(self, title: str = "Relay module") -> Report:
        """The report that ``sd_tvm.profile`` gives: rows, totals, configuration, sources of the constants.

        Raises
        ------
        OptionError
            If nothing ran, or programs for several configurations.
        """
        from sd_tvm.profiling import make_calls, make_report
        from sd_tvm.relay_passes.report import NodeReport

        plans = [runner for runner in self.runners if runner.plan.config]
        configs = {runner.plan.config for runner in plans}
        if len(configs) != 1:
            raise OptionError(
                f"programs for {len(configs)} configurations ran",
                expected="one",
                fix="run one module in the block",
            )
        config = AcceleratorConfig.from_text(configs.pop())
        nodes = [NodeReport(**dict(row)) for r in plans for row in r.plan.nodes]  # type: ignore[arg-type]
        calls = make_calls(self.records, plans[0].library, nodes) if len(plans) == 1 else ()
        return make_report(title, self.records, config, nodes, totals=self.totals, calls=calls)


@contextmanager
def profile(config: Any = None, *, mode: Literal["functional", "timed"] = "timed") -> Iterator[Profile]:
    """Collect cycles and energy of everything that runs on the simulator inside the block.

    Parameters
    ----------
    config
        Configuration to simulate; None: the one that each module was compiled for.
    mode
        ``timed``, or ``functional``: counts without time.

    Raises
    ------
    ConfigError
        If another such block is open.
    """
    with Profiler(config, mode=mode) as profiler:
        out = Profile(runners=watch())
        try:
            yield out
        finally:
            unwatch(out.runners)
    out.records, out.totals = profiler.records, profiler.totals
