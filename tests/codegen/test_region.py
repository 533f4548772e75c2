"""Regions: whatever stays on chip, in whatever strips, the integers are the golden model's."""

from __future__ import annotations

from typing import Any

import pytest
import regionrun
from hypothesis import given, settings
from hypothesis import strategies as st
from layerrun import config
from regionrun import Net, run

from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.schedules.accel.fusion.addresses import place


def inverted_residual(net: Net, x: int, wide: int, m: int, stride: int = 1, k: int = 3) -> int:
    """Expansion, depthwise, projection, and the sum where it is one."""
    a = net.conv(x, wide)
    pad = k // 2
    b = net.conv(a, wide, k, padding=(pad, pad, pad, pad), groups=wide, stride=(stride, stride))
    c = net.conv(b, m)
    return net.residual(x, c) if stride == 1 and net.types[x][0] == m else c


@pytest.mark.parametrize("name", ["smartexchange-28nm-parallel", "edge", "dense-int8", "tiny"])
def test_inverted_residuals(name: str) -> None:
    net = Net(1, 24, (28, 28))
    x = inverted_residual(net, 0, 96, 24)
    x = inverted_residual(net, x, 96, 40, 2, 5)
    linked, fused = run(net, [x], config(name), mode="timed")
    _, layers = run(net, [x], config(name), fuse=False, mode="timed")
    assert not linked.plan.spilled or name == "tiny"
    # 28 x 28 x 24 in, 14 x 14 x 40 out, and the weights: nothing else passes DRAM.
    assert fused["bytes"]["dram_write"] <= layers["bytes"]["dram_write"]
    assert fused["bytes"]["dram_read"] < layers["bytes"]["dram_read"]
    assert fused["energy_total_fj"] < layers["energy_total_fj"]


def test_strips_are_used_where_tensors_do_not_fit() -> None:
    net = Net(2, 16, (56, 56))
    x = inverted_residual(net, 0, 96, 24, 2)
    linked, stats = run(net, [x], config("edge"))
    assert any(r.rows for r in linked.plan.runs)
    assert stats["bytes"]["dram_write"] == 28 * 28 * 32
    assert all(b.start + b.words <= config("edge").buffer_words(Mem.INP) for b in linked.plan.buffers)


def test_packed_input_and_several_results() -> None:
    net = Net(3, 3, (33, 31), packed=True)
    a = net.conv(0, 24, 3, stride=(2, 2), padding=(1, 1, 1, 1))
    b = net.conv(a, 24, 3, padding=(1, 1, 1, 1))
    c = net.residual(a, b)
    d = net.pool(c, "max", (3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    e = net.pool(c, "avg", net.types[c][1])
    for fuse in (True, False):
        run(net, [d, e, b], config("edge"), fuse=fuse)


ELEMENTWISE = ("lut", "up", "mul", "concat")


@st.composite
def nets(draw: Any) -> tuple[Net, list[int]]:
    """Small random graphs of everything that has a window."""
    batch = draw(st.sampled_from([1, 1, 2]))
    hw = (draw(st.integers(3, 17)), draw(st.integers(3, 17)))
    channels = draw(st.sampled_from([3, 8, 16, 24]))
    packed = channels == 3 and draw(st.booleans())
    net = Net(draw(st.integers(0, 2**20)), channels, hw, batch, packed=packed)
    for _ in range(draw(st.integers(1, 7))):
        values = list(range(1 if packed and len(net.values) > 1 else 0, len(net.values)))
        x = draw(st.sampled_from(values[-3:]))
        c, (h, w), _, _ = net.types[x]
        kind = draw(st.sampled_from(["conv", "conv", "dw", "add", "max", "avg", "requant", *ELEMENTWISE]))
        k = min(draw(st.sampled_from([1, 1, 2, 3])), h, w)
        options = {
            "stride": (draw(st.integers(1, 2)),) * 2,
            "padding": tuple(draw(st.integers(0, k - 1)) for _ in range(4)),
        }
        if net.values[x].packed or kind == "conv":
            net.conv(x, draw(st.sampled_from([5, 16, 24, 40])), k, **options)
        elif kind == "dw":
            net.conv(x, c, k, groups=c, **options)
        elif kind == "add":
            same = [v for v in values if net.types[v][:2] == net.types[x][:2]]
            net.residual(x, draw(st.sampled_from(same)))
        elif kind in ("max", "avg"):
            net.pool(x, kind, (k, k), **options)
        elif kind == "lut":
            net.lut(x)
        elif kind == "up":
            net.resize(x)
        elif kind == "mul":
            net.mul(x, net.pool(x, "avg", (h, w)) if draw(st.booleans()) else x)
        elif kind == "concat":
            same = [v for v in values if net.types[v][1] == net.types[x][1] and net.types[v][0] % 16 == 0]
            first = draw(st.lists(st.sampled_from(same), min_size=1, max_size=2)) if same else []
            if first:
                net.concat([*first, x])
        else:
            net.requant(x)
    read = {v for node in net.nodes for v in node.inputs}
    last = [v for v in range(1, len(net.values)) if v not in read]
    extra = draw(st.lists(st.sampled_from(range(1, len(net.values))), max_size=1))
    return net, sorted({*last, *extra})


@settings(max_examples=25, deadline=None)
@given(case=nets(), name=st.sampled_from(["smartexchange-28nm-parallel", "edge", "tiny"]), fuse=st.booleans())
def test_random_regions(case: tuple[Net, list[int]], name: str, fuse: bool) -> None:
    net, outputs = case
    run(net, outputs, config(name), fuse=fuse)


@given(
    st.lists(
        st.tuples(st.integers(1, 50), st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=20
    )
)
def test_buffers_that_live_together_do_not_overlap(items: list[tuple[int, int, int]]) -> None:
    sizes = [n for n, _, _ in items]
    lives = [(a, a + d) for _, a, d in items]
    starts = place(sizes, lives)
    for i in range(len(items)):
        for j in range(i):
            if lives[i][0] <= lives[j][1] and lives[j][0] <= lives[i][1]:
                assert starts[i] + sizes[i] <= starts[j] or starts[j] + sizes[j] <= starts[i]


def test_the_harness_sees_wrong_results() -> None:
    net = Net(5, 16, (8, 8))
    x = net.conv(0, 16)
    net.arrays[x] = net.arrays[x] + 1
    with pytest.raises(AssertionError):
        regionrun.run(net, [x], config("edge"))
