"""AArch64 code run in the Unicorn emulator: right or wrong on any machine, and nothing about speed.

An object file as TVM writes it is laid out in emulated memory, its few relocations are applied, and a packed
function is called with tensors. What the code asks of its surroundings (workspace, memset, errors) is Python.
Every tensor ends at a page that is not mapped, and workspace begins with a pattern.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import unicorn
from unicorn import arm64_const as arm64

_PAGE, _STACK_BYTES, _HEAP_BYTES = 1 << 12, 1 << 20, 1 << 26
_IMAGE, _STACK, _HEAP, _TENSORS = (i << 28 for i in range(1, 5))
_STUBS = _IMAGE - _PAGE  # within reach of a branch
_LAUNCH = _IMAGE - 128
_RETURN = struct.pack("<I", 0xD65F03C0)
# TVMBackendParallelLaunch(lambda, data, _): three tasks one after the other. Saves lr and x19 to x21; x19,
# x20 and w21 are lambda, data and 0; calls lambda(w21, {0, 3}, data) until w21 is 3; restores; returns 0.
_PARALLEL = bytes.fromhex(
    "fd7bbda9 f35301a9 f51300f9 f30300aa f40301aa f5031f2a e003152a 61010010 e20314aa 60023fd6 b5060011"
    "bf0e0071 4bffff54 e0031f2a f51340f9 f35341a9 fd7bc3a8 c0035fd6 00000000 00000000 03000000 00000000"
)
_UNWRITTEN = b"\xa5"
_TENSOR_POINTER = 7  # kTVMFFIDLTensorPtr
_X = [getattr(arm64, f"UC_ARM64_REG_X{i}") for i in range(5)]

# ELF: types of sections, the flag of one that is loaded, relocations (ELF for the Arm 64-bit architecture).
_SYMTAB, _RELA, _NOBITS, _ALLOC = 2, 4, 8, 2
_PREL32, _PAGE21, _ADD12, _GOT_PAGE, _GOT12, _BRANCHES = 261, 275, 277, 311, 312, (282, 283)
_LOADS = {278: 0, 284: 1, 285: 2, 286: 3, _GOT12: 3, 299: 4}


class CodeError(Exception):
    """Emulated code did what it must not."""


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


class Machine:
    """An emulated processor with one object file loaded.

    Parameters
    ----------
    code
        The object file (ELF, AArch64).
    lacks
        Word and bit of a feature that the system says the processor does not have.
    """

    def __init__(self, code: bytes, lacks: tuple[int, int] | None = None) -> None:
        self.lacks = lacks
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(arm64.UC_CPU_ARM64_MAX)
        self.uc.reg_write(arm64.UC_ARM64_REG_CPACR_EL1, 3 << 20)  # vector registers on
        for at, size in ((_STUBS, _PAGE), (_STACK, _STACK_BYTES), (_HEAP, _HEAP_BYTES)):
            self.uc.mem_map(at, size)
        self.heap, self.tensors = _HEAP, _TENSORS
        self.stubs: list[Callable[..., int]] = [lambda *x: x[0]]  # the first: a call returns to it
        self.symbols = self._load(code)
        self.uc.mem_write(_LAUNCH, _PARALLEL)
        backend = {
            "AllocWorkspace": self._stub(lambda *x: self._allocate(x[2])),
            "FreeWorkspace": self._stub(lambda *_: 0),
            "ParallelLaunch": _LAUNCH,
        }
        for name, address in backend.items():
            if f"__TVMBackend{name}" in self.symbols:
                self.uc.mem_write(self.symbols[f"__TVMBackend{name}"], struct.pack("<Q", address))
        self.uc.hook_add(unicorn.UC_HOOK_CODE, self._surroundings, begin=_STUBS, end=_LAUNCH - 1)

    def call(self, symbol: str, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Call a packed function of TVM; the tensors as it leaves them."""
        places = [self._tensor(a) for a in tensors]
        values = b"".join(struct.pack("<iiQ", _TENSOR_POINTER, 0, header) for header, _ in places)
        arguments, result = self._allocate(len(values)), self._allocate(16)
        self.uc.mem_write(arguments, values)
        for register, value in zip(_X, (0, arguments, len(places), result), strict=False):
            self.uc.reg_write(register, value)
        self.uc.reg_write(arm64.UC_ARM64_REG_SP, _STACK + _STACK_BYTES)
        self.uc.reg_write(arm64.UC_ARM64_REG_LR, _STUBS)
        self.uc.emu_start(self.symbols[f"__tvm_ffi_{symbol}"], _STUBS)
        if self.uc.reg_read(_X[0]) & 0xFFFFFFFF:
            raise CodeError(f"{symbol} failed")
        return [
            np.frombuffer(self._read(data, a.nbytes), a.dtype).reshape(a.shape)
            for a, (_, data) in zip(tensors, places, strict=True)
        ]

    def _read(self, at: int, size: int) -> bytes:
        return bytes(self.uc.mem_read(at, size))

    def _allocate(self, size: int) -> int:
        at, self.heap = self.heap, self.heap + -(-size // 64) * 64
        if self.heap > _HEAP + _HEAP_BYTES:
            raise CodeError("out of memory")
        self.uc.mem_write(at, _UNWRITTEN * size)
        return at

    def _tensor(self, a: np.ndarray) -> tuple[int, int]:
        """Addresses of a DLTensor and of its data."""
        pages = -(-a.nbytes // _PAGE) * _PAGE
        self.uc.mem_map(self.tensors, pages)
        data = self.tensors + pages - -(-a.nbytes // 64) * 64
        self.tensors += pages + _PAGE
        self.uc.mem_write(data, a.tobytes())
        sizes = struct.pack(f"<{2 * a.ndim}q", *a.shape, *(s // a.itemsize for s in a.strides))
        at = self._allocate(48 + len(sizes))
        kind = {"i": 0, "u": 1, "f": 2}[a.dtype.kind]
        head = struct.pack("<QiiiBBH", data, 1, 0, a.ndim, kind, 8 * a.itemsize, 1)
        self.uc.mem_write(at, head + struct.pack("<QQQ", at + 48, at + 48 + 8 * a.ndim, 0) + sizes)
        return at, data

    def _stub(self, run: Callable[..., int]) -> int:
        """Address of code that runs a Python function of five registers."""
        at = _STUBS + 4 * len(self.stubs)
        self.stubs.append(run)
        self.uc.mem_write(at, _RETURN)
        return at

    def _surroundings(self, uc: unicorn.Uc, address: int, _size: int, _data: object) -> None:
        run = self.stubs[(address - _STUBS) // 4]
        uc.reg_write(_X[0], run(*(uc.reg_read(register) for register in _X)))

    def _memset(self, to: int, value: int, size: int, *_: int) -> int:
        self.uc.mem_write(to, bytes([value & 0xFF]) * size)
        return to

    def _memcpy(self, to: int, source: int, size: int, *_: int) -> int:
        self.uc.mem_write(to, self._read(source, size))
        return to

    def _auxval(self, kind: int, *_: int) -> int:
        word = {16: 0, 26: 1}[kind]  # AT_HWCAP, AT_HWCAP2
        return ~(1 << self.lacks[1]) & 0xFFFFFFFF if self.lacks and self.lacks[0] == word else 0xFFFFFFFF

    def _raised(self, kind: int, parts: int, count: int, *_: int) -> int:
        """What ``TVMFFIErrorSetRaisedFromCStrParts`` gets."""
        words = [kind, *struct.unpack(f"<{count}Q", self._read(parts, 8 * count))]
        raise CodeError(": ".join(self._read(w, 400).split(b"\0")[0].decode() for w in words if w))

    def _external(self, name: str) -> int:
        def unknown(*_: int) -> int:
            raise CodeError(f"{name} was called")

        known = {
            "memset": self._memset,
            "memcpy": self._memcpy,
            "memmove": self._memcpy,
            "getauxval": self._auxval,
            "TVMFFIErrorSetRaisedFromCStrParts": self._raised,
        }
        return self._stub(known.get(name, unknown))

    def _load(self, code: bytes) -> dict[str, int]:
        """Put the file into memory; where its symbols are."""
        first, count = struct.unpack_from("<Q", code, 40)[0], struct.unpack_from("<H", code, 60)[0]
        sections = [
            _Section._make(struct.unpack_from("<IIQQQQIIQQ", code, first + 64 * i)) for i in range(count)
        ]
        image, homes = bytearray(), {}
        for i, s in enumerate(sections):
            if s.flags & _ALLOC:
                image += bytes(-len(image) % max(s.align, 1))
                homes[i] = len(image)
                image += bytes(s.size) if s.kind == _NOBITS else code[s.offset : s.offset + s.size]
        image += bytes(-len(image) % 8)
        table = next(s for s in sections if s.kind == _SYMTAB)
        names = sections[table.link].offset
        found, symbols = [], {}
        for name, _, _, where, value, _ in struct.iter_unpack(
            "<IBBHQQ", code[table.offset : table.offset + table.size]
        ):
            text = code[names + name : code.index(b"\0", names + name)].decode()
            place = _IMAGE + homes[where] + value if where in homes else 0
            if text and not where:
                place = self._external(text)
            found.append(place)
            symbols[text] = place
        slots: dict[int, int] = {}
        for s in sections:
            if s.kind != _RELA or s.info not in homes:
                continue
            for offset, info, addend in struct.iter_unpack("<QQq", code[s.offset : s.offset + s.size]):
                kind, target = info & 0xFFFFFFFF, found[info >> 32] + addend
                if kind in (_GOT_PAGE, _GOT12):  # an address is read from memory
                    if target not in slots:
                        slots[target] = _IMAGE + len(image)
                        image += struct.pack("<Q", target)
                    target = slots[target]
                _relocate(image, homes[s.info] + offset, kind, target)
        self.uc.mem_map(_IMAGE, -(-len(image) // _PAGE) * _PAGE)
        self.uc.mem_write(_IMAGE, bytes(image))
        return symbols


def _relocate(image: bytearray, at: int, kind: int, target: int) -> None:
    """Complete the instruction at an offset of the image."""
    if kind == _PREL32:  # unwind tables: nobody reads them
        return
    (word,) = struct.unpack_from("<I", image, at)
    here = _IMAGE + at
    if kind in (_PAGE21, _GOT_PAGE):
        pages = (target >> 12) - (here >> 12)
        word |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    elif kind == _ADD12:
        word |= (target & 0xFFF) << 10
    elif kind in _LOADS:
        word |= (target & 0xFFF) >> _LOADS[kind] << 10
    elif kind in _BRANCHES:
        word |= (target - here) >> 2 & 0x3FFFFFF
    else:
        raise CodeError(f"relocation {kind}")
    struct.pack_into("<I", image, at, word)
