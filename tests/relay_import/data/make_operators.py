"""Make ``operators-*.json.xz``: one small Relay function for every operator, with Relay's own results.

Run it in an environment with a TVM that has Relay (Python 3.10; the two that made the files here):

    pip install hhb-tvm==3.2.3 tqdm tflite pytest        # Relay of TVM 0.16.dev0
    pip install hhb-tvm==2.11.4 numpy==1.23.5 tqdm tflite pytest   # Relay of TVM 0.9.dev0
    python make_operators.py OUTPUT.json.xz

Every case holds the module as JSON and as text, its inputs and what Relay's llvm target gives for them.
Cases that a version of Relay does not have are listed in ``missing`` with the reason.
"""

from __future__ import annotations

import ast
import base64
import json
import lzma
import sys
from pathlib import Path

import detection
import elementwise  # noqa: F401 - every module of cases adds its own
import layers  # noqa: F401
import numpy as np
import quantised  # noqa: F401
import shapes  # noqa: F401
import tvm
from refused import refused
from registry import CASES, case, rng
from tvm import relay
from tvm.contrib import graph_executor

TARGET = "llvm -mtriple=x86_64-linux-gnu"
if tvm.__version__.startswith("0.9"):
    # its hybrid scripts (NMS and others) know indices as Python had them until 3.8
    from tvm.te.hybrid import parser

    def subscript(self, node, old=parser.HybridParser.visit_Subscript):
        if not isinstance(node.slice, ast.Tuple):
            node.slice = ast.Tuple([node.slice], ast.Load())
        return old(self, node)

    parser.HybridParser.visit_Subscript = subscript
detection.register(case)


def array_for(spec, r):
    kind, shape = spec if isinstance(spec[0], str) else ("normal", spec)
    if kind == "normal":
        return r.normal(size=shape).astype("float32")
    if kind == "small":
        return (r.normal(size=shape) * 10).astype("float32")
    if kind == "positive":
        return r.uniform(0.5, 3, size=shape).astype("float32")
    if kind == "unit":
        return r.uniform(-0.9, 0.9, size=shape).astype("float32")
    if kind == "halves":
        return (r.randint(-20, 21, size=shape) / 4).astype("float32")
    if kind == "bool":
        return r.randint(0, 2, size=shape).astype("bool")
    if kind == "index":
        return r.randint(0, 5, size=shape).astype("int32")
    if kind == "int32":
        return r.randint(-30000, 30000, size=shape).astype("int32")
    if kind == "uint8+":
        return r.randint(1, 256, size=shape).astype("uint8")
    drawn = detection.draw(kind, shape, r)
    if drawn is not None:
        return drawn
    info = np.iinfo(kind)
    return r.randint(info.min, info.max + 1, size=shape).astype(kind)


def packed(array):
    array = np.ascontiguousarray(array)
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "data": base64.b64encode(array.tobytes()).decode(),
    }


def run(mod, inputs):
    library = relay.build(mod, target=TARGET)
    module = graph_executor.GraphModule(library["default"](tvm.cpu()))
    module.run(**inputs)
    return [module.get_output(k).numpy() for k in range(module.get_num_outputs())]


def main(path, only=""):
    cases, missing = [], {}
    for name, (function, specs) in CASES.items():
        if not name.startswith(only):
            continue
        r = rng(name)
        inputs = {k: array_for(v, r) for k, v in specs.items()}
        variables = {k: relay.var(k, shape=v.shape, dtype=str(v.dtype)) for k, v in inputs.items()}
        try:
            body = function(r, **variables)
            body = body.astuple() if isinstance(body, relay.expr.TupleWrapper) else body
            mod = tvm.IRModule.from_expr(relay.Function(list(variables.values()), body))
            mod = relay.transform.InferType()(mod)
            outputs = run(mod, inputs)
        except Exception as error:
            missing[name] = str(error).strip().splitlines()[-1][:100]
            continue
        cases.append(
            {
                "name": name,
                "json": tvm.ir.save_json(mod),
                "text": mod.astext(),
                "inputs": {k: packed(v) for k, v in inputs.items()},
                "outputs": [packed(v) for v in outputs],
            }
        )
    bad = {}
    for name, mod in refused(TARGET):
        mod = relay.transform.InferType()(mod)
        bad[name] = {"json": tvm.ir.save_json(mod), "text": mod.astext(), "printed": str(mod)}
    text = json.dumps({"tvm": tvm.__version__, "cases": cases, "missing": missing, "refused": bad})
    Path(path).write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"TVM {tvm.__version__}: {len(cases)} cases; missing: {missing}")


if __name__ == "__main__":
    main(*sys.argv[1:])
