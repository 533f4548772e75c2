"""The neutral graph as data: what is accepted, what is refused, and by which name."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from sd_tvm.errors import FormatError
from sd_tvm.graph import Graph, GraphInput, GraphNode


def graph() -> dict[str, Any]:
    return Graph(
        [GraphInput("x", [1, 4], "float32")],
        [
            GraphNode(
                "parts", "relax.split", ["x"], [1, 2], "float32", {"$types": [[[1, 2], "float32"]] * 2}
            ),
            GraphNode("left", "tuple.get", ["parts"], [1, 2], "float32", {"$index": 0}),
            GraphNode(
                "both",
                "relax.concat",
                ["left", "c"],
                [1, 4],
                "float32",
                {"axis": 1, "$args": [{"tuple": [{"value": 0}, {"value": 1}]}]},
            ),
        ],
        ["both"],
    ).to_json()


def test_round_trip() -> None:
    data = graph()
    read = Graph.from_json(data)
    assert read.to_json() == data
    assert read.constants() == ["c"]
    read.validate()


EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no outputs": (lambda g: g.update(outputs=[]), "no outputs"),
    "unknown output": (lambda g: g["outputs"].append("z"), "output 'z'"),
    "name twice": (lambda g: g["nodes"][1].update(name="parts"), "'parts'"),
    "order": (lambda g: g["nodes"].reverse(), "not computed before"),
    "shape": (lambda g: g["inputs"][0].update(shape=[0]), "shape"),
    "extra key": (lambda g: g["nodes"][0].update(more=1), "more"),
    "args no list": (lambda g: g["nodes"][2]["attrs"].update({"$args": 3}), "'both'.*a list"),
    "args unknown form": (lambda g: g["nodes"][2]["attrs"].update({"$args": [{"a": 3}]}), "'both'.*forms"),
    "args too many inputs": (
        lambda g: g["nodes"][2]["attrs"].update({"$args": [{"value": 2}]}),
        "'both'.*input 2 of 2",
    ),
    "args negative": (lambda g: g["nodes"][2]["attrs"].update({"$args": [{"value": -1}]}), "input -1"),
    "args text": (lambda g: g["nodes"][2]["attrs"].update({"$args": ["x"]}), "forms"),
    "tuple no list": (lambda g: g["nodes"][2]["attrs"].update({"$args": [{"tuple": 1}]}), "list of operands"),
    "tuple too deep": (
        lambda g: g["nodes"][2]["attrs"].update(
            {"$args": [{"tuple": [{"tuple": [{"tuple": [{"tuple": [{"tuple": [{"tuple": []}]}]}]}]}]}]}
        ),
        "forms",
    ),
    "shape of text": (lambda g: g["nodes"][2]["attrs"].update({"$args": [{"shape": "1"}]}), "integers"),
    "weight false": (lambda g: g["nodes"][2]["attrs"].update({"$args": [{"weight": False}]}), "weight"),
    "literal": (lambda g: g["nodes"][2]["attrs"].update({"$args": [{"literal": {"data": []}}]}), "literal"),
    "index missing": (lambda g: g["nodes"][1].update(attrs={}), r"'left'.*\$index"),
    "index negative": (lambda g: g["nodes"][1].update(attrs={"$index": -1}), r"'left'.*\$index"),
    "index elsewhere": (lambda g: g["nodes"][0]["attrs"].update({"$index": 0}), r"'parts'.*\$index"),
    "types no list": (lambda g: g["nodes"][0]["attrs"].update({"$types": 1}), "a list"),
    "types no pairs": (lambda g: g["nodes"][0]["attrs"].update({"$types": [[1]]}), "pairs"),
    "types of text": (lambda g: g["nodes"][0]["attrs"].update({"$types": [["a", "b"]]}), "pairs"),
}


@pytest.mark.parametrize("name", EDITS)
def test_refused(name: str) -> None:
    edit, match = EDITS[name]
    data = copy.deepcopy(graph())
    edit(data)
    with pytest.raises(FormatError, match=match):
        Graph.from_json(data)


def test_no_tvm() -> None:
    code = "import sys, sd_tvm.graph as g; g.Graph([], [], []); print('tvm' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
