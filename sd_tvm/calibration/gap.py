"""Errors on fitted examples and on new ones: when a calibration set is too small."""

from __future__ import annotations

#: Error on new examples over the error on the fitted ones beyond which a calibration set is called too small.
GAP_LIMIT = 1.5
#: Errors below this are harmless whatever the gap.
HARMLESS = 1e-3


def too_small(what: str, fitted: float, unseen: float) -> str | None:
    """The sentence for a fit that did not carry over to new examples, None if it did.

    Parameters
    ----------
    what
        For what the set is too small.
    fitted, unseen
        Squared errors over the variance of the output, on the fitted examples and on others.
    """
    if unseen <= HARMLESS or unseen <= GAP_LIMIT * fitted:
        return None
    return (
        f"the calibration set is too small for {what}: error {fitted:.2g} on fitted examples, "
        f"{unseen:.2g} on new ones"
    )
