"""Where a step's activations are: what a schedule needs to know of the steps around it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """Activations that stay on chip.

    Attributes
    ----------
    inputs
        For each activation operand: already in INP, padding included.
    output
        The result is written to INP instead of DRAM.
    inp_words
        Words of INP that the step may use for strips of its other inputs; None: all.
    keep_weights
        Load all weights at once, since the next steps use them again.
    """

    inputs: tuple[bool, ...] = ()
    output: bool = False
    inp_words: int | None = None
    keep_weights: bool = False

    def on_chip(self, operand: int) -> bool:
        """Whether an activation operand is in INP."""
        return operand < len(self.inputs) and self.inputs[operand]


#: Everything in DRAM.
IN_DRAM = Placement()
