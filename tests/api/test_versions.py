"""A TVM that we do not work with is refused by name, version and remedy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sd_tvm._tvm import PINS, check_versions
from sd_tvm.errors import VersionError


def test_the_pins_pass() -> None:
    check_versions(dict(PINS))


@pytest.mark.parametrize("package", sorted(PINS))
@pytest.mark.parametrize(
    ("found", "said"), [("0.1.15.post2", r"0\.1\.15\.post2"), (None, "is not installed")]
)
def test_wrong_or_missing_package(package: str, found: str | None, said: str) -> None:
    with pytest.raises(VersionError, match=f"{package} {said}.*pip install {package}=={PINS[package]}"):
        check_versions({**PINS, package: found})


def test_import_of_the_door_to_tvm_refuses_another_version() -> None:
    code = (
        "from importlib import metadata\n"
        "true = metadata.version\n"
        "metadata.version = lambda p: '0.24.0' if p == 'apache-tvm' else true(p)\n"
        "from sd_tvm.errors import VersionError\n"
        "try:\n"
        "    import sd_tvm._tvm\n"
        "except VersionError as error:\n"
        "    import sys\n"
        "    print(error, 'tvm' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "apache-tvm 0.24.0" in done.stdout
    assert done.stdout.strip().endswith("False"), "TVM was loaded before its version was checked"
