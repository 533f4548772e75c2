"""What decides bytes of an artefact runs with one BLAS thread, whatever the process has."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from sd_tvm._blas import one_blas_thread


def blas_threads() -> set[int]:
    assert np.eye(2).shape == (2, 2)  # NumPy's BLAS is loaded
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_thread_inside_the_old_number_afterwards() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        assert blas_threads() == {2}
        assert one_blas_thread(blas_threads)() == {1}
        assert blas_threads() == {2}
