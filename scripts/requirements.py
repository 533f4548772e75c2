"""Print the requirements of ``[build-system]``, or of an extra, one a line.

They stand in ``pyproject.toml`` only; the Makefile installs them from here without building the package.
"""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib


def main(extra: str | None = None) -> None:
    """Print the list."""
    path = Path(__file__).parent.parent / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))
    if extra is None:
        requires = project["build-system"]["requires"]
    else:
        requires = project["project"]["optional-dependencies"][extra]
    print("\n".join(requires))


if __name__ == "__main__":
    main(*sys.argv[1:])
