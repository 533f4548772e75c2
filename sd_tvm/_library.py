"""Where the package's compiled libraries are."""

from __future__ import annotations

import sys
from pathlib import Path

import sd_tvm
from sd_tvm.errors import VersionError


def installed_library(name: str) -> Path:
    """Path of a library of the package.

    Raises
    ------
    VersionError
        If it is not there.
    """
    roots = [Path(p) for p in sd_tvm.__path__] + [Path(p or ".") / "sd_tvm" for p in sys.path]
    candidates = [root / "lib" / name for root in roots]
    for path in candidates:
        if path.is_file():
            return path
    raise VersionError(
        f"{name} is not installed",
        expected=f"it in {candidates[0].parent}",
        fix="install the package (make dev), which builds it",
    )
