"""Copies of installed packages whose `cpuid` instructions trap."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
from importlib.util import find_spec
from pathlib import Path

from sd_tvm.errors import OptionError

_CPUID, _TRAP = b"\x0f\xa2", b"\x0f\x04"
_LOAD, _EXECUTE = 1, 1  # of a program header


def copy_package(name: str, folder: Path, cache: Path) -> int | None:
    """Make ``folder/name`` from the installed package, libraries patched, everything else links.

    Returns
    -------
    int or None
        ``cpuid`` instructions that were replaced; None if there is no such package.
    """
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    source, count = Path(next(iter(spec.submodule_search_locations))), 0
    for path in sorted(source.rglob("*")):
        place = folder / name / path.relative_to(source)
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if not _is_library(path):
            place.symlink_to(path.resolve())
            continue
        shutil.copyfile(path, place)
        count += _patch(place, _sites(path, cache))
    return count


def _is_library(path: Path) -> bool:
    if ".so" not in path.suffixes:
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _sites(path: Path, cache: Path) -> list[int]:
    """Offsets in the file of its ``cpuid`` instructions; remembered by the file's digest."""
    known = cache / f"{hashlib.sha256(path.read_bytes()).hexdigest()}.json"
    if not known.exists():
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text(json.dumps(_disassemble(path)))
    found: list[int] = json.loads(known.read_text())
    return found


def _disassemble(path: Path) -> list[int]:
    """Addresses of whole instructions, not of any two bytes, as offsets in the file."""
    if _CPUID not in path.read_bytes():
        return []
    objdump, grep = shutil.which("objdump"), shutil.which("grep")
    if objdump is None or grep is None:
        raise OptionError(
            "objdump and grep are needed to find cpuid in the peers",
            expected="binutils",
            fix="install binutils",
        )
    with subprocess.Popen(
        [objdump, "-d", "--no-show-raw-insn", str(path)], stdout=subprocess.PIPE
    ) as process:
        lines = subprocess.run(
            [grep, "-w", "cpuid"], stdin=process.stdout, capture_output=True, text=True, check=False
        ).stdout.splitlines()
    segments = _segments(path)
    out = []
    for line in lines:
        address = int(line.split(":")[0], 16)
        out += [address - at + offset for at, offset, size in segments if at <= address < at + size]
    return out


def _segments(path: Path) -> list[tuple[int, int, int]]:
    """(address, offset in the file, bytes) of what is loaded to be executed; ELF of 64 bits."""
    with path.open("rb") as file:
        head = file.read(64)
        start, each, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        file.seek(start)
        table = file.read(each * count)
    out = []
    for i in range(count):
        kind, flags, offset, address, _, size = struct.unpack_from("<IIQQQQ", table, i * each)
        if kind == _LOAD and flags & _EXECUTE:
            out.append((address, offset, size))
    return out


def _patch(path: Path, sites: list[int]) -> int:
    with path.open("r+b") as file:
        for site in sites:
            file.seek(site)
            if file.read(2) != _CPUID:
                raise OptionError(f"{path.name}: no cpuid at {site:#x}", fix="empty the folder of --cache")
            file.seek(site)
            file.write(_TRAP)
    return len(sites)
