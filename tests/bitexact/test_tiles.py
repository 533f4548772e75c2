"""Any tile that the search lists computes the same: golden model == simulator."""

from __future__ import annotations

from typing import Any

import layergen
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from layerrun import compare

from sd_tvm.schedules.accel import conv, conv_tiles, vector, vector_tiles


@settings(
    max_examples=16,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data(), seed=st.integers(0, 2**31), config=st.sampled_from(["tiny", "edge"]))
@pytest.mark.parametrize("kind", ["convs", "pools"])
def test_any_tile(kind: str, data: st.DataObject, seed: int, config: str) -> None:
    layer = data.draw(getattr(layergen, kind)())
    share = data.draw(st.integers(0, 999))

    def some_conv(*args: Any) -> Any:
        ranked = conv_tiles.rank_conv_tiles(*args)
        return ranked[share * len(ranked) // 1000][0]

    def some_vector(*args: Any) -> Any:
        ranked = vector_tiles.rank_vector_tiles(*args)
        return [ranked[share * len(ranked) // 1000]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "choose_conv_tile", some_conv)
        patch.setattr(vector, "rank_vector_tiles", some_vector)
        compare(layer, seed, config)
