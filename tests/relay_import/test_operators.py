"""Every operator of the table: what two Relays computed is what the import computes."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from relay_import.relayfiles import VERSIONS, array, cases, operators

import sd_tvm.relay
from sd_tvm._tvm import relax, structural_equal, tvm
from sd_tvm.relay.graph import Call, in_order
from sd_tvm.relay.source import read_graph
from sd_tvm.relay.table import OPERATORS, markdown

NAMES = sorted({(v, name) for v in VERSIONS for name in cases(v)})


@pytest.fixture(scope="module")
def modules() -> dict[tuple[str, str], Any]:
    """Every case, imported from its JSON."""
    return {key: sd_tvm.relay.load(cases(key[0])[key[1]]["json"]) for key in NAMES}


@pytest.fixture(scope="module")
def run(modules: dict[tuple[str, str], Any]) -> Callable[[tuple[str, str]], Any]:
    """Functions of all cases, compiled in one program: one by one they would take minutes."""
    compiled: dict[tuple[str, str], str] = {}
    functions: dict[str, Any] = {}
    for key, mod in modules.items():
        twin = ("0.16", key[1])
        if twin in compiled and structural_equal(mod, modules[twin]):
            compiled[key] = compiled[twin]
        else:
            compiled[key] = f"f{len(functions)}"
            functions[compiled[key]] = mod["main"].with_attr("global_symbol", compiled[key])
    target = tvm.target.Target({"kind": "llvm", "opt-level": 0})
    executable = tvm.compile(relax.get_pipeline("zero")(tvm.IRModule(functions)), target=target)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return lambda key: machine[compiled[key]]


@pytest.mark.parametrize(("version", "name"), NAMES)
def test_results_are_relays(run: Callable[[tuple[str, str]], Any], version: str, name: str) -> None:
    case = cases(version)[name]
    inputs = [tvm.runtime.tensor(array(p)) for p in case["inputs"].values()]
    result = run((version, name))(*inputs)
    outputs = [result] if hasattr(result, "numpy") else list(result)
    assert len(outputs) == len(case["outputs"])
    for got, packed in zip((o.numpy() for o in outputs), case["outputs"], strict=True):
        expected = array(packed).reshape(got.shape)
        assert got.dtype == expected.dtype
        if got.dtype.kind == "f":
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("version", "name"), NAMES)
def test_text_imports_as_json_does(modules: dict[tuple[str, str], Any], version: str, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constants with six digits; none here has more
        text = sd_tvm.relay.load(cases(version)[name]["text"])
    assert structural_equal(text, modules[version, name])


@pytest.mark.parametrize("name", sorted(set(cases("0.9")) & set(cases("0.16"))))
def test_both_versions_import_alike(modules: dict[tuple[str, str], Any], name: str) -> None:
    assert structural_equal(modules["0.9", name], modules["0.16", name])


def test_every_operator_has_a_case() -> None:
    seen: set[str] = set()
    for version in VERSIONS:
        for case in cases(version).values():
            seen |= {n.op for n in in_order(read_graph(case["json"]).body) if isinstance(n, Call)}
    assert set(OPERATORS) - seen == set()


def test_documentation_lists_the_operators() -> None:
    page = Path(__file__).parents[2] / "docs" / "from-relay.md"
    assert markdown() in page.read_text(encoding="utf-8")


def test_what_a_version_lacks_the_other_has() -> None:
    a, b = (set(operators(v)["missing"]) for v in VERSIONS)
    assert not a & b


def test_nhwc_costs_one_transposition(modules: dict[tuple[str, str], Any]) -> None:
    script = modules["0.16", "net-nhwc"].script()
    assert script.count("R.permute_dims") == 1  # of the input


@pytest.mark.parametrize("form", ["json", "text"])
def test_names_of_the_source_model_are_kept(form: str) -> None:
    case = cases("0.16")["nn.conv2d"]
    if form == "text":
        source = re.sub(r"(6, 5\), float32\]) \*/\n", r"\1 span=/layer1/conv:0:0 */\n", case["text"])
    else:
        document = json.loads(case["json"])
        nodes = document["nodes"]
        (call,) = (n for n in nodes if n["type_key"] == "relay.Call")
        nodes.append({"type_key": "SourceName", "repr_str": "/layer1/conv"})
        nodes.append({"type_key": "Span", "attrs": {"source_name": str(len(nodes) - 1), "line": "0"}})
        call["attrs"]["span"] = str(len(nodes) - 1)
        source = json.dumps(document)
    mod = sd_tvm.relay.load(source)
    assert list(json.loads(str(mod.attrs["sd.names"])).values()) == ["layer1.conv"]


def test_layers_are_named(modules: dict[tuple[str, str], Any]) -> None:
    names = json.loads(str(modules["0.16", "net-nhwc"].attrs["sd.names"]))
    assert {"conv2d_0", "max_pool2d_0", "dense_0"} <= set(names.values())
