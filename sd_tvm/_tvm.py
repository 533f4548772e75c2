"""The only door to TVM: versions are checked here, names that TVM moves are mapped here.

Importing this module loads TVM; nothing that must stay TVM-free imports it at module level.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from sd_tvm.errors import VersionError

#: Why exact: apache-tvm-ffi 0.1.15.post1/.post2 crash in ``save_json`` and in schedule primitives.
PINS: dict[str, str] = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}


def check_versions(installed: dict[str, str | None] | None = None) -> None:
    """Compare the installed TVM packages with :data:`PINS`.

    Raises
    ------
    VersionError
        If one is missing or has another version.
    """
    for package, pin in PINS.items():
        if installed is not None:
            found = installed.get(package)
        else:
            try:
                found = metadata.version(package)
            except metadata.PackageNotFoundError:
                found = None
        if found != pin:
            raise VersionError(
                f"{package} {found or 'is not installed'}",
                expected=f"{package}=={pin} (its ABI and IR are not stable between releases)",
                fix=f"pip install {package}=={pin}",
            )


check_versions()

import tvm as _tvm  # noqa: E402
import tvm_ffi as _tvm_ffi  # noqa: E402
from tvm import ir as _ir  # noqa: E402
from tvm import relax as _relax  # noqa: E402
from tvm import s_tir as _s_tir  # noqa: E402
from tvm import te as _te  # noqa: E402
from tvm import tirx as _tirx  # noqa: E402
from tvm.script import ir_builder as _ir_builder  # noqa: E402

# TVM ships no type information: Any keeps mypy --strict honest about that.
tvm: Any = _tvm
ir: Any = _ir
relax: Any = _relax
te: Any = _te
tirx: Any = _tirx
s_tir: Any = _s_tir
#: Statement by statement construction of a PrimFunc, where TE cannot express one.
ir_builder: Any = _ir_builder
#: ``structural_equal(a, b, map_free_vars=False) -> bool`` of any two IR nodes.
structural_equal: Any = _tvm_ffi.structural_equal
#: ``structural_map(node, (type, callback))``: the node with all of a type replaced, inner ones first.
structural_map: Any = _tvm_ffi.structural_map
#: ``structural_walk(node, (type, callback))``: calls back for every node of a type.
structural_walk: Any = _tvm_ffi.structural_walk
#: Data type object of attributes: ``dtype("float32")``.
dtype: Any = _tvm_ffi.dtype
