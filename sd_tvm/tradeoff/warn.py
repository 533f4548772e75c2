"""Sentences about options that are not what they seem."""

from __future__ import annotations

from sd_tvm.calibration.gap import too_small
from sd_tvm.tradeoff.model import LayerSensitivity, OptionRow


def larger_than_int8(nbytes: int, int8_bytes: int) -> str | None:
    """The sentence for an SD form that does not save anything, None if it does."""
    if nbytes < int8_bytes:
        return None
    return f"SD form takes {nbytes:,} bytes, int8 {int8_bytes:,}: this layer got no smaller"


def slower_than_int8(cycles: int | None, int8_cycles: int | None, target: str) -> str | None:
    """The sentence for an SD form that an accelerator runs slower than int8, None if it does not."""
    if cycles is None or int8_cycles is None or cycles <= int8_cycles:
        return None
    return f"SD form takes {cycles:,} cycles on {target}, int8 {int8_cycles:,}: this layer runs slower"


def warnings_of(
    layer: LayerSensitivity, row: OptionRow, *, held_out: bool, target: str = ""
) -> tuple[str, ...]:
    """What the user should know of one option of one layer.

    Parameters
    ----------
    layer, row
        The layer and the option.
    held_out
        Whether the error was measured on examples that the fit has not seen.
    target
        Configuration that cycles are of.
    """
    if row.kind != "sd":
        return ()
    found = []
    larger = larger_than_int8(row.nbytes, layer.int8_bytes)
    if larger:
        found.append(larger)
    raw = next((other.cycles for other in layer.options if other.kind == "int8"), None)
    slower = slower_than_int8(row.cycles, raw, target)
    if slower:
        found.append(slower)
    what = f"{layer.inputs} inputs at {row.bits_per_weight:.2g} bits"
    small = too_small(what, row.fit_error, row.error) if held_out and row.fit_error is not None else None
    if small:
        found.append(small)
    if layer.samples < layer.inputs and layer.op != "depthwise":
        found.append(f"{layer.samples} fitted output positions for {layer.inputs} inputs")
    return tuple(found)
