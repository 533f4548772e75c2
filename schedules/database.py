"""Choices that were found by measurement, in a JSON file: the same file for the same choices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from sd_tvm.errors import FormatError

SCHEMA_VERSION = 1


class Database:
    """Entries by key, read from a file and written to it.

    Parameters
    ----------
    path
        JSON file; read if it exists. None: memory only.

    Raises
    ------
    FormatError
        If the file is of another kind.
    """

    #: What the entries are, in the file and in messages.
    kind: ClassVar[str]

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.entries: dict[str, dict[str, Any]] = {}
        #: Whether there is something to save.
        self.changed = False
        if self.path is not None and self.path.exists():
            self.entries = self._read(self.path)

    def __len__(self) -> int:
        return len(self.entries)

    @staticmethod
    def plausible(entry: dict[str, Any]) -> bool:
        """Whether an entry of a file has the form of one; may raise like a subscription."""
        raise NotImplementedError

    def _read(self, path: Path) -> dict[str, dict[str, Any]]:
        try:
            data = json.loads(path.read_text())
            entries = data[self.kind]
            good = data["schema_version"] == SCHEMA_VERSION and all(
                isinstance(k, str) and self.plausible(v) for k, v in entries.items()
            )
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.broken(repr(error)) from error
        if not good:
            raise self.broken("another schema")
        found: dict[str, dict[str, Any]] = entries
        return found

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Remember an entry."""
        self.entries[key] = entry
        self.changed = True

    def save(self) -> None:
        """Write the file, sorted by key, if something changed."""
        if self.path is None or not self.changed:
            return
        data = {"schema_version": SCHEMA_VERSION, self.kind: self.entries}
        temporary = self.path.with_name(self.path.name + ".part")
        temporary.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
        temporary.replace(self.path)
        self.changed = False

    def broken(self, why: str) -> FormatError:
        """The error of a file that is of another kind."""
        return FormatError(
            f"{self.path}: not a file of {self.kind} ({why})",
            expected=f'JSON {{"schema_version": {SCHEMA_VERSION}, "{self.kind}": ...}} that tuning wrote',
            fix="delete the file and tune again",
        )
