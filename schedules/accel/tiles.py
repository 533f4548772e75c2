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
from typing import Any

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.errors import ScheduleError
from sd_tvm.layers import AddLayer, ConvLayer, Layer, PoolLayer, RequantLayer, layer_to_json
from sd_tvm.schedules.accel.conv_tiles import ConvTile, Overlap, check_conv_tile, rank_conv_tiles
from sd_tvm.schedules.accel.placement import Placement
from sd_tvm.schedules.accel.search import Cost
from sd_tvm.schedules.accel.vector_tiles import VectorTile, check_vector_tile, rank_vector_tiles
from sd_tvm.schedules.database import Database

Tile = ConvTile | VectorTile


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


class TileDatabase(Database):
    """Tiles that were found by measurement, for reuse."""

    kind = "tiles"

    @staticmethod
    def plausible(entry: dict[str, Any]) -> bool:
        """Whether it has a tile; which layer it fits is checked when it is asked for."""
        return isinstance(entry["tile"], dict)

    def get(self, layer: Layer, config: AcceleratorConfig, placement: Placement) -> Tile | None:
        """The tile of a layer, None if it is not known.

        Raises
        ------
        FormatError
            If it is no tile of such a layer.
        ScheduleError
            If it does not fit the configuration.
        """
        entry = self.entries.get(key_of(layer, config, placement))
        if entry is None:
            return None
        return _checked(entry["tile"], layer, config, placement)

    def put(
        self, layer: Layer, config: AcceleratorConfig, placement: Placement, tile: Tile, **about: Any
    ) -> None:
        """Remember a tile; ``about``: how it was found, for readers."""
        entry = {"layer": f"{layer.kind} {layer.name}", "configuration": config.name, **about}
        self.add(key_of(layer, config, placement), entry | {"tile": asdict(tile)})

    def forget(self, keys: Sequence[str]) -> None:
        """Remove entries."""
        for key in keys:
            self.entries.pop(key, None)


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
