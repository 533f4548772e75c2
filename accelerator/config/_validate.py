"""Strict YAML -> pydantic, with errors that name the file, the key, the value and the valid range."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sd_tvm._yaml import load_yaml
from sd_tvm.errors import ConfigError

MAX_ERRORS = 5


class Strict(BaseModel):
    """Base of every model here: frozen, no unknown key, no conversion between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


T = TypeVar("T", bound=Strict)


def validate(cls: type[T], data: Any, *, source: str) -> T:
    """Build a model from parsed YAML.

    Parameters
    ----------
    cls
        Model.
    data
        Plain data.
    source
        File name, for messages.

    Raises
    ------
    ConfigError
        Naming each key (dotted), its value and what would be valid.
    """
    if not isinstance(data, dict):
        raise ConfigError(
            f"{source}: the document is {type(data).__name__}, not a mapping",
            expected="keys of a configuration",
            fix="start from one of the shipped files in accelerator/config",
        )
    try:
        # JSON mode: a YAML list may become a tuple, everything else stays strict.
        return cls.model_validate_json(json.dumps(data, allow_nan=True))
    except ValidationError as error:
        found, valid = [], []
        for e in error.errors(include_url=False)[:MAX_ERRORS]:
            key = ".".join(str(part) for part in e["loc"]) or "(the whole file)"
            missing = e["type"] == "missing"
            found.append(f"{key} is missing" if missing else f"{key} = {e['input']!r}")
            valid.append(f"{key}: {e['msg']}")
        raise ConfigError(
            f"{source}: " + "; ".join(found),
            expected="; ".join(valid),
            fix=f"correct {'these keys' if len(found) > 1 else 'this key'} in {source}",
        ) from None


def read_model(cls: type[T], path: Path) -> T:
    """Read and validate a YAML file.

    Raises
    ------
    ConfigError
        If it cannot be read or is not valid.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read {path} ({type(error).__name__})",
            expected="a UTF-8 YAML file",
            fix="correct the path",
        ) from error
    return validate(cls, load_yaml(text, source=str(path), error=ConfigError), source=str(path))
