"""CSV: stable columns, exact integers, what is missing is empty."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sd_tvm.accelerator.config import AcceleratorConfig
from sd_tvm.accelerator.isa import Program, encode
from sd_tvm.accelerator.timing import time_program
from sd_tvm.errors import FormatError
from sd_tvm.report import LayerRow, Report, report_to_csv, write_csv
from sd_tvm.report.csv import COLUMNS

ROW = LayerRow(
    name='a,"b"\nc',
    kind="conv",
    shape="3x8x8 -> 16x8x8, 3x3",
    weights=7,
    cycles=2**61 + 1,
    peak_macs=3,
    energy_fj={"mac": 2**62 + 1, "dram_weights": 5, "unheard of": 11},
    busy={"LD": 3},
    stall={"LD.token": 4, "ST.dispatch": 5},
)

#: Written down by hand: a change here breaks readers.
HEADER = (
    "position,layer,kind,shape,form,weights,weight_bytes,macs,macs_dense,instructions,dram_read_bytes,"
    "dram_write_bytes,cycles,peak_macs,busy_ld_cycles,busy_ge_cycles,busy_al_cycles,busy_st_cycles,"
    "stall_ld_token_cycles,stall_ld_dispatch_cycles,stall_ge_token_cycles,stall_ge_dispatch_cycles,"
    "stall_al_token_cycles,stall_al_dispatch_cycles,stall_st_token_cycles,stall_st_dispatch_cycles,"
    "energy_total_fj,energy_dram_weights_fj,energy_dram_activations_fj,energy_dram_instructions_fj,"
    "energy_sram_inp_fj,energy_sram_code_fj,energy_sram_basis_fj,energy_sram_idx_fj,energy_sram_qp_fj,"
    "energy_sram_lut_fj,energy_sram_out_fj,energy_acc_fj,energy_mac_fj,energy_psum_fj,energy_fifo_fj,"
    "energy_picker_fj,energy_rebuild_fj,energy_alu_fj,energy_requant_fj,energy_other_fj,"
    "corner_low_fj,corner_high_fj,bound,function,nodes,sources"
)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_columns_are_stable() -> None:
    assert report_to_csv(Report("t")) == HEADER + "\n"
    assert len(set(COLUMNS)) == HEADER.count(",")


def test_values(tmp_path: Path) -> None:
    path = write_csv(Report("t", layers=(ROW, replace(ROW, name="second"))), tmp_path / "r.csv")
    first, second = rows(path.read_bytes().decode())
    assert (first["position"], second["position"]) == ("1", "2")
    assert first["layer"] == ROW.name
    assert first["cycles"] == str(2**61 + 1)
    assert first["energy_mac_fj"] == str(2**62 + 1)
    assert first["energy_other_fj"] == "11"
    assert first["busy_ld_cycles"] == "3"
    assert first["stall_ld_token_cycles"] == "4"
    assert first["stall_st_dispatch_cycles"] == "5"


@given(st.dictionaries(st.sampled_from(["mac", "acc", "sram_inp", "x", "y"]), st.integers(0, 2**62)))
def test_energies_add_up(energy: dict[str, int]) -> None:
    (row,) = rows(report_to_csv(Report("t", layers=(replace(ROW, energy_fj=energy),))))
    parts = [int(v) for k, v in row.items() if k.startswith("energy_") and k != "energy_total_fj"]
    assert sum(parts) == int(row["energy_total_fj"]) == sum(energy.values())


def test_functional_run_has_empty_cells() -> None:
    row = replace(ROW, cycles=None, peak_macs=None, energy_fj=None, busy=None, stall=None)
    (cells,) = rows(report_to_csv(Report("t", layers=(row,))))
    timed = [k for k in cells if k.split("_")[0] in ("cycles", "peak", "busy", "stall", "energy")]
    assert len(timed) == 2 + 4 + 8 + 1 + 18 + 1
    assert {cells[k] for k in timed} == {""}
    assert cells["weights"] == "7"


def test_wrong_totals_are_refused() -> None:
    with pytest.raises(FormatError, match="add up"):
        report_to_csv(Report("t", layers=(ROW,), totals={"cycles": 1}))


def test_the_simulator_has_a_column_for_everything() -> None:
    stats = time_program(Program((encode("FINISH"),), (16,)).to_bytes(), AcceleratorConfig.load())
    for queue in stats["busy"]:
        assert f"busy_{queue.lower()}_cycles" in COLUMNS
    for cause in stats["stall"]:
        assert f"stall_{cause.lower().replace('.', '_')}_cycles" in COLUMNS
    for component in stats["energy_fj"]:
        assert f"energy_{component}_fj" in COLUMNS
