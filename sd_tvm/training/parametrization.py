"""The parametrisation of one weight. Imports torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sd_tvm.recipe import LayerPlan
from sd_tvm.training.projection import codes_of, fit_anew, search_again
from sd_tvm.weights.tensor import RawWeight, SDWeight, Weight, WeightForm


class _StraightThrough(torch.autograd.Function):  # type: ignore[misc]  # torch has no types here
    """Value of the compressed weight, gradient of the float one; dropped weights are pulled to zero."""

    @staticmethod
    def forward(ctx: Any, master: Any, rebuilt: Any, pull: float) -> Any:
        ctx.pull = pull
        ctx.save_for_backward(master, rebuilt)
        return rebuilt.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> tuple[Any, None, None]:
        if ctx.pull:
            master, rebuilt = ctx.saved_tensors
            gradient = gradient + ctx.pull * master * (rebuilt == 0)
        return gradient, None, None


class CompressedForm(torch.nn.Module):  # type: ignore[misc]
    """Parametrisation: float weight in, what its compressed form rebuilds out.

    Parameters
    ----------
    master
        The layer's weight, float32 (M, C), (M, Cg, K) or (M, Cg, KH, KW).
    plan
        Kind and form; ``sd`` or ``int8``.
    pull
        See :class:`~sd_tvm.training.Options`.
    free
        In training mode the float weight itself comes out.
    rows
        Rows kept of 16 at first; None: the plan's.
    """

    def __init__(
        self, master: Any, plan: LayerPlan, *, pull: float = 0.0, free: bool = False, rows: int | None = None
    ) -> None:
        super().__init__()
        self.plan, self.pull, self.free = plan, pull, free
        self.shape = plan_shape(tuple(master.shape))
        self.weight: Weight = fit_anew(self.array(master), plan, rows)
        self.register_buffer("rebuilt", torch.empty_like(master, requires_grad=False), persistent=False)
        self._rebuild()

    def forward(self, master: Any) -> Any:
        """The weight that the layer computes with."""
        if self.free and self.training:
            return master
        return _StraightThrough.apply(master, self.rebuilt, self.pull)

    def array(self, master: Any) -> npt.NDArray[np.float32]:
        """A float weight as (M, Cg, KH, KW)."""
        found: npt.NDArray[np.float32] = master.detach().cpu().contiguous().numpy().reshape(self.shape)
        return found

    def fit(self, master: Any, rows: int | None) -> int:
        """Fit bases, scales and codes anew; number of codes that differ from before."""
        return self._set(fit_anew(self.array(master), self.plan, rows))

    def search(self, master: Any) -> int:
        """Search the codes with bases and scales held; number of codes that differ from before."""
        return self._set(search_again(self.array(master), self.weight))

    def _set(self, weight: Weight) -> int:
        moved = int((codes_of(weight) != codes_of(self.weight)).sum())
        self.weight = weight
        self._rebuild()
        return moved

    def _rebuild(self) -> None:
        dense = torch.from_numpy(self.weight.dequantize()).reshape(self.rebuilt.shape)
        with torch.no_grad():
            self.rebuilt.copy_(dense)

    def get_extra_state(self) -> dict[str, Any]:
        """The compressed weight, for ``state_dict``: tensors and plain data."""
        w = self.weight
        state: dict[str, Any] = {
            "codes": torch.from_numpy(codes_of(w).copy()),
            "scale": torch.from_numpy(w.scale.copy()),
        }
        if isinstance(w, SDWeight):
            state |= {"basis": torch.from_numpy(w.basis.copy()), "form": asdict(w.form)}
            if w.ids is not None:
                state["ids"] = torch.from_numpy(w.ids.copy())
        return state

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`get_extra_state`."""
        codes, scale = state["codes"].cpu().numpy().copy(), state["scale"].cpu().numpy().copy()
        if "form" in state:
            ids = state["ids"].cpu().numpy().copy() if "ids" in state else None
            basis = state["basis"].cpu().numpy().copy()
            self.weight = SDWeight(self.shape, WeightForm(**state["form"]), codes, basis, scale, ids)
        else:
            self.weight = RawWeight(codes, scale)
        self._rebuild()


def plan_shape(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(M, Cg, KH, KW) of a weight of two to four dimensions."""
    m, c, *kernel = shape
    k = kernel if len(kernel) == 2 else [1, *kernel] if kernel else [1, 1]
    return (m, c, k[0], k[1])
