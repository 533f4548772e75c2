"""The refusals that both readers share."""

from __future__ import annotations

from sd_tvm.errors import UnsupportedModelError

JSON = "the JSON of tvm.ir.save_json(relay.transform.InferType()(mod))"


def damaged(where: str, found: str, expected: str) -> UnsupportedModelError:
    """A file that no Relay wrote, or that was cut short on the way."""
    return UnsupportedModelError(
        f"{where}: {found}", expected=expected, fix=f"write the file again, as {JSON}, and copy all of it"
    )


def unknown_operator(where: str, op: str) -> UnsupportedModelError:
    """An operator that is not in the table."""
    from difflib import get_close_matches

    from sd_tvm.relay.table import OPERATORS

    like = get_close_matches(op, OPERATORS, n=3)
    hint = f"; similar ones: {', '.join(like)}" if like else ""
    fix = "rewrite it in Relay with operators that are known, and save the module again"
    if op.startswith("dyn.") or op in ("argwhere", "unique"):
        return dynamic(f"{where}: {op}")
    if op.startswith(("nn.contrib_", "device_copy", "vm.", "memory.")) or "layout_transform" in op:
        fix = "save the module before it is optimised for a target (AlterOpLayout and later passes)"
    return UnsupportedModelError(
        f"{where}: the operator {op!r} is not known",
        expected=f"one of the {len(OPERATORS)} operators of sd_tvm.relay.table.OPERATORS{hint}",
        fix=fix,
    )


def dynamic(what: str) -> UnsupportedModelError:
    """A shape that is known only at run time."""
    return UnsupportedModelError(
        f"{what} has a dynamic shape (Any)",
        expected="static shapes",
        fix="import the model into Relay with its input shapes, run relay.transform.DynamicToStatic() and "
        "relay.transform.InferType(), and save it again; what depends on values (the rows that non-maximum "
        "suppression keeps) has to be left out: save the network up to there",
    )


def control_flow(where: str, what: str) -> UnsupportedModelError:
    """A branch, a loop, a closure, a reference or an algebraic data type."""
    return UnsupportedModelError(
        f"{where}: {what} is control flow",
        expected="a graph of operators",
        fix="unroll loops and take the branch of inference before the module is saved",
    )


def several_functions(names: list[str]) -> UnsupportedModelError:
    """A module with functions beside ``main``."""
    return UnsupportedModelError(
        f"the module has the functions {names}",
        expected="one function, 'main'",
        fix="run relay.transform.Inline(), and save the module before it is partitioned or fused",
    )


def inner_function(where: str) -> UnsupportedModelError:
    """A function inside the function."""
    return UnsupportedModelError(
        f"{where}: a function inside 'main'",
        expected="calls of operators",
        fix="save the module before it is fused or partitioned (FuseOps, MergeComposite, PartitionGraph), or "
        "run relay.transform.DefuseOps()",
    )
