"""NumPy golden model == LLVM == simulator, bit for bit, for random layers (>= 500 of them in all).

Families are separate tests so that pytest-xdist spreads them.
"""

from __future__ import annotations

import layergen
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from layerrun import compare

from sd_tvm.layers import Layer

PATTERNS = ("raw", "16:16", "8:16", "4:16", "2:16", "shared")
GROUPINGS = ("none", "depthwise", "grouped")
CONVS_EACH = 24
OTHERS_EACH = 24
SEEDS = st.integers(0, 2**31)
CONFIGS = st.sampled_from(["tiny", "tiny", "edge", "smartexchange-28nm-parallel"])
# One in eight is compiled as in production; the others quickly.
OPTIMISED = st.integers(0, 7).map(lambda n: n == 0)
# A counterexample is printed as found: shrinking costs a compilation a step.
QUICK = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "phases": (Phase.generate,),
    "suppress_health_check": [HealthCheck.too_slow],
}


@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=CONVS_EACH, **QUICK)
@given(data=st.data(), seed=SEEDS, config=CONFIGS, optimised=OPTIMISED)
def test_conv(
    pattern: str, grouping: str, data: st.DataObject, seed: int, config: str, optimised: bool
) -> None:
    layer = data.draw(layergen.convs(patterns=(pattern,), grouping=grouping))
    compare(layer, seed, config, optimised=optimised)


@pytest.mark.parametrize("kind", ["kernels", "sizes"])
@settings(max_examples=OTHERS_EACH, **QUICK)
@given(data=st.data(), seed=SEEDS, config=CONFIGS, optimised=OPTIMISED)
def test_large_conv(kind: str, data: st.DataObject, seed: int, config: str, optimised: bool) -> None:
    """Kernels up to 9 (rows of 9 taps become rows of channels); more channels and pixels."""
    kernel, channels, size = {"kernels": (9, 12, 16), "sizes": (3, 120, 20)}[kind]
    layer = data.draw(layergen.convs(max_kernel=kernel, max_channels=channels, max_size=size))
    compare(layer, seed, config, optimised=optimised)


@pytest.mark.parametrize(
    "kind", ["adds", "pools", "requants", "luts", "muls", "concats", "resizes", "interleaves"]
)
@settings(max_examples=OTHERS_EACH, **QUICK)
@given(data=st.data(), seed=SEEDS, config=CONFIGS, optimised=OPTIMISED)
def test_other(kind: str, data: st.DataObject, seed: int, config: str, optimised: bool) -> None:
    layer: Layer = data.draw(getattr(layergen, kind)())
    compare(layer, seed, config, optimised=optimised)


def test_there_are_500() -> None:
    assert len(PATTERNS) * len(GROUPINGS) * CONVS_EACH + 9 * OTHERS_EACH >= 500
