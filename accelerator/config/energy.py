"""Energy tables: constants with their sources, and their conversion to integer fJ per event.

Conversion (``EnergyTable.prices``). An entry is worth ``value`` (or its low or high end) in pJ per
``bit``, ``byte``, ``access`` or ``op`` at its own ``node_nm``; logic and SRAM scale to the table's
node by :data:`NODE_SCALE` (dynamic energy at 0.9 V), DRAM never scales. SRAM energy per byte follows
the bank size: e = e0 * (bank / reference_bank)^exponent. The result is rounded to whole fJ once,
here; everything after that is integer arithmetic, so that sums are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from sd_tvm.accelerator.config._validate import Strict, read_model
from sd_tvm.errors import ConfigError

TABLES = Path(__file__).parent / "tables"

Corner = Literal["low", "value", "high"]
Unit = Literal["pJ/bit", "pJ/byte", "pJ/access", "pJ/op", "1"]

#: Dynamic energy relative to 28 nm, Stillmaker and Baas polynomials at 0.9 V (as evaluated by
#: Accelergy's scaling.py): E(28) = NODE_SCALE[node] * E(node).
NODE_SCALE: dict[int, float] = {65: 0.40, 45: 0.51, 40: 0.59, 32: 0.79, 28: 1.0}

#: Entries a table must have, with the width in bits each one is quoted for.
REQUIRED: dict[str, tuple[Unit, str]] = {
    "dram": ("pJ/bit", "DRAM interface and device, one bit read or written"),
    "sram": ("pJ/byte", "one byte of an SRAM bank of reference_bank_bytes"),
    "sram_size_exponent": ("1", "growth of SRAM energy a byte with the bank's size"),
    "acc_access": ("pJ/access", "one 32-bit partial sum read from or written to ACC"),
    "mac_8x8": ("pJ/op", "8 x 8 bit multiply and add"),
    "mac_8x13": ("pJ/op", "8 x 13 bit multiply and add (exact rebuilt weight)"),
    "psum_register": ("pJ/op", "partial sum register, one multiply-accumulate"),
    "register": ("pJ/bit", "flip-flop register, one bit written"),
    "booth_digit": ("pJ/op", "one non-zero Booth digit in a serial lane"),
    "shift_add": ("pJ/op", "one power of two times one basis element in a rebuild engine"),
    "picker": ("pJ/byte", "one byte through a 16:1 row picker"),
    "add32": ("pJ/op", "32-bit add, compare"),
    "mult32": ("pJ/op", "32-bit multiply"),
    "shift32": ("pJ/op", "32-bit shift"),
    "requantise": ("pJ/op", "fixed-point multiply, shift, offset and clip of one value"),
}

#: Entries that belong to DRAM (never scaled), SRAM and logic, for corner studies.
GROUPS: dict[str, tuple[str, ...]] = {
    "dram": ("dram",),
    "sram": ("sram", "sram_size_exponent", "acc_access"),
    "logic": tuple(n for n in REQUIRED if n not in ("dram", "sram", "sram_size_exponent", "acc_access")),
}


#: Width that ``mac_8x13`` is quoted for.
REBUILT_BITS = 13
#: What the adder is of ``shift_add``, by that entry's source: 2 x .019 of .055 pJ.
REBUILD_ADDER = 0.038 / 0.055


class Entry(Strict):
    """One energy constant.

    ``grade`` says how far to trust it: ``published`` (read in the publication), ``table`` (read in a public
    table or tool), ``quoted`` (a well-known number, quoted second hand), ``unverified``, ``estimate``.
    """

    value: float = Field(ge=0, le=1e6)
    low: float = Field(ge=0, le=1e6)
    high: float = Field(ge=0, le=1e6)
    unit: Unit
    bits: int = Field(ge=0, le=4096)
    node_nm: int | None = Field(description="process node; null where scaling makes no sense")
    grade: Literal["published", "table", "quoted", "unverified", "estimate"]
    source: str

    @field_validator("source")
    @classmethod
    def _has_source(cls, source: str) -> str:
        if len(source.strip()) < 8:
            raise ValueError("every energy constant needs a source (who says so, where)")
        return source

    @field_validator("node_nm")
    @classmethod
    def _known_node(cls, node: int | None) -> int | None:
        if node is not None and node not in NODE_SCALE:
            raise ValueError(f"no scaling factor for {node} nm; known: {sorted(NODE_SCALE)}")
        return node

    @model_validator(mode="after")
    def _ordered(self) -> Entry:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"low <= value <= high does not hold: {self.low}, {self.value}, {self.high}")
        return self


class EnergyTable(Strict):
    """A named set of constants at one node."""

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str
    node_nm: int
    reference_bank_bytes: int = Field(ge=64, le=1 << 20)
    entries: dict[str, Entry]

    @model_validator(mode="after")
    def _complete(self) -> EnergyTable:
        if self.node_nm not in NODE_SCALE:
            raise ValueError(f"node_nm must be one of {sorted(NODE_SCALE)}")
        missing, unknown = sorted(REQUIRED.keys() - self.entries), sorted(self.entries.keys() - REQUIRED)
        if missing or unknown:
            raise ValueError(f"entries: missing {missing}, unknown {unknown}")
        wrong = [
            f"{n} is in {self.entries[n].unit}, not {u}"
            for n, (u, _) in REQUIRED.items()
            if self.entries[n].unit != u
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @classmethod
    def load(cls, name_or_path: str | Path) -> EnergyTable:
        """Read a table by the name of a shipped one, or from a file.

        Raises
        ------
        ConfigError
            If there is none, or it is not valid.
        """
        path = Path(name_or_path)
        if path.suffix in (".yaml", ".yml"):
            return read_model(cls, path)
        names = sorted(p.stem for p in TABLES.glob("*.yaml"))
        if str(name_or_path) not in names:
            raise ConfigError(
                f"unknown energy table {str(name_or_path)!r}",
                expected=f"one of {names} or a .yaml file",
                fix="correct energy.table",
            )
        return _shipped(str(name_or_path))

    def picojoule(self, entry: str, corner: Corner = "value") -> float:
        """An entry in its own unit, scaled to the table's node."""
        e = self.entries[entry]
        x = float(getattr(e, corner))
        if e.unit == "1" or e.node_nm is None:
            return x
        return x * NODE_SCALE[e.node_nm] / NODE_SCALE[self.node_nm]

    def prices(
        self,
        bank_bytes: Mapping[str, int],
        corners: Mapping[str, Corner] | None = None,
        *,
        rebuilt_bits: int | None = None,
    ) -> dict[str, int]:
        """Integer fJ of every event the simulator counts.

        Parameters
        ----------
        bank_bytes
            Bytes of one bank of each SRAM (``inp``, ``code``, ``basis``, ``idx``, ``qp``, ``lut``, ``out``).
        corners
            For each group of :data:`GROUPS`, which end of the entries to take; default ``value``.
        rebuilt_bits
            Width of rebuilt weights; default: multipliers as wide as the entry ``mac_8x13``, adders of
            rebuild engines as wide as ``shift_add``. A multiplier's energy goes with the product of its
            widths, an adder's with its width, as the sources of these entries say.

        Returns
        -------
        dict
            Event name -> fJ.
        """
        corner: dict[str, Corner] = {
            name: (corners or {}).get(group, "value") for group, names in GROUPS.items() for name in names
        }

        def pj(name: str) -> float:
            return self.picojoule(name, corner[name])

        exponent = pj("sram_size_exponent")
        bits = self.entries["shift_add"].bits
        narrower = 0.0 if rebuilt_bits is None else REBUILD_ADDER * (1 - rebuilt_bits / bits)
        out = {"dram_byte": pj("dram") * 8}
        for mem, size in bank_bytes.items():
            out[f"{mem}_byte"] = pj("sram") * (size / self.reference_bank_bytes) ** exponent
        out |= {
            "acc_byte": pj("acc_access") / 4,
            "mac_8x8": pj("mac_8x8"),
            "mac_8x13": pj("mac_8x13") * (rebuilt_bits or REBUILT_BITS) / REBUILT_BITS,
            "psum": pj("psum_register"),
            "fifo_byte": pj("register") * 8,
            "booth_digit": pj("booth_digit"),
            "shift_add": pj("shift_add") * (1 - narrower),
            "picker_byte": pj("picker"),
            "add32": pj("add32"),
            "mult32": pj("mult32"),
            "shift32": pj("shift32"),
            "move32": pj("register") * 32,
            "requantise": pj("requantise"),
        }
        return {name: int(value * 1000 + 0.5) for name, value in out.items()}


@lru_cache
def _shipped(name: str) -> EnergyTable:
    return read_model(EnergyTable, TABLES / f"{name}.yaml")
