"""Sensitivities against direct measurement, real packed bytes, files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli import tiny
from tradeoff import small

import sd_tvm
from sd_tvm.calibration.gap import GAP_LIMIT
from sd_tvm.errors import BudgetError, CalibrationError, FormatError, NumericsError
from sd_tvm.format import inspect
from sd_tvm.recipe import Form, Recipe
from sd_tvm.tradeoff import OPTIONS
from sd_tvm.tradeoff.files import report_from_json, write_sensitivity
from sd_tvm.tradeoff.options import option_rule

MEASURED = [
    "int8",
    "two-term",
    "two-term-codebook",
    "levels9",
    "levels5",
    "ternary",
    "8:16-codebook",
    "4:16-codebook",
]
CHOSEN = ["int8", "two-term", "ternary-codebook", "4:16-codebook"]


@pytest.fixture(scope="module")
def report() -> sd_tvm.SensitivityReport:
    return sd_tvm.sensitivity(
        small.model()[0], small.data(8), example_inputs=small.model()[1], options=MEASURED, config="edge"
    )


def test_every_layer_in_every_option(report: sd_tvm.SensitivityReport) -> None:
    assert [layer.name for layer in report.layers] == ["first", "second", "dense"]
    assert [layer.macs for layer in report.layers] == [16 * 32 * 9 * 16, 32 * 48 * 9 * 16, 48 * 80]
    assert [layer.samples for layer in report.layers] == [4 * 16, 4 * 16, 4]
    assert (report.examples, report.held_out, report.watched, report.target) == (8, 4, 4, "edge")
    for layer in report.layers:
        rows = {row.option: row for row in layer.options}
        assert list(rows) == MEASURED
        assert rows["int8"].nbytes == layer.int8_bytes
        assert rows["int8"].shift_add_macs == 0
        errors = [rows[n].error for n in ("int8", "two-term", "levels9", "levels5", "ternary")]
        assert errors == sorted(errors)
        assert rows["8:16-codebook"].error < rows["4:16-codebook"].error
        assert rows["8:16-codebook"].sparsity >= 0.33
        assert rows["4:16-codebook"].shift_add_macs <= layer.macs / 2
        for row in layer.options:
            weights = int(np.prod(layer.shape))
            assert row.bits_per_weight == pytest.approx(8 * row.nbytes / weights)
            if row.next_option:
                step = rows[row.next_option]
                assert row.next_bytes == row.nbytes - step.nbytes > 0
                assert row.next_effect == step.effect - row.effect
            beaten = any(
                o.effect is not None
                and all(a <= b for a, b in zip(o.costs, row.costs, strict=True))
                and o.error <= row.error
                for o in layer.options
                if o is not row
            )
            assert (row.effect is None) == (beaten or (row.kind == "sd" and row.nbytes >= layer.int8_bytes))
            assert row.cycles is None or row.cycles > 0


def test_error_by_direct_measurement() -> None:
    """int8 by hand: output differences of each layer, means corrected on the fitted half where a bias is."""
    net, example = small.model()
    found = sd_tvm.sensitivity(net, small.data(12), example_inputs=example, options=["int8"])
    inputs: dict[str, list[torch.Tensor]] = {}
    for name, layer in net.named_children():
        layer.register_forward_hook(
            lambda _m, args, _out, name=name: inputs.setdefault(name, []).append(args[0].detach())
        )
    with torch.no_grad():
        for x in small.data(12):
            net(torch.from_numpy(x[None]))
    for measured in found.layers:
        layer = getattr(net, measured.name)
        weight = layer.weight.detach()
        scale = weight.abs().reshape(weight.shape[0], -1).max(1).values / 127
        scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
        rounded = torch.round(weight / scale) * scale

        def run(w: torch.Tensor, layer: Any = layer, name: str = measured.name) -> np.ndarray:
            x = torch.cat(inputs[name])
            y = (
                torch.nn.functional.conv2d(x, w, padding=layer.padding)
                if w.ndim == 4
                else torch.nn.functional.linear(x, w)
            )
            y = y.double().numpy()
            return y.reshape(*y.shape[:2], -1)  # examples, filters, positions

        y, d = run(weight), run(rounded) - run(weight)
        if layer.bias is not None:
            d = d - d[::2].mean(axis=(0, 2), keepdims=True)
        for half, value in ((slice(1, None, 2), "error"), (slice(0, None, 2), "fit_error")):
            spread = y[half] - y[half].mean(axis=(0, 2), keepdims=True)
            wanted = (d[half] ** 2).sum() / (spread**2).sum()
            assert getattr(measured.options[0], value) == pytest.approx(wanted, rel=2e-3)


def test_effect_by_direct_measurement() -> None:
    """int8 by hand: change of the whole network's output with one layer rounded, on held-out examples."""
    net, example = small.model()
    found = sd_tvm.sensitivity(net, small.data(8), example_inputs=example, options=["int8"])
    held_out = torch.from_numpy(small.data(8)[1::2])
    seen = torch.from_numpy(small.data(8)[::2])
    inputs: dict[str, torch.Tensor] = {}
    for name, layer in net.named_children():
        layer.register_forward_hook(lambda _m, args, _o, name=name: inputs.__setitem__(name, args[0]))
    for measured in found.layers:
        layer = getattr(net, measured.name)
        with torch.no_grad():
            net(seen)
            x, old = inputs[measured.name], layer.weight.clone()
            wanted = net(held_out).double()
            scale = old.abs().reshape(old.shape[0], -1).max(1).values / 127
            scale = scale.reshape(-1, *[1] * (old.ndim - 1))
            before = layer(x)
            layer.weight.copy_(torch.round(old / scale) * scale)
            bias = None if layer.bias is None else layer.bias.clone()
            if bias is not None:
                drift = layer(x) - before
                layer.bias -= drift.mean([d for d in range(drift.ndim) if d != 1])
            change = ((net(held_out).double() - wanted) ** 2).mean(1) / wanted.var(correction=0)
            layer.weight.copy_(old)
            if bias is not None:
                layer.bias.copy_(bias)
        row = measured.options[0]
        assert row.effect == pytest.approx(float(change.mean()), rel=5e-3)
        assert row.effect_spread == pytest.approx(float(change.std()) / len(change) ** 0.5, rel=2e-2)


@pytest.mark.parametrize("name", ["two-term", "levels5", "4:16-codebook"])
def test_bytes_are_those_of_the_file(report: sd_tvm.SensitivityReport, name: str, tmp_path: Path) -> None:
    net, example = small.model()
    rules = [option_rule(layer_info(layer), OPTIONS[name]) for layer in report.layers]
    recipe = Recipe.from_dict({"version": 1, "rules": rules})
    sd_tvm.compress(net, example, recipe=recipe).save(tmp_path / "a.sd")
    stored = {layer.name: layer for layer in inspect(tmp_path / "a.sd").layers}
    for layer in report.layers:
        row = next(r for r in layer.options if r.option == name)
        assert stored[layer.name].nbytes == row.nbytes
        assert (stored[layer.name].pattern, stored[layer.name].basis) == (row.pattern, row.basis)


def layer_info(layer: Any) -> Any:
    from sd_tvm.recipe import LayerInfo

    return LayerInfo(layer.name, layer.op, layer.shape)


def test_warnings(report: sd_tvm.SensitivityReport) -> None:
    assert any("too small" in text for _, _, text in report.warnings())
    for layer in report.layers:
        for row in layer.options:
            too_small = any("calibration set is too small" in text for text in row.warnings)
            assert too_small == (
                row.kind == "sd" and row.gap is not None and row.gap > GAP_LIMIT and row.error > 1e-3
            )
    net, example = tiny.model()
    options: dict[str, Form | None] = {"int8": None, "sd": Form()}
    found = sd_tvm.sensitivity(net, tiny.data(4), example_inputs=example, options=options)
    depthwise = next(layer for layer in found.layers if layer.op == "depthwise")
    assert "got no smaller" in depthwise.options[1].warnings[0]
    assert depthwise.usable() == [0]


def test_one_example_is_said_to_flatter() -> None:
    net, example = small.model()
    found = sd_tvm.sensitivity(net, small.data(1), example_inputs=example, options=["int8", "8:16-codebook"])
    assert any("one calibration example" in note for note in found.notes)
    assert found.held_out == 0
    assert all(row.error == row.fit_error for layer in found.layers for row in layer.options)


def test_files(report: sd_tvm.SensitivityReport, tmp_path: Path) -> None:
    text = report.to_json()
    assert next(iter(json.loads(text))) == "schema_version"
    again = report_from_json(text)
    assert again.to_json() == text
    page = write_sensitivity(report, tmp_path / "out")
    html = page.read_text(encoding="utf-8")
    assert page.with_suffix(".json").read_text(encoding="utf-8") == text
    assert not re.search(r"<script|https?://|src=", html)
    for layer in report.layers:
        assert f">{layer.name}<" in html
    for damaged in (text.replace('"schema_version": 2', '"schema_version": 99', 1), "{}", "no", "[]"):
        with pytest.raises(FormatError):
            report_from_json(damaged)


def test_names_are_escaped_in_the_page(report: sd_tvm.SensitivityReport) -> None:
    from dataclasses import replace

    from sd_tvm.tradeoff.page import render_sensitivity

    nasty = replace(report.layers[0], name="<script>alert(1)</script>")
    assert "<script" not in render_sensitivity(replace(report, layers=(nasty,), title="<script>"))


def test_refusals() -> None:
    net, example = small.model()
    with pytest.raises(BudgetError, match=r"3:16"):
        sd_tvm.sensitivity(net, small.data(2), example_inputs=example, options=["3:16"])
    with pytest.raises(BudgetError, match="no options"):
        sd_tvm.sensitivity(net, small.data(2), example_inputs=example, options=[])
    with pytest.raises(CalibrationError):
        sd_tvm.sensitivity(net, None, example_inputs=example)
    with pytest.raises(CalibrationError):
        sd_tvm.sensitivity(net, np.full((2, *small.SHAPE[1:]), np.nan, np.float32), example_inputs=example)
    with torch.no_grad():
        net.dense.weight[0, 0] = float("inf")
    with pytest.raises((NumericsError, CalibrationError)):
        sd_tvm.sensitivity(net, small.data(2), example_inputs=example, options=CHOSEN)


def test_constant_inputs_and_dead_filters() -> None:
    net, example = small.model()
    with torch.no_grad():
        net.second.weight[3] = 0
        net.first.weight[:] = 0
    found = sd_tvm.sensitivity(
        net, np.ones((4, *small.SHAPE[1:]), np.float32), example_inputs=example, options=CHOSEN
    )
    for layer in found.layers:
        for row in layer.options:
            assert np.isfinite([row.error, row.fit_error]).all()
