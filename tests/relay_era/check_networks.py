"""``tvm.relay.build(mod, target="sd_accel", params=params)`` on whole networks of relay.testing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from relaynets import LLVM, NETS, images, reference, run, save_whole, with_weights
from tvm.contrib import graph_executor

import sd_tvm.relay_passes.relay as sd

#: Largest error of the logits of a quantised net, relative to their norm: these nets have random weights.
ERROR = {"int8": 0.05, "default": 0.25}


def _logits(mod: Any) -> Any:
    """The module without its softmax."""
    main = mod["main"]
    return tvm.IRModule.from_expr(tvm.relay.Function(main.params, main.body.args[0]))


def _count(mod: Any, *operators: str) -> int:
    """Calls of some operators."""
    found = []

    def visit(node: Any) -> None:
        if isinstance(node, tvm.relay.Call) and node.op.name in operators:
            found.append(node)

    tvm.relay.analysis.post_order_visit(mod["main"], visit)
    return len(found)


@pytest.mark.parametrize("net", NETS)
def check_network(net: str, tmp_path: Path) -> None:
    mod, params = with_weights(net)
    calibration, x = images(4), images(1, seed=9)
    save_whole(mod, params, tmp_path / "module.json")
    np.save(tmp_path / "calibration.npy", calibration)
    np.save(tmp_path / "x.npy", x)

    with sd.configure(calibration=calibration, keep=tmp_path / "jobs"):
        library = tvm.relay.build(mod, target="sd_accel", params=params)

    rows = sd.last_report()
    weighted = [r for r in rows if "conv" in r.op or r.op in ("nn.dense", "relax.matmul")]
    assert len(weighted) == _count(mod, "nn.conv2d", "nn.dense")
    assert {r.target for r in weighted} == {"sd_accel"}, weighted
    assert not [r for r in rows if r.target == "relay"], rows

    module = graph_executor.GraphModule(library["default"](tvm.cpu()))
    module.set_input("data", x)
    with sd.profile() as seen:
        module.run()
    output = module.get_output(0).numpy()

    arrays, facts = reference(tmp_path)
    np.testing.assert_array_equal(output, arrays["golden0"])
    np.testing.assert_array_equal(output, arrays["relax0"])
    assert seen.totals == facts["totals"]
    shares = [{k: row["stats"][k] for k in ("cycles", "energy_fj")} for row in seen.layers]
    assert shares == facts["layers"]

    assert len(np.unique(arrays["logits"])) > arrays["logits"].size / 4
    real = run(tvm.relay.build(_logits(mod), LLVM, params=params), x)[0]
    error = np.linalg.norm(arrays["logits"] - real) / np.linalg.norm(real)
    energy = seen.totals["energy_total_fj"] / 1e9
    print(f"{net}: {seen.totals['cycles']} cycles, {energy:.1f} uJ, error of the logits {error:.3f}")
    assert error < ERROR["default"]
