"""Recipes: YAML round trip, refusals, how rules combine, and sizes that are the packed ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weights.reference import random_weight

from sd_tvm.errors import RecipeError
from sd_tvm.recipe import PRESETS, Form, LayerInfo, Recipe, Rule
from sd_tvm.weights.packing import packed_nbytes
from sd_tvm.weights.stored import store
from sd_tvm.weights.tensor import RawWeight, WeightForm

NET = [
    LayerInfo("stem", "conv2d", (32, 3, 3, 3)),
    LayerInfo("blocks.0.dw", "depthwise", (32, 1, 3, 3), groups=32),
    LayerInfo("blocks.0.project", "conv2d", (16, 32, 1, 1)),
    LayerInfo("blocks.1.expand", "conv2d", (480, 80, 1, 1)),
    LayerInfo("blocks.1.project", "conv2d", (80, 480, 1, 1)),
    LayerInfo("wave", "conv1d", (64, 64, 5)),
    LayerInfo("classifier", "dense", (1000, 1280)),
]


def recipe(*rules: dict[str, Any], **rest: Any) -> Recipe:
    """Recipe of these rules."""
    return Recipe.from_dict({"version": 1, "rules": list(rules), **rest})


def kinds(r: Recipe) -> dict[str, str]:
    """What becomes of each layer of NET."""
    return {name: plan.kind for name, plan in r.plan(NET).items()}


# --- plans ---


def test_default() -> None:
    plan = Recipe.default().plan(NET)
    assert {n: p.kind for n, p in plan.items()} == {
        "stem": "int8",
        "blocks.0.dw": "int8",
        "blocks.0.project": "int8",  # SD form would be larger in use
        "blocks.1.expand": "sd",
        "blocks.1.project": "sd",
        "wave": "sd",
        "classifier": "sd",
    }
    small = plan["blocks.0.project"]
    assert small.rule == 0
    assert small.sd_bytes is not None
    used = [packed_nbytes((16, 32, 1, 1), form, 16) for form in (WeightForm(), None)]
    assert small.sd_bytes < small.int8_bytes  # in the file, where nothing is padded
    assert used[0] >= used[1]
    assert (
        f"SD form takes {used[0]} bytes in use and {small.sd_bytes} in the file, int8 {used[1]} and "
        f"{small.int8_bytes}" in small.reason
    )
    form = plan["classifier"].form
    assert form is not None
    assert (form.pattern, form.alphabet, form.basis_kind) == ("16:16", "two-term", "filter")
    assert plan["classifier"].n_bases == 1000
    assert "depthwise" in plan["blocks.0.dw"].reason
    assert "first" in plan["stem"].reason


def test_the_last_rule_that_matches_wins() -> None:
    everything = {"op": "*", "kind": "int8"}
    named = {"name": "stem", "kind": "skip"}
    assert kinds(recipe(everything, named))["stem"] == "skip"
    assert kinds(recipe(named, everything))["stem"] == "int8"
    assert recipe(everything, named).plan(NET)["stem"].rule == 1


def test_selectors() -> None:
    for rule, names in (
        ({"name": "blocks.1.project"}, ["blocks.1.project"]),
        ({"name": "blocks.*.project"}, ["blocks.0.project", "blocks.1.project"]),
        ({"name": "blocks.?.expand"}, ["blocks.1.expand"]),
        ({"regex": r"blocks\.\d\.(dw|expand)"}, ["blocks.0.dw", "blocks.1.expand"]),
        ({"regex": "stem|wav"}, ["stem"]),  # the whole name
        ({"op": "dense"}, ["classifier"]),
        ({"op": "conv1d"}, ["wave"]),
        ({"op": "depthwise"}, ["blocks.0.dw"]),
        ({"op": "conv2d", "position": "first"}, ["stem"]),
        ({"op": "conv2d", "position": "last"}, ["blocks.1.project"]),
        ({"op": "*", "position": "last"}, ["classifier"]),
        ({"name": "blocks*", "position": "first"}, ["blocks.0.dw"]),
    ):
        chosen = kinds(recipe({**rule, "kind": "skip"}))
        assert [n for n, kind in chosen.items() if kind == "skip"] == names, rule


def test_targets() -> None:
    for target, names in (
        ("blocks.1.project", ["blocks.1.project"]),
        ("blocks.*.project", ["blocks.0.project", "blocks.1.project"]),
        (r"re:blocks\.\d\.(dw|expand)", ["blocks.0.dw", "blocks.1.expand"]),
        ("type:dense", ["classifier"]),
        ("type:conv2d", ["stem", "blocks.0.project", "blocks.1.expand", "blocks.1.project"]),
    ):
        chosen = kinds(recipe({"target": target, "kind": "skip"}))
        assert [n for n, kind in chosen.items() if kind == "skip"] == names, target
    assert Rule.model_validate({"target": "re:a|b", "kind": "skip"}) == Rule(regex="a|b", kind="skip")
    assert Rule.model_validate({"target": "type:*", "kind": "skip"}) == Rule(op="*", kind="skip")
    # a layer whose name looks like a target is reached by name
    assert Rule(name="re:a", kind="skip").select([LayerInfo("re:a", "dense", (2, 3))]) == ["re:a"]


def test_sizes() -> None:
    sizes = {layer.name: layer.n_weights for layer in NET}
    assert (sizes["blocks.0.dw"], sizes["blocks.0.project"], sizes["wave"]) == (288, 512, 20480)
    for bounds, wanted in (
        ({"max_weights": 511}, {"blocks.0.dw"}),
        ({"max_weights": 512}, {"blocks.0.dw", "blocks.0.project"}),
        ({"min_weights": 20481}, {"blocks.1.expand", "blocks.1.project", "classifier"}),
        ({"min_weights": 20480, "max_weights": 20480}, {"wave"}),
        ({"max_weights": 1}, set()),
    ):
        chosen = kinds(recipe({"op": "*", **bounds, "kind": "skip"}))
        assert {n for n, kind in chosen.items() if kind == "skip"} == wanted, bounds
    # bounds first, then position
    first = kinds(recipe({"op": "conv2d", "min_weights": 900, "position": "first", "kind": "skip"}))
    assert [n for n, kind in first.items() if kind == "skip"] == ["blocks.1.expand"]
    why = recipe({"target": "type:dense", "min_weights": 9, "kind": "skip"}).plan(NET)["classifier"].reason
    assert why == "rule 0 (op: dense, min_weights: 9)"


@settings(max_examples=100)
@given(st.integers(1, 2000), st.integers(1, 2000), st.lists(st.integers(1, 2000), max_size=8))
def test_sizes_are_inclusive(low: int, high: int, sizes: list[int]) -> None:
    layers = [LayerInfo(str(i), "dense", (n, 1)) for i, n in enumerate(sizes)]
    low, high = min(low, high), max(low, high)
    found = Rule(op="*", min_weights=low, max_weights=high, kind="skip").select(layers)
    assert found == [str(i) for i, n in enumerate(sizes) if low <= n <= high]


def test_a_size_may_leave_nothing_but_the_name_must_match() -> None:
    small = {"name": "classifier", "max_weights": 10, "kind": "skip"}
    assert set(kinds(recipe(small)).values()) == {"int8"}
    with pytest.raises(RecipeError, match=r"name: clasifier, max_weights: 10\) matches none"):
        recipe({**small, "name": "clasifier"}).plan(NET)


def test_codebook64() -> None:
    plan = Recipe.named("codebook64").plan([*NET, LayerInfo("small", "conv2d", (40, 144, 1, 1))])
    assert {n: p.kind for n, p in plan.items()} == {
        "stem": "int8",
        "blocks.0.dw": "int8",
        "blocks.0.project": "int8",
        "blocks.1.expand": "sd",
        "blocks.1.project": "sd",
        "wave": "sd",
        "classifier": "sd",
        "small": "int8",  # 5,760 weights, though SD form is smaller
    }
    form = plan["classifier"].form
    assert form is not None
    assert (form.pattern, form.alphabet, form.basis_kind) == ("16:16", "two-term", "codebook")
    assert plan["classifier"].n_bases == 64


def test_a_name_with_brackets_matches_itself() -> None:
    layers = [LayerInfo("conv[0]", "conv2d", (8, 8, 3, 3))]
    assert recipe({"name": "conv[0]", "kind": "skip"}).plan(layers)["conv[0]"].kind == "skip"


@pytest.mark.parametrize("selector", [{"name": "blocks.1.projet"}, {"regex": "blocks.1.proj"}])
@pytest.mark.parametrize("spelling", ["selector", "target"])
def test_a_name_that_matches_nothing_is_refused(selector: dict[str, str], spelling: str) -> None:
    if spelling == "target":
        written = (
            {"target": f"re:{selector['regex']}"} if "regex" in selector else {"target": selector["name"]}
        )
    else:
        written = selector
    with pytest.raises(RecipeError) as caught:
        recipe({"op": "*", "kind": "int8"}, {**written, "kind": "skip"}).plan(NET)
    message = str(caught.value)
    assert "rule 1" in message
    assert next(iter(selector.values())) in message
    assert "'blocks.1.project'" in message
    assert "7 layers" in message


def test_an_operator_may_match_nothing() -> None:
    assert recipe({"op": "depthwise", "kind": "int8"}).plan(NET[:1])["stem"].kind == "int8"


def test_otherwise() -> None:
    assert set(kinds(recipe()).values()) == {"int8"}
    assert set(kinds(recipe(otherwise="skip")).values()) == {"skip"}
    assert "no rule matches" in recipe().plan(NET)["stem"].reason


def test_layers_of_one_name_are_refused() -> None:
    with pytest.raises(RecipeError, match="stem"):
        recipe().plan([NET[0], NET[0]])


def test_even_if_larger() -> None:
    rule = {"name": "blocks.0.project", "kind": "sd", "even_if_larger": True}
    plan = recipe(rule).plan(NET)["blocks.0.project"]
    assert plan.kind == "sd"
    assert kinds(recipe({**rule, "even_if_larger": False}))["blocks.0.project"] == "int8"


def test_forms_follow_the_geometry() -> None:
    sliced = recipe(
        {"op": "*", "kind": "sd", "even_if_larger": True, "form": {"basis": "slice", "slice_rows": 64}}
    ).plan(NET)
    classifier, stem = sliced["classifier"], sliced["stem"]
    assert classifier.form is not None
    assert stem.form is not None
    assert (classifier.form.basis_kind, classifier.n_bases) == ("slice", 7 * 1000)  # 427 rows
    assert (stem.form.basis_kind, stem.form.slice_rows, stem.n_bases) == ("filter", 0, 32)
    shared = recipe(
        {"op": "*", "kind": "sd", "even_if_larger": True, "form": {"pattern": "shared", "kept": 0.25}}
    ).plan(NET)
    form = shared["blocks.1.project"].form
    assert form is not None
    assert (form.kept_rows, form.group_filters) == (40, 32)  # 160 rows
    tiny = shared["blocks.0.dw"].form
    assert tiny is not None
    assert tiny.kept_rows == 1
    many = {"pattern": "shared", "kept_rows": 100, "basis": "codebook", "bases": 200}
    clamped = recipe({"op": "*", "kind": "sd", "even_if_larger": True, "form": many}).plan(NET)["stem"]
    assert clamped.form is not None
    assert (clamped.form.kept_rows, clamped.n_bases) == (9, 32)


FORMS = st.sampled_from(
    [
        {"pattern": "16:16"},
        {"pattern": "8:16", "alphabet": "pow2-7"},
        {"alphabet": "levels5"},
        {"pattern": "8:16", "alphabet": "ternary", "basis": "codebook", "bases": 5},
        {"pattern": "4:16", "basis": "slice", "slice_rows": 32},
        {"pattern": "2:16", "basis": "codebook", "bases": 5},
        {"pattern": "shared", "kept": 0.3, "group_filters": 16, "alphabet": "pow2-5"},
        {"pattern": "shared", "kept_rows": 7, "basis": "codebook"},
    ]
)
SHAPES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 80)),
    st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9)),
    st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 5), st.integers(1, 9)),
)


@settings(max_examples=150)
@given(FORMS, SHAPES)
def test_bytes_are_those_of_the_stored_arrays(form: dict[str, Any], shape: tuple[int, ...]) -> None:
    layer = LayerInfo("x", "conv2d", shape)
    rule = {"op": "*", "kind": "sd", "even_if_larger": True, "form": form}
    plan = recipe(rule).plan([layer])["x"]
    assert plan.form is not None
    whole = layer.geometry.shape
    weight = random_weight(whole, plan.form, plan.n_bases, 1)
    assert weight.basis.shape[0] == plan.n_bases
    packed = sum(a.nbytes for a in store(weight).values())
    assert plan.sd_bytes == packed
    raw = RawWeight(np.zeros(whole, np.int8), weight.scale)
    assert plan.int8_bytes == sum(a.nbytes for a in store(raw).values())
    wins = recipe({**rule, "even_if_larger": False}).plan([layer])["x"]
    used = packed_nbytes(whole, plan.form, plan.n_bases) < packed_nbytes(whole, None)
    assert wins.kind == ("sd" if used and packed < plan.int8_bytes else "int8")


# --- YAML ---


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_survive_yaml(name: str) -> None:
    preset = Recipe.named(name)
    text = preset.to_yaml()
    assert Recipe.from_yaml(text) == preset
    assert Recipe.from_yaml(text).to_yaml() == text
    assert preset.plan(NET)


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=10)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Random valid rules."""
    selector: dict[str, Any] = draw(
        st.one_of(
            st.builds(lambda n: {"name": n}, TEXTS),
            st.sampled_from([{"regex": r"a\.(b|c)+"}, {"op": "*"}, {"op": "dense"}, {"op": "depthwise"}]),
        )
    )
    low = draw(st.one_of(st.none(), st.integers(1, 10**9)))
    high = draw(st.one_of(st.none(), st.integers(low or 1, 10**9)))
    bounds = {"min_weights": low, "max_weights": high}
    position = draw(st.sampled_from([{}, {"position": "first"}, {"position": "last"}]))
    kind = draw(st.sampled_from(["sd", "int8", "skip"]))
    form = draw(st.one_of(st.none(), FORMS)) if kind == "sd" else None
    return Rule.model_validate({**selector, **bounds, **position, "kind": kind, "form": form})


@given(st.lists(rules(), max_size=5), st.sampled_from(["int8", "skip"]))
def test_any_recipe_survives_yaml(some: list[Rule], otherwise: Any) -> None:
    value = Recipe(rules=tuple(some), otherwise=otherwise)
    again = Recipe.from_yaml(value.to_yaml())
    assert again == value
    assert again.to_yaml() == value.to_yaml()


def test_targets_are_stored_as_what_they_mean() -> None:
    text = "version: 1\nrules: [{target: 're:a.*', max_weights: 6000, kind: int8}]\n"
    value = Recipe.from_yaml(text)
    rule = {"regex": "a.*", "max_weights": 6000, "kind": "int8", "even_if_larger": False}
    assert value.to_dict()["rules"] == [rule]
    assert Recipe.from_yaml(value.to_yaml()) == value


def test_keys_that_are_not_given_are_not_written() -> None:
    """A file that was written before a key existed stays in canonical form."""
    data = recipe({"op": "*", "kind": "int8"}).to_dict()
    assert data["rules"] == [{"op": "*", "kind": "int8", "even_if_larger": False}]
    assert data["solver"] == {"method": "alternating", "iterations": 30}


def test_patterns_need_no_quotes() -> None:
    """YAML 1.1 reads 4:16 as the sexagesimal number 256."""
    text = "version: 1\nrules:\n- {op: '*', kind: sd, form: {pattern: 4:16}}\n"
    assert Recipe.from_yaml(text).rules[0].form == Form(pattern="4:16")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\nversion: 1", "line 2.*duplicate key 'version'"),
        ("version: 1\nsolver: {method: official, method: official}", "duplicate key 'method'"),
        ("version: 1\nrules: &a []", "anchors"),
        ("version: 1\nrules: !!python/object/apply:os.system [ls]", "tag"),
        ("version: 1\nrules: [", "line"),
        ("version: 1\n? [a]\n: 2", "key that is not a scalar"),
        ("[1, 2]", "list instead of a mapping"),
        ("", "NoneType instead of a mapping"),
        ("rules: []", "no version"),
        ("version: 2", "version"),
        ("version: 1\nrule: []", "rule: Extra inputs"),
        ("version: 1\nrules: [{op: '*'}]", "rules.0.kind"),
        ("version: 1\nrules: [{kind: sd}]", "exactly one of target, name, regex, op"),
        ("version: 1\nrules: [{name: a, regex: a, kind: sd}]", "exactly one"),
        ("version: 1\nrules: [{target: a, op: '*', kind: sd}]", "exactly one of target, name, regex, op"),
        ("version: 1\nrules: [{target: 7, kind: sd}]", "target is a text, not int"),
        ("version: 1\nrules: [{target: 'type:pool', kind: sd}]", "rules.0.op"),
        ("version: 1\nrules: [{target: 're:(', kind: sd}]", "not a regular expression"),
        ("version: 1\nrules: [{op: '*', max_weights: 0, kind: sd}]", "rules.0.max_weights"),
        ("version: 1\nrules: [{op: '*', min_weights: 9, max_weights: 8, kind: sd}]", "above max_weights"),
        ("version: 1\nrules: [{max_weights: 8, kind: sd}]", "exactly one"),
        ("version: 1\nsolver: {ridge: 0}", "solver.ridge"),
        ("version: 1\nsolver: {damping: .nan}", "solver.damping"),
        ("version: 1\nsolver: {method: official, ridge: 1}", "'official' uses no data"),
        ("version: 1\nrules: [{op: pool, kind: sd}]", "rules.0.op"),
        ("version: 1\nrules: [{regex: '(', kind: sd}]", "not a regular expression"),
        ("version: 1\nrules: [{op: '*', kind: int8, form: {}}]", "kind 'sd' only"),
        ("version: 1\nrules: [{op: '*', kind: sd, form: {pattern: 5:16}}]", "rules.0.form.pattern"),
        ("version: 1\nrules: [{op: '*', kind: sd, form: {alphabet: x}}]", "alphabet 'x'"),
        ("version: 1\nrules: [{op: '*', kind: sd, form: {basis: slice}}]", "slice_rows"),
        ("version: 1\nrules: [{op: '*', kind: sd, form: {basis: slice, slice_rows: 24}}]", "multiple of 16"),
        ("version: 1\nrules: [{op: '*', kind: sd, form: {bases: 16}}]", "bases goes with 'codebook'"),
        ("version: 1\nrules: [{op: '*', kind: sd, form: {pattern: shared}}]", "kept or kept_rows"),
        ("version: 1\nrules: [{op: '*', kind: sd, form: {pattern: shared, kept: 0}}]", "kept"),
        (
            "version: 1\nrules: [{op: '*', kind: sd, form: {pattern: shared, kept: .5, group_filters: 20}}]",
            "multiple of 16",
        ),
        ("version: 1\nactivations: {dtype: int4}", "activations.dtype"),
        ("version: 1\nactivations: {percentile: 200}", "activations.percentile"),
        ("version: 1\nsolver: {iterations: 0}", "solver.iterations"),
    ],
)
def test_bad_yaml_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe.from_yaml(text, source="mine.yaml")
    assert "mine.yaml" in str(caught.value)
    assert caught.value.fix


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(Recipe.named("sd-4:16").to_yaml(), encoding="utf-8")
    assert Recipe.load(path) == Recipe.load("sd-4:16")
    with pytest.raises(RecipeError, match="cannot read"):
        Recipe.load(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match=r"unknown recipe 'defalt'.*'default'"):
        Recipe.load("defalt")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="cannot read"):
        Recipe.load(path)
