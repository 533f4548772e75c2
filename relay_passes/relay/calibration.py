"""Calibration data of the regions: what reaches each of them when the net sees the user's examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sd_tvm.calibration.data import Array, InputSpec, batches_of
from sd_tvm.relay_passes.relay._tvm import host_target, relay, tvm

Examples = list[tuple[Array, ...]]


def region_examples(mod: Any, names: Sequence[str], calibration: Any) -> dict[str, Examples]:
    """Inputs of every region.

    Parameters
    ----------
    mod
        The module with its regions as float32 functions.
    names
        Names of the regions.
    calibration
        The user's data, None for none.

    Raises
    ------
    CalibrationError
        If the data do not fit the module's inputs.
    """
    if calibration is None or not names:
        return {}
    main = mod["main"]
    specs = [
        InputSpec(str(p.name_hint), tuple(int(d) for d in p.checked_type.shape), str(p.checked_type.dtype))
        for p in main.params
    ]
    examples = list(batches_of(calibration, specs))
    wanted: dict[str, list[Any]] = {}

    def visit(node: Any) -> None:
        if isinstance(node, relay.Call) and isinstance(node.op, relay.GlobalVar):
            wanted[str(node.op.name_hint)] = list(node.args)

    relay.analysis.post_order_visit(main, visit)
    order = {p: i for i, p in enumerate(main.params)}
    if all(arg in order for args in wanted.values() for arg in args):
        return {n: [tuple(e[order[a]] for a in wanted[n]) for e in examples] for n in names}
    computed = _compute(mod, [a for n in names for a in wanted[n]], examples)
    out: dict[str, Examples] = {}
    at = 0
    for name in names:
        width = len(wanted[name])
        out[name] = [values[at : at + width] for values in computed]
        at += width
    return out


def _compute(mod: Any, exprs: list[Any], examples: Examples) -> list[tuple[Array, ...]]:
    """Values of expressions of main, in float32, by Relay itself."""
    from tvm.contrib import graph_executor

    functions = {
        g: relay.Function(f.params, f.body, f.ret_type)
        for g, f in mod.functions.items()
        if str(g.name_hint) != "main"
    }
    whole = tvm.IRModule({g: f.with_attr("Inline", tvm.tir.IntImm("int32", 1)) for g, f in functions.items()})
    whole["main"] = relay.Function(mod["main"].params, relay.Tuple(exprs))
    whole = relay.transform.Inline()(relay.transform.InferType()(whole))
    library = relay.build(whole, target=host_target())
    module = graph_executor.GraphModule(library["default"](tvm.cpu()))
    found = []
    for example in examples:
        for param, array in zip(mod["main"].params, example, strict=True):
            module.set_input(str(param.name_hint), array)
        module.run()
        found.append(tuple(module.get_output(i).numpy() for i in range(len(exprs))))
    return found
