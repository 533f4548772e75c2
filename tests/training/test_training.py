"""Training in SD form: what the model computes with, what moves, and what the file holds."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import sd_tvm
from sd_tvm import training
from sd_tvm.errors import (
    BudgetError,
    MissingExtraError,
    NumericsError,
    OptionError,
    RecipeError,
    UnsupportedDTypeError,
    UnsupportedModelError,
)
from sd_tvm.recipe import Recipe
from sd_tvm.training.projection import search_again
from sd_tvm.weights.tensor import ROWS_KEPT, SDWeight

IMAGES = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)


def recipe(pattern: str, alphabet: str = "two-term", **form: object) -> Recipe:
    whole = {"pattern": pattern, "alphabet": alphabet, **form}
    rules = [
        {"op": "*", "kind": "sd", "form": whole, "even_if_larger": True},
        {"name": "0", "kind": "int8"},
    ]
    return Recipe.from_dict({"version": 1, "rules": rules})


def network(seed: int = 0) -> nn.Sequential:
    """Convolutions with and without batch norm (of both signs), depthwise, dense."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 48, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, 5),
    )
    for norm in (model[1], model[4]):
        with torch.no_grad():
            norm.weight.copy_(torch.where(torch.arange(len(norm.weight)) % 3 == 0, -0.7, 1.3))
            norm.bias.normal_(0, 0.1)
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
    return model


def rebuild_by_hand(weight: SDWeight) -> np.ndarray:
    """scale * (Ce . B) with Python integers, row by row: w[m, r, :] = sum over k of c[k] * B[k, :]."""
    m, rows, s = weight.coef.shape
    out = np.zeros((m, rows, s))
    for i in range(m):
        for r in range(rows):
            basis = weight.basis[weight.ids[i] if weight.ids is not None else i]
            for t in range(s):
                out[i, r, t] = sum(int(weight.coef[i, r, k]) * int(basis[k, t]) for k in range(s))
    return (out * weight.scale.astype(np.float64)[:, None, None]).astype(np.float32)


def train(
    model: nn.Module, handle: training.handle.Handle, *, epochs: int, steps: int = 3, rate: float = 0.05
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), rate, 0.9)
    follow = handle.follow(optimizer)
    images, labels = torch.from_numpy(IMAGES), torch.tensor([0, 1, 2, 3])
    for epoch in range(epochs):
        handle.begin_epoch(epoch)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        handle.end_epoch()
    follow.remove()


def test_layers_compute_with_what_the_codes_rebuild() -> None:
    model = network()
    handle = training.attach(model, recipe("4:16", basis="codebook", bases=4))
    weight = handle.weights["3"]
    assert isinstance(weight, SDWeight)
    expected = rebuild_by_hand(weight).reshape(24, 16, 3, 3)  # rows of taps: (channel, kernel row)
    assert np.array_equal(model[3].weight.detach().numpy(), expected)
    values = handle.weights["0"]
    by_hand = values.values.astype(np.float64) * values.scale[:, None, None, None].astype(np.float64)
    assert np.array_equal(model[0].weight.detach().numpy(), by_hand.astype(np.float32))


def test_gradient_reaches_the_float_weight_and_moves_codes() -> None:
    model = network()
    before = model[3].weight
    handle = training.attach(model, recipe("8:16"), training.Options(every=2, pull=0.0))
    assert handle.layers["3"].master is before  # an optimiser made earlier goes on
    (model(torch.from_numpy(IMAGES)).square().sum()).backward()
    got = before.grad.clone()

    twin = network()
    with torch.no_grad():
        for name, layer in handle.layers.items():
            twin[int(name)].weight.copy_(layer.form.rebuilt)
    twin(torch.from_numpy(IMAGES)).square().sum().backward()
    assert torch.equal(got, twin[3].weight.grad)  # as if the rebuilt weight itself were trained

    codes = {name: np.array(w.integer()) for name, w in handle.weights.items()}
    train(model, handle, epochs=1, steps=4)
    assert handle.moved > 0
    assert any((w.integer() != codes[name]).any() for name, w in handle.weights.items())


def test_pull_fades_dropped_weights_only() -> None:
    model = network()
    handle = training.attach(model, recipe("2:16"), training.Options(pull=0.5))
    layer = handle.layers["6"]
    (0 * model[6].weight.sum()).backward()
    dropped = layer.form.rebuilt == 0
    assert dropped.any()
    assert torch.equal(layer.master.grad, 0.5 * layer.master.detach() * dropped)


@pytest.mark.parametrize(
    "form",
    [
        {"pattern": "16:16"},
        {"pattern": "4:16", "basis": "codebook", "bases": 3},
        {"pattern": "2:16", "alphabet": "levels5"},
        {"pattern": "8:16", "basis": "slice", "slice_rows": 16},
        {"pattern": "shared", "kept": 0.5, "group_filters": 16},
    ],
)
def test_search_is_a_projection(form: dict[str, object]) -> None:
    handle = training.attach(network(), recipe(**form))
    for name, weight in handle.weights.items():
        again = search_again(weight.dequantize(), weight)
        assert np.array_equal(again.integer(), weight.integer()), name
        assert np.array_equal(again.scale, weight.scale), name


def test_search_finds_the_nearest_row() -> None:
    """Against all rows of codes of three levels, and the two rows of 16 with most energy."""
    handle = training.attach(network(), recipe("2:16", "ternary"))
    weight = handle.weights["6"]
    assert isinstance(weight, SDWeight)
    master = np.random.default_rng(1).normal(0, 0.2, size=weight.shape).astype(np.float32)
    found = search_again(master, weight)
    rows = master.reshape(48, 8, 3)  # 24 channels, three a row: one block, of eight rows
    every = np.array([[a, b, c] for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)], np.float64)
    for m in range(48):
        kept = set(np.argsort(-(rows[m] ** 2).sum(axis=1))[:2].tolist())
        options = every @ weight.basis[m].astype(np.float64) * float(weight.scale[m])
        for r in range(8):
            got = found.coef[m, r].astype(np.float64) @ weight.basis[m] * float(weight.scale[m])
            best = ((options - rows[m, r]) ** 2).sum(axis=1).min() if r in kept else (rows[m, r] ** 2).sum()
            assert ((got - rows[m, r]) ** 2).sum() == pytest.approx(best, rel=1e-4)


def test_gradual_pruning_obeys_the_schedule() -> None:
    model = network()
    options = training.Options(rows=(16, 8, 4), every=1)
    handle = training.attach(model, recipe("2:16"), options)
    for epoch, allowed in enumerate((16, 8, 4, 2, 2)):
        handle.begin_epoch(epoch)
        for name, weight in handle.weights.items():
            if not isinstance(weight, SDWeight):
                continue
            used = (weight.coef != 0).any(axis=2)
            blocks = np.pad(used, ((0, 0), (0, -used.shape[1] % 16))).reshape(len(used), -1, 16).sum(axis=2)
            assert blocks.max() <= allowed, name
            assert ROWS_KEPT[weight.form.pattern] == allowed
        if allowed > 2:
            with pytest.raises(OptionError, match="rows of 16 still"):
                handle.export((torch.from_numpy(IMAGES[:1]),))


@pytest.mark.parametrize("mode", training.options.MODES)
def test_the_file_holds_exactly_the_trained_codes(mode: str, tmp_path) -> None:
    model = network()
    options = training.Options(mode=mode, every=1, rows=(8,))
    handle = training.attach(model, recipe("4:16", "levels7", basis="codebook", bases=5), options)
    train(model, handle, epochs=3)
    model.eval()
    compressed = handle.export((torch.from_numpy(IMAGES[:1]),), calibration=IMAGES)
    compressed.save(tmp_path / "net.sd")
    stored = sd_tvm.load(tmp_path / "net.sd").weights
    assert set(stored) == {"0", "3", "6", "10"}
    for name in ("6", "10"):  # no batch norm: the very numbers
        want = model[int(name)].weight.detach().numpy().reshape(stored[name].shape)
        assert np.array_equal(stored[name].dequantize(), want)
    for name, norm in (("0", model[1]), ("3", model[4])):
        factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().double().numpy()
        assert (factor < 0).any()
        assert (factor > 0).any()
        weight = handle.weights[name]
        sign = np.sign(factor)[:, None, None, None].astype(int)
        assert np.array_equal(stored[name].integer(), sign * weight.integer())
        dead = (weight.integer() == 0).all(axis=(1, 2, 3))
        np.testing.assert_allclose(
            stored[name].scale[~dead], (np.abs(factor) * weight.scale)[~dead], rtol=1e-6
        )
        if isinstance(weight, SDWeight):
            assert np.array_equal(stored[name].basis, weight.basis)
    assert not compressed.notes


def test_project_mode_is_free_in_training_and_projected_after() -> None:
    model = network()
    handle = training.attach(model, recipe("4:16"), training.Options(mode="project"))
    layer = handle.layers["3"]
    assert torch.equal(model.train()[3].weight, layer.master)
    assert torch.equal(model.eval()[3].weight, layer.form.rebuilt)
    model.train()
    train(model, handle, epochs=1)
    assert torch.equal(layer.master, layer.form.rebuilt)


def test_frozen_codes_stay() -> None:
    model = network()
    handle = training.attach(model, recipe("8:16"), training.Options(every=1))
    handle.freeze()
    train(model, handle, epochs=2, rate=0.5)
    assert handle.moved == 0


def test_state_dict_brings_everything_back() -> None:
    model, twin = network(), network(1)
    handle = training.attach(model, recipe("4:16", basis="codebook", bases=4))
    other = training.attach(twin, recipe("4:16", basis="codebook", bases=4))
    train(model, handle, epochs=1)
    twin.load_state_dict(model.state_dict())
    other.load_state_dict(handle.state_dict())
    assert other.moved == handle.moved > 0
    for name, weight in handle.weights.items():
        assert np.array_equal(weight.dequantize(), other.weights[name].dequantize())
    x = torch.from_numpy(IMAGES)
    assert torch.equal(model.eval()(x), twin.eval()(x))


def test_copies_and_detaching_leave_the_values() -> None:
    model = network()
    handle = training.attach(model, recipe("8:16"))
    x = torch.from_numpy(IMAGES)
    want = model.eval()(x)
    assert torch.equal(handle.plain()(x), want)
    assert torch.equal(handle.plain()(x), want)  # the first copy took nothing from the model
    handle.detach()
    assert torch.equal(model(x), want)
    assert type(model[3]) is nn.Conv2d


def test_position_follows_the_order_of_running() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(x))

    rules = [{"op": "*", "kind": "int8"}, {"op": "*", "position": "first", "kind": "skip"}]
    wanted = Recipe.from_dict({"version": 1, "rules": rules})
    handle = training.attach(Backwards(), wanted, example_inputs=torch.zeros(1, 6))
    assert list(handle.layers) == ["last"]


def test_distillation_moves_codes_towards_the_teacher() -> None:
    teacher = network().eval()
    student = copy.deepcopy(teacher)
    handle = training.attach(student, recipe("4:16"), training.Options(every=1))
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(32, 3, 8, 8)).astype(np.float32))

    def divergence() -> float:
        with torch.no_grad():
            p, q = teacher(x).log_softmax(1), student.eval()(x).log_softmax(1)
        return float((p.exp() * (p - q)).sum(1).mean())

    before, statistics = divergence(), student[4].running_mean.clone()
    student.train()
    done = training.distill(
        student, teacher, x, handle=handle, blocks=("3", "6"), epochs=6, block_epochs=3, batch=8, rate=3e-3
    )
    assert student.training
    assert done.moved > 0
    assert done.losses[-1] < done.losses[0]
    assert all(losses[-1] < losses[0] for losses in done.block_losses.values())
    assert divergence() < before
    assert torch.equal(student[4].running_mean, statistics)


def test_compress_takes_weights_that_are_compressed_already() -> None:
    model = network()
    handle = training.attach(model, recipe("8:16"))
    plain = handle.plain()
    x = (torch.from_numpy(IMAGES[:1]),)
    some = {name: w for name, w in handle.weights.items() if name != "10"}
    found = sd_tvm.compress(plain, x, recipe=recipe("8:16"), weights=some)
    assert set(found.weights) == {"0", "3", "6", "10"}  # the last one is fitted
    with pytest.raises(RecipeError, match="no layers of the imported network"):
        sd_tvm.compress(plain, x, recipe=recipe("8:16"), weights={"nothing": some["3"]})
    found = sd_tvm.compress(plain, x, recipe=recipe("8:16"), weights={**some, "aside": some["3"]})
    assert any(note.startswith("aside: no layer that can be compressed") for note in found.notes)
    with pytest.raises(NumericsError, match="no multiple"):
        sd_tvm.compress(network(1), x, recipe=recipe("8:16"), weights=some)
    with pytest.raises(BudgetError, match="compressed already"):
        sd_tvm.compress(plain, x, budget={"size": 5.0}, calibration=IMAGES, weights=some)


def test_importing_loads_neither_torch_nor_tvm() -> None:
    code = "import sys, sd_tvm.training as t; t.Options(); assert not {'torch', 'tvm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torch_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"sd-tvm\[torch\]"):
        training.attach(object(), "default")


def test_user_errors_are_typed() -> None:
    with pytest.raises(UnsupportedModelError, match="no torch module"):
        training.attach("net", "default")
    with pytest.raises(UnsupportedModelError, match="no layer"):
        training.attach(nn.ReLU(), "default")
    with pytest.raises(RecipeError, match="matches none"):
        training.attach(network(), Recipe.from_dict({"version": 1, "rules": [{"name": "x", "kind": "int8"}]}))
    with pytest.raises(RecipeError, match="skips all"):
        training.attach(network(), "fp32")
    with pytest.raises(UnsupportedDTypeError):
        training.attach(network().double(), "default")
    with pytest.raises(OptionError, match="N < 16"):
        training.attach(network(), recipe("16:16"), training.Options(rows=(16,)))
    model = network()
    handle = training.attach(model, recipe("16:16"))
    with pytest.raises(UnsupportedModelError, match="parametrised already"):
        training.attach(model, "default")
    with torch.no_grad():
        handle.layers["3"].master[0, 0, 0, 0] = float("nan")
    with pytest.raises(NumericsError, match="'3'"):
        handle.search()
    bad = network()
    bad[3].weight.data.fill_(float("inf"))
    with pytest.raises(NumericsError, match="'3'"):
        training.attach(bad, "default")
    for options in (
        {"mode": "free"},
        {"every": 0},
        {"every": True},
        {"rows": (12,)},
        {"rows": (4, 8)},
        {"rows": [4]},
        {"hold_bases": -1},
        {"pull": float("nan")},
    ):
        with pytest.raises(OptionError, match=next(iter(options))):
            training.Options(**options)


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": -1},
        {"batch": 0},
        {"rate": 0.0},
        {"temperature": -1.0},
        {"feature_weight": -1.0},
        {"blocks": ("x",)},
        {"blocks": ("5",)},
    ],
)
def test_distillation_refuses_what_makes_no_sense(bad: dict[str, object]) -> None:
    teacher = network().eval()
    student = copy.deepcopy(teacher)
    handle = training.attach(student, recipe("16:16"))
    with pytest.raises(OptionError):
        training.distill(student, teacher, IMAGES, handle=handle, **bad)
    with pytest.raises(OptionError, match="another model"):
        training.distill(teacher, teacher, IMAGES, handle=handle)
    with pytest.raises(OptionError, match="no inputs"):
        training.distill(student, teacher, IMAGES[:0], handle=handle)
