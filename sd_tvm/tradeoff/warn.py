"""Sentences about options that are not what they seem."""

from __future__ import annotations

from sd_tvm.tradeoff.model import LayerSensitivity, OptionRow

#: Error on new examples over the error on the fitted ones beyond which a calibration set is called too small.
GAP_LIMIT = 1.5
#: Errors below this are harmless whatever the gap.
HARMLESS = 1e-3


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
    gap = row.gap
    if held_out and gap is not None and gap > GAP_LIMIT and row.error > HARMLESS:
        found.append(
            f"the calibration set is too small for {layer.inputs} inputs at {row.bits_per_weight:.2g} bits: "
            f"error {row.fit_error:.2g} on fitted examples, {row.error:.2g} on new ones"
        )
    if layer.samples < layer.inputs and layer.op != "depthwise":
        found.append(f"{layer.samples} fitted output positions for {layer.inputs} inputs")
    return tuple(found)
