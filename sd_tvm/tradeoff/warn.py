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


def warnings_of(layer: LayerSensitivity, row: OptionRow, *, held_out: bool) -> tuple[str, ...]:
    """What the user should know of one option of one layer.

    Parameters
    ----------
    layer, row
        The layer and the option.
    held_out
        Whether the error was measured on examples that the fit has not seen.
    """
    if row.kind != "sd":
        return ()
    found = []
    larger = larger_than_int8(row.nbytes, layer.int8_bytes)
    if larger:
        found.append(larger)
    gap = row.gap
    if held_out and gap is not None and gap > GAP_LIMIT and row.error > HARMLESS:
        found.append(
            f"the calibration set is too small for {layer.inputs} inputs at {row.bits_per_weight:.2g} bits: "
            f"error {row.fit_error:.2g} on fitted examples, {row.error:.2g} on new ones"
        )
    if layer.samples < layer.inputs and layer.op != "depthwise":
        found.append(f"{layer.samples} fitted output positions for {layer.inputs} inputs")
    return tuple(found)
