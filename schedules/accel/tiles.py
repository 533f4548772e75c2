"""Tiles as data: which layers have candidates, and a file of tiles that were found before.

The file is JSON; a key names everything that a choice depends on: the layer without its name, where its
activations are, and the contents (not the name) of the configuration. A tile from a file is checked
against the configuration like one that was just found.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.errors import FormatError, ScheduleError
from sd_tvm.layers import AddLayer, ConvLayer, Layer, PoolLayer, RequantLayer, layer_to_json
from sd_tvm.schedules.accel.conv_tiles import ConvTile, Overlap, check_conv_tile, rank_conv_tiles
from sd_tvm.schedules.accel.placement import Placement
from sd_tvm.schedules.accel.search import Cost
from sd_tvm.schedules.accel.vector_tiles import VectorTile, check_vector_tile, rank_vector_tiles

Tile = ConvTile | VectorTile
SCHEMA_VERSION = 1


def rank_tiles(layer: Layer, config: AcceleratorConfig, placement: Placement) -> Sequence[tuple[Tile, Cost]]:
    """Tiles of a layer with their estimated costs, best first; none for layers with nothing to choose.

    Raises
    ------
    ScheduleError
        If the layer does not fit.
    """
    if isinstance(layer, ConvLayer):
        return rank_conv_tiles(layer, config, placement)
    if isinstance(layer, AddLayer | PoolLayer | RequantLayer):
        return rank_vector_tiles(layer, config, placement)
    return ()


@lru_cache(maxsize=64)
def _contents(config: AcceleratorConfig) -> str:
    """Digest of a configuration, its name and description aside."""
    data = config.model_dump(mode="json")
    del data["name"], data["description"]
    data["prices"] = config.energy_fj()
    return sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def key_of(layer: Layer, config: AcceleratorConfig, placement: Placement) -> str:
    """Key of a choice of tiles."""
    text = json.dumps(
        {
            "layer": json.loads(layer_to_json(replace(layer, name=""))),
            "placement": asdict(placement),
            "configuration": _contents(config),
        },
        sort_keys=True,
    )
    return sha256(text.encode()).hexdigest()[:32]


class TileDatabase:
    """Tiles that were found by measurement, for reuse.

    Parameters
    ----------
    path
        JSON file; read if it exists. None: memory only.

    Raises
    ------
    FormatError
        If the file is not a database of tiles.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._entries: dict[str, dict[str, Any]] = {}
        #: Whether there is something to save.
        self.changed = False
        if self.path is not None and self.path.exists():
            self._entries = self._read(self.path)

    def __len__(self) -> int:
        return len(self._entries)

    @staticmethod
    def _read(path: Path) -> dict[str, dict[str, Any]]:
        try:
            data = json.loads(path.read_text())
            entries = data["tiles"]
            good = data["schema_version"] == SCHEMA_VERSION and all(
                isinstance(k, str) and isinstance(v["tile"], dict) for k, v in entries.items()
            )
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _broken(path, repr(error)) from error
        if not good:
            raise _broken(path, "another schema")
        found: dict[str, dict[str, Any]] = entries
        return found

    def get(self, layer: Layer, config: AcceleratorConfig, placement: Placement) -> Tile | None:
        """The tile of a layer, None if it is not known.

        Raises
        ------
        FormatError
            If it is no tile of such a layer.
        ScheduleError
            If it does not fit the configuration.
        """
        entry = self._entries.get(key_of(layer, config, placement))
        if entry is None:
            return None
        return _checked(entry["tile"], layer, config, placement)

    def put(
        self, layer: Layer, config: AcceleratorConfig, placement: Placement, tile: Tile, **about: Any
    ) -> None:
        """Remember a tile; ``about``: how it was found, for readers."""
        entry = {"layer": f"{layer.kind} {layer.name}", "configuration": config.name, **about}
        self._entries[key_of(layer, config, placement)] = entry | {"tile": asdict(tile)}
        self.changed = True

    def forget(self, keys: Sequence[str]) -> None:
        """Remove entries."""
        for key in keys:
            self._entries.pop(key, None)

    def save(self) -> None:
        """Write the file, sorted by key, if something changed."""
        if self.path is None or not self.changed:
            return
        data = {"schema_version": SCHEMA_VERSION, "tiles": self._entries}
        temporary = self.path.with_name(self.path.name + ".part")
        temporary.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
        temporary.replace(self.path)
        self.changed = False


def _broken(path: Path, why: str) -> FormatError:
    return FormatError(
        f"{path}: not a file of tiles ({why})",
        expected=f'JSON {{"schema_version": {SCHEMA_VERSION}, "tiles": ...}} that tuning wrote',
        fix="delete the file and tune again",
    )


_FLAGS = ("filters_first", "resident")


def _plausible(data: dict[str, Any]) -> bool:
    """Whether sizes are positive integers and flags are booleans."""
    overlap = data.get("overlap", {})
    flags = [*(data[f] for f in _FLAGS if f in data), *overlap.values()]
    sizes = [v for k, v in data.items() if k not in ("overlap", *_FLAGS)]
    return all(type(f) is bool for f in flags) and all(type(n) is int and n >= 1 for n in sizes)


def _checked(data: dict[str, Any], layer: Layer, config: AcceleratorConfig, placement: Placement) -> Tile:
    """A tile from a file."""
    problem = "no such tile"
    try:
        if _plausible(data):
            if isinstance(layer, ConvLayer):
                tile = ConvTile(**{**data, "overlap": Overlap(**data["overlap"])})
                problem = check_conv_tile(tile, layer, config, placement)
                if not problem:
                    return tile
            elif isinstance(layer, AddLayer | PoolLayer | RequantLayer):
                vector = VectorTile(**data)
                problem = check_vector_tile(vector, layer, config, placement)
                if not problem:
                    return vector
    except (TypeError, KeyError, AttributeError) as error:
        problem = repr(error)
    raise ScheduleError(
        f"{layer.name}: the tile {data} from a file: {problem}",
        expected=f"a tile that fits configuration {config.name!r}",
        fix="delete the file of tiles and tune again",
    )
