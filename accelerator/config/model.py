"""Accelerator configurations: checked models of the YAML files, and the text that the simulator reads.

A configuration changes time, energy and how much fits on chip. It never changes the encoding of
instructions, the layout of data or a result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sd_tvm.accelerator import DEFAULT_CONFIG
from sd_tvm.accelerator.config._validate import Strict, read_model, validate
from sd_tvm.accelerator.config.energy import Corner, EnergyTable
from sd_tvm.accelerator.isa.spec import BY_NAME, MEMORIES, Mem
from sd_tvm.errors import ConfigError

CONFIGS = Path(__file__).parent
_DESCRIPTION = "# configuration "
SYNC_DOMAINS = ("lane", "line", "array")

Kb = Annotated[int, Field(ge=1, le=1 << 14)]
Banks = Annotated[int, Field(ge=1, le=4096)]

#: Instruction field whose width limits how many words of a memory can be addressed.
_ADDRESS_FIELD: dict[Mem, tuple[str, str]] = {
    Mem.INP: ("GEMM", "inp"),
    Mem.CODE: ("GEMM", "code"),
    Mem.BASIS: ("GEMM", "basis"),
    Mem.IDX: ("GEMM", "idx"),
    Mem.QP: ("GEMM", "qp"),
    Mem.LUT: ("ALU", "b"),
    Mem.ACC: ("GEMM", "acc"),
    Mem.OUT: ("ALU", "dst"),
}
_MEMORY = {m.mem: m for m in MEMORIES}


def addressable_words(mem: Mem) -> int:
    """Words of a memory that the instruction set can address."""
    name, field = _ADDRESS_FIELD[mem]
    return 1 << next(f.bits for f in BY_NAME[name].fields if f.name == field)


class Array(Strict):
    """The multiplier array: slices (filters) x lines (channel rows) x lanes (pixels)."""

    m_slices: int = Field(ge=1, le=1024)
    c_lines: int = Field(ge=1, le=256)
    f_lanes: int = Field(ge=1, le=64)
    mac: Literal["parallel", "serial"]
    lanes_per_line: int = Field(ge=1, le=64, description="multipliers of a line; f_lanes if serial")
    sync: Literal["lane", "line", "array"] = Field(description="serial: who waits for the slowest digit")
    fold: tuple[Literal[1, 2, 4, 8], ...] = Field(
        min_length=1, description="ways to split the lines over pixels"
    )
    lines_per_re: int = Field(
        ge=0, le=256, description="lines that share a rebuild engine; 0: none, raw weights only"
    )
    rebuilt_bits: Literal[10] | None = Field(
        default=None,
        description="parallel: bits of a rebuilt weight, layers with wider ones are refused; none: "
        "any weight runs, priced as 13",
    )
    port_bytes_per_cycle: int = Field(ge=1, le=1 << 16)
    drain_values_per_cycle: int = Field(ge=1, le=64, description="partial sums a slice hands to ACC")
    skip_zero_vectors: bool = Field(description="serial: a vector of zeros takes no cycle")
    fill_cycles: int = Field(ge=0, le=1024)

    @model_validator(mode="after")
    def _consistent(self) -> Array:
        if self.mac == "serial" and self.lanes_per_line != self.f_lanes:
            raise ValueError("a serial line has one lane a pixel: lanes_per_line must equal f_lanes")
        if self.rebuilt_bits is not None and (self.mac == "serial" or not self.lines_per_re):
            raise ValueError("rebuilt_bits goes with a parallel array that has rebuild engines")
        if self.lanes_per_line > self.f_lanes:
            raise ValueError("lanes_per_line must be at most f_lanes")
        if self.skip_zero_vectors and self.mac == "parallel":
            raise ValueError("skip_zero_vectors is modelled for mac: serial only")
        if 1 not in self.fold or len(set(self.fold)) != len(self.fold):
            raise ValueError("fold must contain 1 and no value twice")
        if any(self.c_lines % f for f in self.fold):
            raise ValueError("each fold must divide c_lines")
        if self.lines_per_re and self.c_lines % self.lines_per_re:
            raise ValueError("lines_per_re must be 0 or divide c_lines")
        return self


class Alu(Strict):
    """The vector unit."""

    lanes: int = Field(ge=16, le=1024, multiple_of=16, description="values a cycle")
    acc_ports: int = Field(ge=1, le=4, description="ACC operands read at the same time")
    fill_cycles: int = Field(ge=0, le=1024)


class Sram(Strict):
    """Capacity of each on-chip memory, in units of 1024 bytes."""

    inp_kb: Kb
    code_kb: Kb
    basis_kb: Kb
    idx_kb: Kb
    qp_kb: Kb
    lut_kb: Kb
    acc_kb: Kb
    out_kb: Kb

    @model_validator(mode="after")
    def _addressable(self) -> Sram:
        for m in MEMORIES:
            kb = getattr(self, m.config_key)
            limit = addressable_words(m.mem) * m.word_bytes // 1024
            if kb > limit:
                raise ValueError(f"{m.config_key} = {kb}: instructions address at most {limit}")
        return self


class SramBanks(Strict):
    """Number of banks of each SRAM; a bank's size sets its energy per byte."""

    inp: Banks
    code: Banks
    basis: Banks
    idx: Banks
    qp: Banks
    lut: Banks
    out: Banks


class Dram(Strict):
    """The memory interface: one read and one write channel."""

    bytes_per_cycle: int = Field(ge=1, le=4096)
    latency_cycles: int = Field(ge=0, le=1 << 16)
    write_latency_cycles: int = Field(ge=0, le=1 << 16)
    burst_bytes: int = Field(ge=16, le=4096)
    gap_cycles: int = Field(ge=0, le=1024, description="between bursts and between rows")
    outstanding: int = Field(
        ge=1, le=64, description="transfers in flight a channel; 1: latency is never hidden"
    )
    efficiency_percent: int = Field(
        ge=1, le=100, description="share of data cycles that pages and refresh leave"
    )

    @model_validator(mode="after")
    def _power_of_two(self) -> Dram:
        if self.burst_bytes & (self.burst_bytes - 1):
            raise ValueError("burst_bytes must be a power of two")
        return self


class Control(Strict):
    """Instruction supply."""

    decode_cycles: int = Field(ge=0, le=1024)
    queue_depth: int = Field(ge=0, le=4096, description="instructions that wait in a queue; 0: any number")
    fetch: bool = Field(description="whether instructions are fetched from DRAM or are there at once")


class Energy(Strict):
    """Which constants to use."""

    table: str


class AcceleratorConfig(Strict):
    """One accelerator configuration (a YAML file of ``accelerator/config``)."""

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str
    clock_mhz: int = Field(ge=1, le=10000)
    array: Array
    alu: Alu
    sram: Sram
    banks: SramBanks
    dram: Dram
    control: Control
    energy: Energy

    @classmethod
    def names(cls) -> list[str]:
        """Names of the shipped configurations, sorted."""
        return sorted(p.stem for p in CONFIGS.glob("*.yaml"))

    @classmethod
    def load(cls, name_or_path: str | Path = DEFAULT_CONFIG) -> AcceleratorConfig:
        """Read a configuration by the name of a shipped one, or from a file.

        Parameters
        ----------
        name_or_path
            One of :meth:`names`, or a path that ends in ``.yaml`` or ``.yml``.

        Raises
        ------
        ConfigError
            If there is none, or a key is missing, unknown or out of range, or the energy table it
            names is not valid (an entry without a source, say).
        """
        path = Path(name_or_path)
        if path.suffix not in (".yaml", ".yml"):
            path = CONFIGS / f"{name_or_path}.yaml"
            if str(name_or_path) not in cls.names():
                raise ConfigError(
                    f"unknown accelerator configuration {str(name_or_path)!r}",
                    expected=f"one of {cls.names()} or a .yaml file",
                    fix="correct the name, or write a file like accelerator/config/edge.yaml",
                )
        config = read_model(cls, path)
        config.energy_fj()
        return config

    @property
    def peak_macs_per_cycle(self) -> int:
        """Multiply-accumulates a cycle when every lane works (serial: one digit a value)."""
        a = self.array
        return a.m_slices * a.c_lines * a.lanes_per_line

    @property
    def rebuilds(self) -> bool:
        """Whether weights in SD form can run; if not, only raw int8 weights can."""
        return self.array.lines_per_re > 0

    def buffer_words(self, mem: Mem) -> int:
        """Words of an on-chip memory."""
        m = _MEMORY[mem]
        return int(getattr(self.sram, m.config_key)) * 1024 // m.word_bytes

    def energy_table(self) -> EnergyTable:
        """Constants that ``energy.table`` names."""
        return EnergyTable.load(self.energy.table)

    def energy_fj(self, corners: Mapping[str, Corner] | None = None) -> dict[str, int]:
        """Integer fJ of each event; see :meth:`EnergyTable.prices`.

        Raises
        ------
        ConfigError
            If the table does not exist or is not valid.
        """
        banks = {
            name: max(1, int(getattr(self.sram, f"{name}_kb")) * 1024 // count)
            for name, count in self.banks.model_dump().items()
        }
        return self.energy_table().prices(banks, corners, rebuilt_bits=self.array.rebuilt_bits)

    def to_described_text(self) -> str:
        """:meth:`to_text` behind a comment that holds the whole configuration, for :meth:`from_text`."""
        return f"{_DESCRIPTION}{self.model_dump_json()}\n{self.to_text()}"

    @classmethod
    def from_text(cls, text: str) -> AcceleratorConfig:
        """Inverse of :meth:`to_described_text`.

        Raises
        ------
        ConfigError
            If the text does not hold a configuration, or its numbers are not those that this version and
            the energy table that it names give.
        """
        first, _, rest = text.partition("\n")
        if not first.startswith(_DESCRIPTION):
            raise ConfigError(
                "a configuration text that does not describe its configuration",
                expected="text of AcceleratorConfig.to_described_text()",
                fix="pass the configuration (config=, --config)",
            )
        try:
            data = json.loads(first.removeprefix(_DESCRIPTION))
        except ValueError as error:
            raise ConfigError(
                f"the description of a configuration is no JSON ({error})",
                fix="pass the configuration (config=, --config), or compile the model again",
            ) from error
        config = validate(cls, data, source="the configuration of a compiled model")
        if config.to_text() != rest:
            raise ConfigError(
                f"configuration {config.name!r} gives other numbers here than where the model was compiled",
                expected=f"the same energy table {config.energy.table!r} and the same version of sd-tvm",
                fix="pass the configuration (config=, --config), or compile the model again",
            )
        return config

    def to_text(self, corners: Mapping[str, Corner] | None = None) -> str:
        """Lines ``key=integer``, sorted, for the simulator.

        Parameters
        ----------
        corners
            Ends of the energy constants, see :meth:`EnergyTable.prices`.
        """
        a = self.array
        values: dict[str, int] = {
            "config_version": self.schema_version,
            "clock_mhz": self.clock_mhz,
            "m_slices": a.m_slices,
            "c_lines": a.c_lines,
            "f_lanes": a.f_lanes,
            "mac_serial": int(a.mac == "serial"),
            "lanes_per_line": a.lanes_per_line,
            "sync_domain": SYNC_DOMAINS.index(a.sync),
            "fold_mask": sum(a.fold),
            "lines_per_re": a.lines_per_re,
            "port_bytes_per_cycle": a.port_bytes_per_cycle,
            "drain_values_per_cycle": a.drain_values_per_cycle,
            "skip_zero_vectors": int(a.skip_zero_vectors),
            "gemm_fill_cycles": a.fill_cycles,
            **{f"alu_{k}": v for k, v in self.alu.model_dump().items()},
            **self.sram.model_dump(),
            **{f"dram_{k}": v for k, v in self.dram.model_dump().items()},
            "decode_cycles": self.control.decode_cycles,
            "queue_depth": self.control.queue_depth,
            "fetch": int(self.control.fetch),
            **{f"energy_{k}_fj": v for k, v in self.energy_fj(corners).items()},
        }
        return "".join(f"{key}={values[key]}\n" for key in sorted(values))
