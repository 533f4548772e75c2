"""What is refused: a typed error that names the node; never another exception."""

from __future__ import annotations

import contextlib
import json
import random
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relay_import.relayfiles import VERSIONS, array, cases, operators

import sd_tvm.relay
from sd_tvm.errors import UnsupportedDTypeError, UnsupportedModelError

#: Reason, what the message says, and whether it names a node of the JSON.
REFUSED = {
    "branch": ("control flow", True),
    "loop": ("control flow", True),
    "dynamic": ("'d'.*dynamic shape", True),
    "functions": (r"functions \['helper', 'main'\]", False),
    "fused": ("a function inside", True),
    "partitioned": ("'annotation.compiler_(end|begin)' is not known", True),
    "altered": ("AlterOpLayout", True),
    "unknown": ("'nn.correlation' is not known", True),
    "weights": ("'w' of node [0-9]+: nn.conv2d", True),
    "double": ("'x'.* is float64", True),
    "detections": ("strided_slice.*dynamic shape", True),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("reason", REFUSED)
def test_a_module_of_relay_is_refused(version: str, reason: str) -> None:
    message, names_node = REFUSED[reason]
    with pytest.raises(UnsupportedModelError, match=message) as error:
        sd_tvm.relay.load(operators(version)["refused"][reason]["json"])
    assert not names_node or re.search(r"node \d+", str(error.value))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("reason", sorted(set(REFUSED) - {"functions"}))
def test_its_text_is_refused(version: str, reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=r"line \d+"):
        sd_tvm.relay.load(operators(version)["refused"][reason]["text"])


def test_several_functions_in_text_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="functions"):
        sd_tvm.relay.load(operators("0.16")["refused"]["functions"]["text"])


def test_every_refused_module_is_tested() -> None:
    for version in VERSIONS:
        assert set(operators(version)["refused"]) == set(REFUSED)


def test_double_is_a_type_error() -> None:
    with pytest.raises(UnsupportedDTypeError):
        sd_tvm.relay.load(operators("0.16")["refused"]["double"]["json"])


def test_printed_module_without_constants_is_refused() -> None:
    text = cases("0.16")["nn.dense"]["text"].partition("#[metadata]")[0]
    with pytest.raises(UnsupportedModelError, match=r"str\(mod\)") as error:
        sd_tvm.relay.load(text)
    assert "save_json" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read"),
        ("{", "JSON"),
        ("{}", "'root' and 'nodes'"),
        ('{"root_index": 1, "nodes": []}', "without Relay"),
        ("[" * 100_000, "no file|cut short|cannot read"),
        ("{" + '"a":{' * 100_000, "JSON"),
        ("no/such/file.json", "no file"),
        ("def @main(%x: Tensor[(?, 3), float32]) {\n  nn.relu(%x)\n}", "dynamic shape"),
        ("def @main(%x: Tensor[(1, 3), float32]) {\n  nn.relu(%y)\n}", "line 2.*%y"),
        ("def @main(%x: Tensor[(1, 3), float32]) {\n  nn.rellu(%x)\n}", "nn.relu"),
        ("def @main(%x: Tensor[(1, 3), float32]) {\n  nn.relu(%x", "line 2"),
        ("def @main(%x: Tensor[(1, 3), float32]) {\n  nn.relu(%x, beta=2f)\n}", "beta"),
        (
            "def @main(%x: Tensor[(1, 3), float32]) {\n  reshape(%x, newshape=[7])\n}",
            "line 2: reshape.*newshape",
        ),
        ("def @main(%x: Tensor[(1, 3), float32]) {\n  %0 = @f(%x);\n  %0\n}", "functions"),
    ],
)
def test_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        sd_tvm.relay.load(text)


def test_text_warns_of_rounded_constants() -> None:
    text = "def @main(%x: Tensor[(1, 3), float32]) {\n  multiply(%x, 0.0123457f /* ty=float32 */)\n}"
    with pytest.warns(UserWarning, match="six digits"):
        sd_tvm.relay.load(text)


def _document() -> str:
    return str(cases("0.16")["net-nhwc"]["json"])


@settings(max_examples=60)
@given(st.floats(0, 1, exclude_max=True))
def test_json_cut_short_is_refused(part: float) -> None:
    text = _document()
    with pytest.raises(UnsupportedModelError):
        sd_tvm.relay.load(text[: int(part * len(text))] or "{")


def _garble(document: Any, r: random.Random) -> None:
    """Change one thing of a saved module."""
    nodes = document["nodes"]
    node = r.choice(nodes)
    values: list[Any] = [
        "",
        "0",
        "-1",
        "3",
        "255",
        "x",
        "99999",
        None,
        7,
        [],
        {},
        str(r.randrange(len(nodes))),
    ]
    action = r.randrange(5)
    if action == 0:
        node[r.choice(["type_key", "attrs", "data", "repr_str", "keys"])] = r.choice(values)
    elif action == 1 and node.get("attrs"):
        node["attrs"][r.choice(sorted(node["attrs"]))] = r.choice(values)
    elif action == 2 and node.get("attrs"):
        del node["attrs"][r.choice(sorted(node["attrs"]))]
    elif action == 3 and node.get("data"):
        node["data"][r.randrange(len(node["data"]))] = r.choice([*values, r.randrange(len(nodes))])
    else:
        tensors = document["b64ndarrays"]
        at = r.randrange(len(tensors))
        cut = r.randrange(len(tensors[at]))
        tensors[at] = tensors[at][:cut] + r.choice(["", "A", "!", "AAAA"]) + tensors[at][cut + 1 :]


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_garbled_json_is_refused_or_imported(seed: int) -> None:
    r = random.Random(seed)
    document = json.loads(_document())
    for _ in range(r.randrange(1, 4)):
        try:
            _garble(document, r)
        except (AttributeError, KeyError, TypeError, IndexError):
            continue  # what an earlier change left cannot be changed in this way
    with contextlib.suppress(UnsupportedModelError):
        sd_tvm.relay.load(json.dumps(document))


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_garbled_text_is_refused_or_imported(seed: int) -> None:
    r = random.Random(seed)
    text = str(cases("0.9")["net-nhwc"]["text"])
    head, mark, tail = text.partition("#[metadata]")
    at = r.randrange(len(head))
    head = head[:at] + r.choice(["", "(", ")", "%9", "1", "=", "}", "\0", "é"]) + head[at + r.randrange(4) :]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sd_tvm.relay.load(head + mark + tail)
    except UnsupportedModelError:
        pass


def test_missing_parameters_are_named(tmp_path: Path) -> None:
    module = operators("0.16")["refused"]["weights"]["json"]
    with pytest.raises(UnsupportedModelError, match=r"1 weights are inputs.*save_param_dict"):
        sd_tvm.relay.load(module, params={"other": array(cases("0.16")["add"]["inputs"]["x"])})
    path = tmp_path / "net.json"
    path.write_text(module)
    with pytest.raises(UnsupportedModelError, match="params="):
        sd_tvm.relay.load(path)


def test_parameters_of_another_shape_are_refused() -> None:
    import numpy as np

    module = operators("0.16")["refused"]["weights"]["json"]
    with pytest.raises(UnsupportedModelError, match=r"'w' is float32\[16, 16, 1, 1\]"):
        sd_tvm.relay.load(module, params={"w": np.zeros((16, 16, 1, 1), "float32")})
