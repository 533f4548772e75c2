"""Models to store: one fixed small one with every kind of part, and random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from weights.reference import weights

from sd_tvm.format import QParams, StoredModel
from sd_tvm.recipe import PRESETS, Recipe
from sd_tvm.weights.rows import RowGeometry
from sd_tvm.weights.tensor import ROWS_KEPT, RawWeight, SDWeight, Weight, WeightForm

FORMS: dict[str, tuple[tuple[int, int, int, int], WeightForm, int]] = {
    "dense": ((10, 20, 1, 1), WeightForm("16:16", "two-term", "filter"), 0),
    "half": ((12, 3, 3, 3), WeightForm("8:16", "pow2-7", "slice", slice_rows=16), 0),
    "quarter": ((9, 7, 3, 3), WeightForm("4:16", "two-term", "filter"), 0),
    "eighth": ((8, 60, 1, 1), WeightForm("2:16", "pow2-5", "codebook"), 3),
    "shared": ((20, 8, 1, 5), WeightForm("shared", "two-term", "codebook", 0, 5, 16), 4),
}


def raw_weight(shape: tuple[int, int, int, int], seed: int) -> RawWeight:
    """Random int8 weight."""
    rng = np.random.default_rng(seed)
    scale = (rng.random(shape[0]) + 0.01).astype(np.float32)
    return RawWeight(rng.integers(-127, 128, shape).astype(np.int8), scale)


def mixed(seed: int, shape: tuple[int, ...], below: int) -> Any:
    """Well mixed integers 0..below-1 (splitmix64), the same with every NumPy."""
    with np.errstate(over="ignore"):
        z = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) + np.uint64(seed << 32)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z % np.uint64(below)).astype(np.int64).reshape(shape)


def scales(seed: int, m: int) -> Any:
    """Positive float32 scales."""
    return ((mixed(seed, (m,), 1000) + 1) / 4096).astype(np.float32)


def fixed_weight(name: str, seed: int) -> SDWeight:
    """Weight of a form of :data:`FORMS` that obeys its pattern."""
    shape, form, n_bases = FORMS[name]
    geometry = RowGeometry(shape)
    m, r, s = shape[0], geometry.rows, geometry.s
    mags = form.table.magnitudes
    values = np.array(mags + tuple(-v for v in mags), np.int8)
    coef = values[mixed(seed, (m, r, s), 16)]
    for i in range(m):
        if form.pattern == "shared":
            order = np.argsort(mixed(seed + 1 + i // form.group_filters, (r,), 1 << 40), kind="stable")
            coef[i, order[form.kept_rows :]] = 0
        elif form.pattern != "16:16":
            for start in range(0, r, 16):
                n = min(16, r - start)
                order = np.argsort(mixed(seed + 100 * i + start, (n,), 1 << 40), kind="stable")
                coef[i, start + order[ROWS_KEPT[form.pattern] :]] = 0
    n_bases = n_bases or m * form.n_slices(geometry)
    basis = (mixed(seed + 7, (n_bases, s, s), 256) - 128).astype(np.int8)
    ids = mixed(seed + 8, (m,), n_bases).astype(np.uint8) if form.basis_kind == "codebook" else None
    return SDWeight(shape, form, coef, basis, scales(seed, m), ids)


def sample_weights() -> dict[str, Weight]:
    """One weight of every pattern, and a raw one."""
    out: dict[str, Weight] = {name: fixed_weight(name, 10 * i) for i, name in enumerate(FORMS)}
    out["raw"] = RawWeight((mixed(5, (6, 1, 3, 3), 255) - 127).astype(np.int8), scales(6, 6))
    return out


def chain(stored: dict[str, Weight], tensors: dict[str, Any]) -> dict[str, Any]:
    """A graph that uses every weight and tensor, one layer after the other."""
    nodes, last = [], "image"
    biases = list(tensors)
    for i, (name, weight) in enumerate(stored.items()):
        inputs = [last, *biases[i : i + 1]]
        args = [{"value": 0}, {"weight": True}, {"value": 1}][: len(inputs) + 1]
        nodes.append(
            {
                "name": name,
                "op": "conv2d",
                "inputs": inputs,
                "attrs": {"strides": [1, 1], "groups": 1, "$args": args},
                "shape": [1, weight.shape[0], 4, 4],
                "dtype": "float32",
            }
        )
        last = name
    rest = biases[len(stored) :]
    nodes.append(
        {"name": "end", "op": "add", "inputs": [last, *rest], "attrs": {}, "shape": [1], "dtype": "float32"}
    )
    image = {"name": "image", "shape": [1, 3, 8, 8], "dtype": "float32"}
    return {"inputs": [image], "nodes": nodes, "outputs": ["end"]}


def sample() -> StoredModel:
    """The fixed model."""
    stored = sample_weights()
    tensors = {
        f"{name}.bias": ((mixed(i, (w.shape[0],), 2001) - 1000) / 256).astype(np.float32)
        for i, (name, w) in enumerate(stored.items())
    }
    return StoredModel(
        graph=chain(stored, tensors),
        tensors=tensors,
        weights=stored,
        activations={
            "image": QParams(0.0078125, 128),
            "dense": QParams(0.125, 0, "uint8"),
            "half": QParams(0.25, -3, "int8"),
        },
        recipe=Recipe.named("sd-4:16"),
        report=[{"node": "end", "op": "add", "target": "cpu", "reason": "shapes differ", "bytes": 12}],
        versions={"sd-tvm": "0.1.0"},
    )


NAMES = st.text(
    st.characters(categories=("L", "N", "P"), max_codepoint=0x2FFF), min_size=1, max_size=12
).filter(str.isprintable)
FLOATS = st.floats(min_value=2.0**-126, max_value=2.0**126, width=32)


@st.composite
def qparams(draw: st.DrawFn) -> QParams:
    """Quantisation of an activation."""
    if draw(st.booleans()):
        return QParams(draw(FLOATS), draw(st.integers(0, 255)), "uint8")
    return QParams(draw(FLOATS), draw(st.integers(-128, 127)), "int8")


@st.composite
def models(draw: st.DrawFn) -> StoredModel:
    """Models with random names, weights, tensors, activations, recipe and report."""
    taken = {"image", "end"}
    names = draw(st.lists(NAMES.filter(lambda n: n not in taken), max_size=6, unique=True))
    split = draw(st.integers(0, len(names)))
    stored: dict[str, Weight] = {}
    for name in names[:split]:
        if draw(st.booleans()):
            sd: SDWeight = draw(weights())
            stored[name] = sd
        else:
            shape = tuple(draw(st.lists(st.integers(1, 5), min_size=4, max_size=4)))
            stored[name] = raw_weight((shape[0], shape[1], shape[2], shape[3]), draw(st.integers(0, 999)))
    tensors = {
        name: np.random.default_rng(i).normal(size=draw(st.sampled_from([(), (1,), (3,), (2, 5)])))
        for i, name in enumerate(names[split:])
    }
    tensors32 = {name: np.asarray(t, dtype=np.float32) for name, t in tensors.items()}
    values = ["image", "end", *stored]
    scalars = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
    )
    return StoredModel(
        graph=chain(stored, tensors32),
        tensors=tensors32,
        weights=stored,
        activations=draw(st.dictionaries(st.sampled_from(values), qparams())),
        recipe=draw(st.one_of(st.none(), st.sampled_from(sorted(PRESETS)).map(Recipe.named))),
        report=draw(st.lists(st.dictionaries(NAMES, st.one_of(scalars, NAMES), max_size=3), max_size=2)),
        versions=draw(st.dictionaries(NAMES, NAMES, max_size=2)),
    )
