"""docs/isa.md follows from the instruction table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sd_tvm.accelerator.isa import docs, spec

ROOT = Path(__file__).resolve().parents[2]


def test_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "isa.md").read_text(encoding="utf-8") == docs.render(), (
        "run: python -m sd_tvm.accelerator.isa.docs docs/isa.md"
    )


def test_page_names_everything() -> None:
    text = docs.render()
    for instruction in spec.INSTRUCTIONS:
        assert f"### {instruction.name}\n" in text
        for field in instruction.fields:
            assert f"| `{field.name}` | {field.bits} |" in text


def test_command_writes_the_page(tmp_path: Path) -> None:
    path = tmp_path / "isa.md"
    subprocess.run([sys.executable, "-m", "sd_tvm.accelerator.isa.docs", str(path)], check=True)
    assert path.read_text(encoding="utf-8") == docs.render()
