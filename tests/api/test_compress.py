"""compress -> save -> load -> to_relax on a small network, against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli import tiny

import sd_tvm
from sd_tvm.compression import NOT_CALIBRATED
from sd_tvm.execute import Runner, compile_module
from sd_tvm.report import report_to_json
from sd_tvm.weights.tensor import RawWeight, SDWeight


@pytest.fixture(scope="module")
def compressed() -> sd_tvm.CompressedModel:
    return sd_tvm.compress(*tiny.model(), calibration=tiny.data())


def outputs(module: Any, target: str, data: np.ndarray) -> np.ndarray:
    runner = Runner(compile_module(module, target).executable)
    return np.concatenate([runner(x[None])[0] for x in data])


def reference(data: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return tiny.model()[0](torch.from_numpy(data)).numpy()


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(((found - wanted) ** 2).mean() / wanted.var())


def test_forms_follow_the_recipe(compressed: sd_tvm.CompressedModel) -> None:
    kinds = {row["node"]: row["kind"] for row in compressed.report}
    assert kinds == {"stem": "int8", "depthwise": "int8", "point": "int8", "conv": "sd", "fc": "sd"}
    assert isinstance(compressed.weights["conv"], SDWeight)
    assert isinstance(compressed.weights["stem"], RawWeight)
    assert all(row["reason"] for row in compressed.report)
    assert all(row["relative_output_error"] < 0.01 for row in compressed.report)
    assert compressed.is_calibrated
    assert compressed.notes == ()


def test_file_round_trip(compressed: sd_tvm.CompressedModel, tmp_path: Path) -> None:
    path = tmp_path / "tiny.sd"
    assert compressed.save(path) == path.stat().st_size == compressed.nbytes
    again = sd_tvm.load(path)
    assert again.stored.graph == compressed.stored.graph
    assert again.report == compressed.report
    assert again.recipe == compressed.recipe
    assert again.fp32_bytes == compressed.fp32_bytes > again.nbytes
    again.save(tmp_path / "again.sd")
    assert (tmp_path / "again.sd").read_bytes() == path.read_bytes()


def test_same_file_every_time(compressed: sd_tvm.CompressedModel, tmp_path: Path) -> None:
    compressed.save(tmp_path / "a.sd")
    sd_tvm.compress("cli.tiny:model", calibration=list(tiny.data())).save(tmp_path / "b.sd")
    assert (tmp_path / "a.sd").read_bytes() == (tmp_path / "b.sd").read_bytes()


def test_outputs_are_near_torch_and_equal_on_both_targets(compressed: sd_tvm.CompressedModel) -> None:
    data = tiny.data(4, seed=11)
    wanted = reference(data)
    accelerator = outputs(compressed, "sd_accel", data)
    assert relative_error(accelerator, wanted) < 0.02
    np.testing.assert_array_equal(accelerator, outputs(compressed, "llvm", data))


def test_calibrated_fit_beats_data_free() -> None:
    recipe = sd_tvm.Recipe.load("smartdeal").model_copy(update={"solver": sd_tvm.Recipe.default().solver})
    data = tiny.data(8, seed=11)
    errors = [
        relative_error(
            fp32_outputs(sd_tvm.compress(*tiny.model(), recipe=recipe, calibration=c), data), reference(data)
        )
        for c in (None, tiny.data(32))
    ]
    assert errors[1] < 0.5 * errors[0]


def fp32_outputs(model: sd_tvm.CompressedModel, data: np.ndarray) -> np.ndarray:
    """The graph with rebuilt float32 weights; activations are not quantised."""
    from sd_tvm.calibration.interpreter import Interpreter

    interpreter = Interpreter(model.to_relax())
    return np.concatenate([interpreter.run([x[None]]) for x in data])


def test_without_calibration_says_so(tmp_path: Path) -> None:
    model = sd_tvm.compress(*tiny.model())
    assert model.notes == (NOT_CALIBRATED,)
    assert not model.is_calibrated
    model.save(tmp_path / "tiny.sd")
    data = tiny.data(2, seed=11)
    assert (
        relative_error(outputs(sd_tvm.load(tmp_path / "tiny.sd"), "sd_accel", data), reference(data)) < 0.05
    )


@pytest.mark.parametrize(
    "calibration", [[], np.zeros((2, 3, 8, 8), np.float32), "images", 7, [np.full((1, 3, 16, 16), np.nan)]]
)
def test_bad_calibration(calibration: Any) -> None:
    with pytest.raises(sd_tvm.CalibrationError):
        sd_tvm.compress(*tiny.model(), calibration=calibration)


def test_recipe_that_matches_nothing() -> None:
    recipe = sd_tvm.Recipe.from_dict({"version": 1, "rules": [{"name": "con", "kind": "sd"}]})
    with pytest.raises(sd_tvm.RecipeError, match="'conv'"):
        sd_tvm.compress(*tiny.model(), recipe=recipe)


def test_targets_and_sizes_are_stored(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "version: 1\nrules:\n- {target: 'type:*', kind: sd, form: {basis: codebook, bases: 4}}\n"
        "- {target: 'type:depthwise', kind: int8}\n- {target: 're:st.m', kind: int8}\n"
        "- {target: 'type:*', max_weights: 800, kind: int8}\nsolver: {ridge: 2.0, damping: 0.5}\n",
        encoding="utf-8",
    )
    model = sd_tvm.compress(*tiny.model(), recipe=recipe, calibration=tiny.data(4))
    kinds = {row["node"]: row["kind"] for row in model.report}
    assert kinds == {"stem": "int8", "depthwise": "int8", "point": "int8", "conv": "sd", "fc": "int8"}
    model.save(tmp_path / "tiny.sd")
    again = sd_tvm.load(tmp_path / "tiny.sd")
    assert again.recipe == model.recipe == sd_tvm.Recipe.load(recipe)
    assert again.recipe.rules[3].max_weights == 800
    assert again.recipe.solver.ridge == 2.0


def test_solver_settings_reach_the_fit() -> None:
    def conv(**solver: float) -> bytes:
        recipe = sd_tvm.Recipe.from_dict({**sd_tvm.Recipe.default().to_dict(), "solver": solver})
        weight = sd_tvm.compress(*tiny.model(), recipe=recipe, calibration=tiny.data(4)).weights["conv"]
        assert isinstance(weight, SDWeight)
        return weight.coef.tobytes() + weight.basis.tobytes()

    assert conv() == conv(ridge=1.0, damping=0.1)
    assert len({conv(), conv(ridge=50.0), conv(damping=20.0)}) == 3


def test_skipped_layers_stay_float32() -> None:
    recipe = sd_tvm.Recipe.from_dict(
        {"version": 1, "rules": [{"op": "*", "kind": "int8"}, {"name": "conv", "kind": "skip"}]}
    )
    model = sd_tvm.compress(*tiny.model(), recipe=recipe, calibration=tiny.data())
    assert "conv" not in model.weights
    compiled = compile_module(model)
    assert {n.source_name for n in compiled.nodes if n.target == "cpu"} >= {"conv"}
    data = tiny.data(2, seed=11)
    assert relative_error(outputs(model, "sd_accel", data), reference(data)) < 0.01


def test_profile_adds_up_and_repeats(compressed: sd_tvm.CompressedModel) -> None:
    profiles = [sd_tvm.profile(compressed, [tiny.batch()], title="tiny") for _ in range(2)]
    report = profiles[0].report
    assert report.timed
    assert report.sums()["cycles"] == sum(row.cycles or 0 for row in report.layers) > 0
    assert report.sums()["energy_total_fj"] == sum(row.energy_total_fj or 0 for row in report.layers) > 0
    assert {row.name for row in report.layers} >= {"stem", "depthwise", "point", "conv", "fc"}
    assert report_to_json(report) == report_to_json(profiles[1].report)
    functional = sd_tvm.profile(compressed, [tiny.batch()], mode="functional")
    assert not functional.report.timed
    assert "no notion of time" in functional.report.notes[0]
    np.testing.assert_array_equal(functional.outputs[0], profiles[0].outputs[0])


@pytest.mark.parametrize("name", sd_tvm.AcceleratorConfig.names())
def test_profile_on_every_configuration(compressed: sd_tvm.CompressedModel, name: str) -> None:
    found = sd_tvm.profile(compressed, [tiny.batch()], config=name)
    assert found.report.config["name"] == name
    np.testing.assert_array_equal(found.outputs[0], outputs(compressed, "llvm", tiny.batch()))
