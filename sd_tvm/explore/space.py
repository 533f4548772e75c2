"""The space of a sweep: a base configuration and lists of values for some of its keys (TVM-free).

.. code-block:: yaml

    schema_version: 1
    base: smartexchange-28nm-parallel      # a shipped configuration or a YAML file
    values:
      array.m_slices: [32, 64]
      dram.bytes_per_cycle: [8, 16, 32]

Every combination is a candidate, the last key varies fastest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.config._validate import Strict, read_model, validate
from sd_tvm.errors import ConfigError

MAX_CANDIDATES = 100_000
#: Keys that say what a configuration is and not what it has.
_FIXED = ("schema_version", "name", "description")

Value = bool | int | str | list[int]
Assignment = dict[str, Value]


class Space(Strict):
    """A design space.

    Attributes
    ----------
    schema_version
        1.
    base
        Name of a shipped configuration, or the path of a YAML file (relative to the space's file).
    values
        Dotted key of a configuration -> its values, in order.
    """

    schema_version: Literal[1]
    base: str
    values: dict[str, Annotated[list[Value], Field(min_length=1)]] = Field(min_length=1)

    @classmethod
    def load(cls, path: str | Path) -> Space:
        """Read a space from a YAML file.

        Raises
        ------
        ConfigError
            If the file cannot be read or is no space, or :meth:`check` refuses it.
        """
        space = read_model(cls, Path(path))
        if Path(space.base).suffix in (".yaml", ".yml"):
            space = space.model_copy(update={"base": str(Path(path).parent / space.base)})
        space.check(source=str(path))
        return space

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Space:
        """Space from plain data.

        Raises
        ------
        ConfigError
            As :meth:`load`.
        """
        space = validate(cls, data, source="the space")
        space.check()
        return space

    @property
    def size(self) -> int:
        """Number of candidates."""
        return math.prod(len(values) for values in self.values.values())

    def check(self, *, source: str = "the space") -> None:
        """Refuse unknown and fixed keys, repeated values, bit-serial arrays and too many candidates.

        Raises
        ------
        ConfigError
            Naming the key, or the base configuration's own error.
        """
        base = AcceleratorConfig.load(self.base)
        known = _keys(base)
        for key, values in self.values.items():
            if key not in known:
                raise ConfigError(
                    f"{source}: values.{key}: a configuration has no such key",
                    expected=f"one of {', '.join(known)}",
                    fix="correct the key",
                )
            if any(values.count(v) > 1 for v in values):
                raise ConfigError(
                    f"{source}: values.{key} = {values}",
                    expected="each value once",
                    fix="remove the repeated ones",
                )
        if "serial" in self.values.get("array.mac", [base.array.mac]):
            raise ConfigError(
                f"{source}: a bit-serial array, whose time depends on the data",
                expected="array.mac: parallel; a sweep times programs without running them",
                fix="use a parallel base, or `sd-tvm profile` for single bit-serial configurations",
            )
        if self.size > MAX_CANDIDATES:
            raise ConfigError(
                f"{source}: {self.size:,} candidates",
                expected=f"at most {MAX_CANDIDATES:,}",
                fix="list fewer values",
            )

    def assignments(self) -> Iterator[Assignment]:
        """Every combination of values, in order."""
        for values in itertools.product(*self.values.values()):
            yield dict(zip(self.values, values, strict=True))

    def configuration(
        self, assignment: Assignment, name: str | None = None, *, base: AcceleratorConfig | None = None
    ) -> AcceleratorConfig:
        """Configuration of one combination.

        Parameters
        ----------
        assignment, name
            Values, and the name it gets.
        base
            The base configuration, for callers that have read it; None reads it.

        Raises
        ------
        ConfigError
            If the values do not go together.
        """
        data = (base or AcceleratorConfig.load(self.base)).model_dump(mode="json")
        if name is not None:
            data["name"] = name
        for key, value in assignment.items():
            group, _, field = key.partition(".")
            if field:
                data[group][field] = value
            else:
                data[group] = value
        config = validate(AcceleratorConfig, data, source=name or "the configuration")
        config.energy_fj()
        return config

    def smallest(self, config: AcceleratorConfig) -> AcceleratorConfig:
        """A configuration with each on-chip memory as small as it gets in the space."""
        smallest: dict[str, Any] = {
            key.partition(".")[2]: min(v for v in values if isinstance(v, int) and v >= 1)
            for key, values in self.values.items()
            if key.startswith("sram.")
        }
        return config.model_copy(update={"sram": config.sram.model_copy(update=smallest)})


def _keys(config: AcceleratorConfig) -> list[str]:
    keys: list[str] = []
    for key, value in config.model_dump(mode="json").items():
        if isinstance(value, dict):
            keys += [f"{key}.{k}" for k in value]
        elif key not in _FIXED:
            keys.append(key)
    return keys
