"""What the code generator emits follows from the lowered TensorIR, and nothing else is accepted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import layergen
import numpy as np
import pytest
import tvm_ffi
from layerrun import config, run_accel

from sd_tvm._tvm import s_tir, tirx, tvm
from sd_tvm.accelerator.codegen import boxes, compile_program
from sd_tvm.accelerator.codegen.generator import Generator
from sd_tvm.accelerator.codegen.lower import lower
from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.errors import CodegenError, ScheduleError
from sd_tvm.layers import AddLayer, ConvLayer, PoolLayer
from sd_tvm.schedules.accel import schedule_accel
from sd_tvm.schedules.accel.search import tile_sizes
from sd_tvm.schedules.ops import build_primfunc
from sd_tvm.weights.tensor import WeightForm

CONV = ConvLayer("c", 1, 40, (17, 17), 70, (3, 3), (2, 2), (1, 1, 1, 1), form=WeightForm("4:16"), n_bases=70)


def instructions(layer: Any, name: str = "edge") -> list[tuple[str, dict[str, int | None]]]:
    return list(compile_program(build_primfunc(layer, "f"), config(name)).decoded())


def test_a_convolution_reads_well() -> None:
    found = instructions(CONV)
    assert found[0][0] == "MARK"
    assert found[-1][0] == "FINISH"
    gemms = [f for name, f in found if name == "GEMM"]
    # Filters are covered once for each strip, in multiples of 16 but for the last.
    covered = sorted((f["m_base"], f["n_m"]) for f in gemms)
    assert covered[0][0] == 0
    assert max(m + n for m, n in covered) == 70
    assert all(m % 16 == 0 for m, _ in covered)
    assert sum(f["n_oy"] * f["n_ox"] * f["n_m"] for f in gemms) == 9 * 9 * 70
    assert {f["inp_ox"] for f in gemms} == {2}
    setw = [f for name, f in found if name == "SETW"]
    assert len(setw) == 1
    assert (setw[0]["cg"], setw[0]["n_ky"], setw[0]["n_kx"], setw[0]["s"]) == (40, 3, 3, 3)


def test_padding_stays_off_the_bus() -> None:
    layer = replace(CONV, stride=(1, 1), in_zero_point=9)
    loads = [f for name, f in instructions(layer) if name == "LOAD" and f["mem"] == Mem.INP]
    assert sum(f["pad_t"] for f in loads) >= 1
    assert {f["pad_value"] for f in loads} == {9}
    assert all(f["pad_l"] == f["pad_r"] == 1 for f in loads)
    assert all(f["x"] == 17 for f in loads)


def test_weights_move_once_when_they_fit() -> None:
    operands = layergen.operands_of(CONV, 3)
    _, stats = run_accel(build_primfunc(CONV, "f"), operands, "smartexchange-28nm-parallel")
    weights = sum(o.nbytes for o in operands[1:3]) + operands[-1].nbytes
    x = operands[0]
    read = stats["bytes"]["dram_read"]
    assert weights + x.nbytes <= read
    # Neighbouring strips share rows of x; nothing else is read twice.
    assert read <= weights + 2 * x.nbytes


def test_a_global_average_is_a_few_instructions() -> None:
    layer = PoolLayer("p", "avg", 1, 64, (7, 7), (7, 7))
    names = [name for name, _ in instructions(layer, "smartexchange-28nm-parallel")]
    assert names.count("ALU") <= 3 * names.count("STORE")


def test_an_addition_works_in_place() -> None:
    layer = AddLayer("a", 1, 64, (8, 8))
    program = compile_program(build_primfunc(layer, "f"), config("edge"))
    words = 4 * 8 * 8
    assert program.required_words[Mem.ACC] <= 2 * words


def test_changed_functions_are_refused() -> None:
    func = build_primfunc(CONV, "f")
    sch = s_tir.Schedule(tvm.IRModule({"main": func}))
    sch.compute_inline(sch.get_sblock("acc"))
    changed = sch.mod["main"]
    with pytest.raises(CodegenError, match="changed after build_primfunc"):
        compile_program(changed, config("edge"))
    other = func.with_attr("sd.layer", build_primfunc(replace(CONV, stride=(1, 1)), "f").attrs["sd.layer"])
    with pytest.raises(CodegenError, match="changed after build_primfunc"):
        compile_program(other, config("edge"))


def test_functions_without_a_layer_are_refused() -> None:
    func = build_primfunc(CONV, "f").without_attr("sd.layer")
    with pytest.raises(CodegenError, match="without a layer"):
        compile_program(func, config("edge"))


@pytest.mark.parametrize(
    ("constant", "changed", "refused"),
    [(1 << 30, 1 << 29, True), (48, 64, True), (304, 288, False), (272, 288, False)],
    ids=["rounding of the requantisation", "stride of weights", "stride of inputs", "stride of sums"],
)
def test_changed_constants_are_seen(constant: int, changed: int, refused: bool) -> None:
    """The lowered function decides: another stride gives other fields, other arithmetic gives no program."""
    layer = ConvLayer("c", 1, 16, (17, 17), 16, (3, 3), (1, 1), (1, 1, 1, 1))
    func = lower(schedule_accel(build_primfunc(layer, "f"), config("edge")))
    good = Generator(func, layer).program(config("edge"))
    seen: list[Any] = []

    def swap(node: Any) -> Any:
        if int(node.value) != constant:
            return node
        seen.append(node)
        return tirx.IntImm(str(node.ty.dtype), changed)

    bad = func.with_body(tvm_ffi.structural_map(func.body, (tirx.IntImm, swap)))
    assert seen
    if refused:
        with pytest.raises(CodegenError):
            Generator(bad, layer).program(config("edge"))
    else:
        assert Generator(bad, layer).program(config("edge")) != good


@pytest.mark.parametrize(
    ("layer", "name", "why"),
    [
        (CONV, "dense-int8", "no rebuild engine"),
        (ConvLayer("big", 1, 4096, (7, 7), 16, (3, 3)), "tiny", "words of"),
        (PoolLayer("wide", "max", 1, 16, (1200, 8), (1100, 1)), "tiny", "smallest tile"),
        (ConvLayer("far", 1, 16, (64, 64), 16, (3, 3), padding=(40, 40, 40, 40)), "edge", "padding of 40"),
    ],
    ids=["forms", "channels", "window", "padding"],
)
def test_layers_that_do_not_fit(layer: Any, name: str, why: str) -> None:
    with pytest.raises(ScheduleError, match=why):
        compile_program(build_primfunc(layer, "f"), config(name))


def test_programs_are_deterministic() -> None:
    func = build_primfunc(CONV, "f")
    assert compile_program(func, config("edge")) == compile_program(func, config("edge"))


def test_tile_sizes_are_balanced() -> None:
    assert tile_sizes(7) == [7, 4, 3, 2, 1]
    for extent in range(1, 200):
        sizes = tile_sizes(extent)
        assert sizes[0] == extent
        assert sizes[-1] == 1
        counts = [-(-extent // s) for s in sizes]
        assert len(set(counts)) == len(counts)


def test_boxes_cover_each_word_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = [int(v) for v in rng.integers(1, 5, 4)]
        strides = [16 * int(np.prod(n[i + 1 :])) for i in range(4)]
        gap = int(rng.integers(0, 2)) * 16
        dims = [
            boxes.Dim(e, s, s + (gap if i < 2 else 0), 0, e)
            for i, (e, s) in enumerate(zip(n, strides, strict=True))
        ]
        dims.append(boxes.Dim(16, 1, 1, 0, 16))
        words = []
        for box in boxes.boxes(dims, 0, 0, 16, 16):
            for z in range(box.z.n):
                for y in range(box.y.n):
                    words += [box.chip + z * box.z.chip + y * box.y.chip + x for x in range(box.x.n)]
        assert sorted(words) == list(range(int(np.prod(n))))


def test_partial_words_are_refused() -> None:
    with pytest.raises(CodegenError, match="parts of words"):
        list(boxes.boxes([boxes.Dim(9, 1, 1, 0, 9)], 0, 0, 16, 16))


def test_ir_nodes_are_hashed_by_identity() -> None:
    """Keys of the code generator are hashes of nodes: the same node, through any handle, has one."""
    var = tirx.Var("i", "int64")
    assert hash((var + 1).a) == hash(var)
    assert hash(tirx.Var("i", "int64")) != hash(var)
