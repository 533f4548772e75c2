"""The runtime module: calls, saved form, export and a fresh process, profiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm_ffi
from sim.kit import CONFIG

from sd_tvm.accelerator.isa import Program, encode
from sd_tvm.accelerator.isa.spec import Mem
from sd_tvm.accelerator.simulator import Profiler, create_module, load_library
from sd_tvm.errors import ConfigError, ConfigMismatchError, ProgramError

PADDED = {"mem": Mem.OUT, "x": 2, "y": 1, "z": 1, "pad_r": 1, "pad_value": 9}


def copy_program() -> bytes:
    """Copies 32 bytes and appends 16 nines."""
    instructions = (
        encode("LOAD", signal0=0, **PADDED),
        encode("STORE", wait0=0, mem=Mem.OUT, seg=1, x=3, y=1, z=1),
        encode("FINISH"),
    )
    return Program(instructions, (32, 48), {Mem.OUT: 3}).to_bytes()


def make(names: tuple[str, ...] = ("copy",), config: str = CONFIG) -> Any:
    layers = [json.dumps({"name": n, "kind": "copy"}) for n in names]
    return create_module(config, names, layers, [copy_program()] * len(names))


def call(function: Any) -> np.ndarray:
    x, y = np.arange(32, dtype=np.uint8), np.zeros(48, np.uint8)
    function(tvm_ffi.from_dlpack(x), tvm_ffi.from_dlpack(y))
    return y


EXPECTED = np.array([*range(32), *[9] * 16], np.uint8)


def test_call() -> None:
    np.testing.assert_array_equal(call(make()["copy"]), EXPECTED)


def test_function_outlives_module() -> None:
    function = make()["copy"]
    np.testing.assert_array_equal(call(function), EXPECTED)


def test_kind_and_summary() -> None:
    module = make(("a", "b"))
    assert module.kind == "sd_accel"
    assert module.is_binary_serializable()
    assert module.is_runnable()
    text = module.inspect_source()
    assert "2 functions" in text
    assert "b: 3 instructions, 2 operands, words OUT=3" in text
    assert not module.implements_function("c")


def test_operand_errors() -> None:
    function = make()["copy"]
    good = tvm_ffi.from_dlpack(np.zeros(48, np.uint8))
    with pytest.raises(ProgramError, match=r"1 operands\. Expected: 2"):
        function(good)
    with pytest.raises(ProgramError, match="copy: operand 1 is no tensor"):
        function(good, 3)
    with pytest.raises(ProgramError, match="operand 1 has 47 bytes"):
        function(good, tvm_ffi.from_dlpack(np.zeros(47, np.uint8)))
    with pytest.raises(ProgramError, match="copy: operand 1 is not contiguous"):
        function(good, tvm_ffi.from_dlpack(np.zeros((48, 2), np.uint8)[:, 0]))


def test_creation_errors() -> None:
    with pytest.raises(ProgramError, match="two functions are named 'a'"):
        make(("a", "a"))
    with pytest.raises(ProgramError, match="1 names, 2 layers and 1 programs"):
        create_module(CONFIG, ["a"], ["{}", "{}"], [copy_program()])
    with pytest.raises(ProgramError, match="does not start with 'SDAP'"):
        create_module(CONFIG, ["a"], ["{}"], [bytes(100)])
    with pytest.raises(ConfigMismatchError, match="OUT"):
        make(config=CONFIG.replace("out_kb=4096", "out_kb=0"))


def save(module: Any) -> bytes:
    """Saved form, what export_library embeds."""
    return bytes(tvm_ffi.get_global_func("sd_accel.save_module")(module))


def load(data: bytes) -> Any:
    load_library()
    return tvm_ffi.get_global_func("ffi.Module.load_from_bytes.sd_accel")(data)


def test_saved_form_round_trips() -> None:
    data = save(make(("a", "b")))
    again = load(data)
    np.testing.assert_array_equal(call(again["b"]), EXPECTED)
    assert save(again) == data


def test_every_damaged_byte_is_refused_or_harmless() -> None:
    """Cut anywhere, it is refused; a flipped byte is refused or still runs within bounds."""
    data = save(make())
    for n in range(len(data)):
        with pytest.raises((ProgramError, ConfigError)):
            load(data[:n])
    with pytest.raises(ProgramError, match="trailing"):
        load(data + b"\0")
    with pytest.raises(ProgramError, match="version 99"):
        load(data[:4] + b"\x63" + data[5:])
    refused = 0
    for i in range(len(data)):
        damaged = data[:i] + bytes([data[i] ^ 0x41]) + data[i + 1 :]
        try:
            module = load(damaged)
            if module.implements_function("copy"):
                call(module["copy"])
        except (ProgramError, ConfigError):
            refused += 1
    assert refused > len(data) // 4


FRESH = """
import sys
sys.modules["torch"] = None  # any import of it fails
import numpy as np
import tvm_ffi
{setup}
import tvm
module = tvm.runtime.load_module(sys.argv[1])
x, y = np.arange(32, dtype=np.uint8), np.zeros(48, np.uint8)
function = module["copy"] if module.implements_function("copy") else module.imports[0]["copy"]
function(tvm_ffi.from_dlpack(x), tvm_ffi.from_dlpack(y))
assert y.tolist() == [*range(32), *[9] * 16]
print("same", "tvm.relax" in sys.modules)
"""


def _fresh(path: Path, setup: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FRESH.format(setup=setup), str(path)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Relax function that only calls our layer, compiled and exported."""
    from sd_tvm._tvm import relax, tvm

    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((32,), "uint8"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.call_dps_packed("copy", [x], out_ty=relax.TensorType((48,), "uint8")))
            out = builder.emit_output(y)
        builder.emit_func_output(out)
    mod = builder.get().with_attr("external_mods", [make()])
    library = tvm.compile(mod, target="llvm")
    path = tmp_path_factory.mktemp("export") / "copy.so"
    library.export_library(str(path))
    return path


def test_export_and_fresh_process(exported: Path) -> None:
    setup = "from sd_tvm.accelerator.simulator import load_library; load_library()"
    done = _fresh(exported, setup)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("same")


def test_export_and_runtime_only(exported: Path) -> None:
    setup = "from sd_tvm.accelerator.simulator import load_library; load_library()"
    done = _fresh(exported, setup, TVM_USE_RUNTIME_LIB="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["same", "False"]


def test_whole_model_in_this_process(exported: Path) -> None:
    from sd_tvm._tvm import relax, tvm

    machine = relax.VirtualMachine(tvm.runtime.load_module(str(exported)), tvm.cpu())
    result = machine["main"](tvm_ffi.from_dlpack(np.arange(32, dtype=np.uint8)))
    np.testing.assert_array_equal(result.numpy(), EXPECTED)


def test_profiler() -> None:
    module = make(("a", "b"))
    with Profiler(mode="functional") as profiler:
        call(module["b"])
        call(module["a"])
        call(module["b"])
    assert [r["name"] for r in profiler.records] == ["b", "a", "b"]
    assert profiler.records[0]["layers"] == [{"name": "b", "kind": "copy"}]
    assert profiler.records[0]["stats"]["bytes"]["dram_write"] == 48
    assert "cycles" not in profiler.records[0]["stats"]
    call(module["a"])
    with Profiler(mode="functional") as again:
        pass
    assert again.records == []


def test_profiler_with_another_configuration() -> None:
    function = make()["copy"]
    with pytest.raises(ConfigMismatchError, match="OUT"), Profiler(CONFIG.replace("out_kb=4096", "out_kb=0")):
        call(function)
    with Profiler(CONFIG, mode="functional") as profiler:
        call(function)
    assert len(profiler.records) == 1


def test_profiler_sessions_do_not_nest() -> None:
    inner = Profiler(mode="functional")
    with Profiler(mode="functional"), pytest.raises(ConfigError, match="already open"), inner:
        pass
    with pytest.raises(ConfigError, match="no profiler session"):
        tvm_ffi.get_global_func("sd_accel.profiler_stop")()
