"""Strict YAML: what a configuration file needs and nothing that surprises.

Differences from ``yaml.safe_load``: duplicate keys are refused, anchors and aliases are refused, and
scalars follow YAML 1.2 (``4:16`` is text and not the sexagesimal integer 256; ``yes`` and ``on``
are text; ``1e-4`` is a number).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from sd_tvm.errors import SDError


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 scalars, without duplicate keys, anchors and aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(
                None, None, "anchors and aliases are not accepted", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key that is not a scalar", key_node.start_mark
                )
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key!r}", key_node.start_mark
                )
            seen.add(key)
        return dict(super().construct_mapping(node, deep=deep))


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _construct_int(_loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(str(node.value))  # decimal: YAML 1.1 would read 010 as octal


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


class _Dumper(yaml.SafeDumper):
    """SafeDumper without anchors (its YAML 1.1 rules also quote what YAML 1.2 would not)."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def load_yaml(text: str, *, source: str, error: type[SDError]) -> Any:
    """Parse one YAML document.

    Parameters
    ----------
    text
        The document.
    source
        Where it comes from, for messages (a path, ``<recipe>``).
    error
        Exception class to raise.

    Raises
    ------
    SDError
        ``error``, if the text is not YAML, holds a duplicate key, an anchor or a tag.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - derives from SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as cause:
        mark = getattr(cause, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = getattr(cause, "problem", None) or type(cause).__name__
        raise error(
            f"{source}{where}: {what}",
            expected="YAML without duplicate keys, anchors and tags",
            fix="correct the file",
        ) from cause


def dump_yaml(data: Any) -> str:
    """Block-style YAML of plain data; mappings keep their order, so equal data give equal text."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))
