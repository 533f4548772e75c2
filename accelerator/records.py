"""From one record a call of a region to one row a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sd_tvm.errors import ProgramError

#: Lists of a call's statistics that split it by layer.
_PARTS = ("layers", "layer_times")


def layer_records(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Expand the profiler's records: one row a layer, in the order of each region's layer list.

    Parameters
    ----------
    records
        What :class:`sd_tvm.accelerator.simulator.Profiler` collected: ``name``, ``layers`` (JSON records of
        the region's layers) and ``stats`` of each call. Instructions after ``MARK layer=i`` belong to
        ``layers[i]``; those before the first MARK belong to the first layer.

    Returns
    -------
    list of dict
        ``name`` (the layer's own, else the function's), ``function``, ``index`` of the layer in its region,
        ``layer`` (its JSON record) and ``stats``: the layer's share of everything in the call's statistics
        that is attributed to layers. Shares are integers that add up to the call's totals; a layer without
        instructions has zeros.

    Raises
    ------
    ProgramError
        If a program marks a layer that its region does not have.
    """
    return [row for record in records for row in _rows(record)]


def _rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    function, layers, stats = str(record["name"]), record["layers"], record["stats"]
    shares: list[dict[str, Any]] = [{} for _ in layers]
    for part in _PARTS:
        of_part: list[dict[str, Any]] = [{} for _ in layers]
        template: dict[str, Any] = {}
        for entry in stats.get(part, ()):
            at, values = int(entry["layer"]), {k: v for k, v in entry.items() if k != "layer"}
            if max(at, 0) >= len(layers):
                raise ProgramError(
                    f"{function}: the program marks layer {at}",
                    expected=f"0..{len(layers) - 1}, the layers that the module describes",
                    fix="describe every layer in create_module",
                )
            template = values
            of_part[max(at, 0)] = _sum(of_part[max(at, 0)], values)
        for share, values in zip(shares, of_part, strict=True):
            share.update(values or _zero(template))
    return [
        {
            "name": str(layer.get("name") or function),
            "function": function,
            "index": index,
            "layer": layer,
            "stats": {"mode": stats["mode"], **share},
        }
        for index, (layer, share) in enumerate(zip(layers, shares, strict=True))
    ]


def _sum(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Sum of two trees of integers."""
    out = dict(a)
    for key, value in b.items():
        if isinstance(value, Mapping):
            out[key] = _sum(out.get(key, {}), value)
        else:
            out[key] = out.get(key, 0) + value
    return out


def _zero(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _zero(value) if isinstance(value, Mapping) else 0 for key, value in tree.items()}
