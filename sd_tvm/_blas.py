"""Linear algebra whose rounding does not depend on how many cores a machine has.

A BLAS splits sums among its threads, so the same fit gives other last bits, hence now and then another code,
with another number of threads. What decides bytes of an artefact runs with one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

P = ParamSpec("P")
R = TypeVar("R")


def one_blas_thread(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run with one BLAS thread in this process; the old number comes back afterwards."""

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with threadpool_limits(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited
