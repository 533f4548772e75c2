"""The cost model of the tile search against the machine: cycles of the array and of the ALU, exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_tvm.accelerator.codegen import compile_program
from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.timing import time_program
from sd_tvm.errors import ScheduleError
from sd_tvm.layers import ConvLayer
from sd_tvm.schedules.accel.array import ArrayModel
from sd_tvm.schedules.accel.conv_tiles import rank_conv_tiles
from sd_tvm.schedules.ops import build_primfunc
from sd_tvm.weights.tensor import WeightForm

FORMS = (
    None,
    WeightForm("4:16"),
    WeightForm("16:16"),
    WeightForm("2:16", basis_kind="codebook"),
    WeightForm("8:16", basis_kind="slice", slice_rows=16),
)


@st.composite
def layers(draw: st.DrawFn) -> ConvLayer:
    """Convolutions of all kinds: plain, grouped, depthwise, dense."""
    kind = draw(st.sampled_from(("plain", "plain", "grouped", "depthwise", "dense")))
    kernel = draw(st.sampled_from(((1, 1), (3, 3), (5, 5), (1, 3), (2, 2))))
    hw = (draw(st.integers(5, 33)), draw(st.integers(5, 70)))
    c, m, groups = draw(st.integers(2, 80)), draw(st.integers(1, 150)), 1
    if kind == "grouped":
        groups = draw(st.sampled_from((2, 3)))
        c, m = 16 * groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 40))
    elif kind == "depthwise":
        c = m = groups = draw(st.integers(2, 90))
    elif kind == "dense":
        kernel, hw = (1, 1), (1, 1)
    form = draw(st.sampled_from(FORMS))
    layer = ConvLayer("l", 1, c, hw, m, kernel, groups=groups, form=form)
    if kind != "dense":
        stride = draw(st.sampled_from(((1, 1), (2, 2), (1, 2))))
        pad = draw(st.integers(0, 1))
        layer = replace(layer, stride=stride, padding=(pad, pad, pad, pad))
    if form is not None:
        n = min(m, 32) if form.basis_kind == "codebook" else m * form.n_slices(layer.geometry)
        layer = replace(layer, n_bases=n)
    return layer


@settings(max_examples=25, deadline=None)
@given(layers(), st.sampled_from(("smartexchange-28nm-parallel", "edge", "dense-int8")))
def test_costs_are_those_of_the_machine(layer: ConvLayer, name: str) -> None:
    config = AcceleratorConfig.load(name)
    if layer.form is not None and not config.rebuilds:
        layer = replace(layer, form=None, n_bases=0)
    try:
        _, cost = rank_conv_tiles(layer, config)[0]
    except ScheduleError:
        return
    stats = time_program(compile_program(build_primfunc(layer, "main"), config).to_bytes(), config)
    assert cost.busy[1] == stats["class_cycles"]["GEMM"]
    assert cost.busy[2] == stats["class_cycles"]["ALU"]


def test_narrow_tiles_of_filters_read_the_input_more_often() -> None:
    config = AcceleratorConfig.load("smartexchange-28nm-parallel")
    array = ArrayModel(ConvLayer("l", 1, 64, (56, 56), 64, (3, 3), padding=(1, 1, 1, 1)), config)
    whole, parts = array.gemm(8, 56, 0, 64), [array.gemm(8, 56, 16 * i, 16) for i in range(4)]
    assert sum(p.cycles for p in parts) > 3.9 * whole.cycles
    assert sum(p.energy_fj for p in parts) > whole.energy_fj


def test_no_tile_fits() -> None:
    config = AcceleratorConfig.load("edge")
    layer = ConvLayer("huge", 1, 4096, (1, 1), 4096, (7, 7), padding=(3, 3, 3, 3))
    with pytest.raises(ScheduleError, match="smallest tile needs"):
        rank_conv_tiles(layer, config)
