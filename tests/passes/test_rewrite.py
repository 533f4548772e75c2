"""The rewriting helper: names and attributes survive, dead code goes, odd functions are left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passes.nets import NETS, Net
from passes.running import run

from sd_tvm._tvm import relax, structural_equal, te, tvm
from sd_tvm.relay_passes._rewrite import (
    Rewriter,
    bindings_of,
    const,
    is_call,
    rewrite,
    set_attr,
    source_names,
)


def names(mod: Any) -> list[str]:
    return [v.name for v, _ in bindings_of(mod["main"])]


def nothing(_c: Rewriter, _v: Any, _e: Any) -> None:
    return None


@pytest.mark.parametrize("name", NETS)
def test_a_rule_that_does_nothing_changes_nothing(name: str) -> None:
    mod = set_attr(NETS[name](), "sd.names", {"a": "b"})
    new = rewrite(mod, nothing)
    assert structural_equal(new, mod, True)
    assert names(new) == names(mod)
    assert source_names(new) == {"a": "b"}
    relax.analysis.well_formed(new)


def test_replacing_by_a_variable_drops_what_is_dead() -> None:
    def no_relu(_c: Rewriter, _v: Any, value: Any) -> Any:
        return value.args[0] if is_call(value, "relax.nn.relu") else None

    net = Net((2, 3))
    y = net.relu(net.relu(net.x, "one"), "two")
    net.relu(net.x, "unused")
    mod = rewrite(net.module(net.call(relax.op.negative(y), "last")), no_relu)
    assert names(mod) == ["last", "out"]
    relax.analysis.well_formed(mod)


def test_new_type_flows_to_users_and_signature() -> None:
    def doubled(ctx: Rewriter, var: Any, value: Any) -> Any:
        if is_call(value, "relax.nn.relu"):
            pair = ctx.emit(relax.op.concat([value.args[0], value.args[0]], 0), "pair")
            return relax.op.nn.relu(pair)
        return None

    net = Net((2, 3))
    mod = rewrite(net.module(net.relu(net.x, "r")), doubled)
    assert names(mod) == ["pair", "r", "out"]
    assert [int(d) for d in mod["main"].ret_ty.shape] == [4, 3]
    relax.analysis.well_formed(mod)
    x = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
    np.testing.assert_array_equal(run(mod, x)[0], np.maximum(np.concatenate([x, x]), 0))


def test_uses_and_values_follow_replacements() -> None:
    seen: list[tuple[str, int]] = []

    def rule(ctx: Rewriter, var: Any, value: Any) -> Any:
        if is_call(value, "relax.nn.relu"):
            return value.args[0]
        if is_call(value, "relax.add"):
            source = ctx.value_of(value.args[0])
            seen.append((source.op.name, ctx.uses(value.args[0])))
        return None

    net = Net((2, 3))
    y = net.relu(net.call(relax.op.negative(net.x), "n"), "r")
    rewrite(net.module(net.call(relax.op.add(y, y), "s")), rule)
    assert seen == [("relax.negative", 2)]


def test_rule_may_add_functions() -> None:
    def rule(ctx: Rewriter, _: Any, value: Any) -> Any:
        if not is_call(value, "relax.nn.relu"):
            return None
        a = te.placeholder((2, 3), "float32", "a")
        func = te.create_prim_func([a, te.compute((2, 3), lambda i, j: a[i, j] * 2, "b")])
        gvar = ctx.add_func(func.with_attr("global_symbol", "twice"), "twice")
        return relax.call_tir(gvar, [value.args[0]], out_ty=relax.TensorType((2, 3), "float32"))

    net = Net((2, 3))
    mod = rewrite(net.module(net.relu(net.x)), rule)
    assert {g.name_hint for g in mod.get_global_vars()} == {"main", "twice"}
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(run(mod, x)[0], 2 * x)


def test_branches_keep_their_variables() -> None:
    x, c = relax.Var("x", relax.TensorType((3,), "float32")), relax.Var("c", relax.TensorType((), "bool"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, c]):
        y = builder.emit(relax.op.nn.relu(x), "y")
        branch = relax.If(c, relax.SeqExpr([], relax.op.negative(y)), relax.SeqExpr([], relax.op.abs(y)))
        out = builder.emit(branch, "out")
        builder.emit_func_output(out)
    mod = relax.transform.Normalize()(builder.get())

    def rule(_c: Rewriter, _v: Any, value: Any) -> Any:
        return value.args[0] if is_call(value, "relax.nn.relu") else None

    new = rewrite(mod, rule)
    relax.analysis.well_formed(new)
    vm = relax.VirtualMachine(tvm.compile(new, target="llvm"), tvm.cpu())
    value = np.array([-1, 2, -3], np.float32)
    for flag, wanted in ((True, -value), (False, np.abs(value))):
        got = vm["main"](tvm.runtime.tensor(value), tvm.runtime.tensor(np.array(flag))).numpy()
        np.testing.assert_array_equal(got, wanted)


def test_scalars_stay_scalars() -> None:
    assert [int(d) for d in const(np.float32(3)).ty.shape] == []
