"""What a compiled model and its targets refuse: typed errors, before any work where that is possible."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from sd_tvm._tvm import relax, tirx
from sd_tvm.errors import ConfigError, OptionError, SDError, UnsupportedModelError
from sd_tvm.execute import Runner, check_target, compile_module, open_model


def network(batch: Any = 1) -> Any:
    """One convolution."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((batch, 3, 8, 8), "float32"))
    weight = np.random.default_rng(0).standard_normal((16, 3, 3, 3)).astype(np.float32)
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(x, relax.const(weight), padding=1))
            out = builder.emit_output(y)
        builder.emit_func_output(out)
    return builder.get()


@cache
def runner(target: str) -> Runner:
    return Runner(compile_module(network(), target).executable)


GOOD = np.zeros((1, 3, 8, 8), np.float32)
WRONG: dict[str, Any] = {
    "shape": np.zeros((1, 3, 9, 8), np.float32),
    "batch": np.zeros((2, 3, 8, 8), np.float32),
    "empty": np.zeros((0, 3, 8, 8), np.float32),
    "rank": np.zeros((3, 8, 8), np.float32),
    "double": np.zeros((1, 3, 8, 8), np.float64),
    "bytes": np.zeros((1, 3, 8, 8), np.int8),
    "complex": np.zeros((1, 3, 8, 8), np.complex64),
    "text": np.array(["a"]),
    "objects": np.array([None]),
    "list": [1, 2],
    "nothing": None,
}


@pytest.mark.parametrize("target", ["sd_accel", "llvm"])
@pytest.mark.parametrize("name", WRONG)
def test_inputs_that_do_not_fit(name: str, target: str) -> None:
    run = runner(target)
    with pytest.raises(OptionError, match="What to do"):
        run(WRONG[name])
    assert run(GOOD)[0].shape == (1, 16, 8, 8)  # still works


@pytest.mark.parametrize("target", ["sd_accel", "llvm"])
def test_dynamic_shapes_are_refused(target: str) -> None:
    with pytest.raises(UnsupportedModelError, match=r"dimension 0 of input 'x' is dynamic \(n\)"):
        compile_module(network(tirx.Var("n", "int64")), target)


TARGETS: dict[Any, type[SDError]] = {
    "cuda": OptionError,
    "": OptionError,
    "sd_accel/": OptionError,
    "sd_accelerator": OptionError,
    "llvm/edge": OptionError,
    "sd_accel/nothing": ConfigError,
    "sd_accel/none.yaml": ConfigError,
    3: OptionError,
    None: OptionError,
}


@pytest.mark.parametrize("target", TARGETS)
def test_targets_are_checked_before_a_model_is_read(target: Any) -> None:
    class Unread:
        def to_relax(self) -> Any:
            raise AssertionError("the model was read")

    for work in (compile_module, open_model):
        with pytest.raises(TARGETS[target], match="Expected"):
            work(Unread(), target)


def test_good_targets() -> None:
    for target in ("sd_accel", "llvm", "sd_accel/edge"):
        check_target(target)
