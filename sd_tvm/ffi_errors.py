"""Our typed errors across TVM's FFI: an error raised in a pass or in C++ keeps its type on the way back."""

from __future__ import annotations

from sd_tvm.errors import SDError


def error_classes() -> list[type[SDError]]:
    """SDError and everything derived from it."""
    found, todo = [], [SDError]
    while todo:
        cls = todo.pop()
        found.append(cls)
        todo.extend(cls.__subclasses__())
    return found


def register_errors() -> None:
    """Give every class the kind ``sd_tvm.<name>``; C++ throws errors of the same kinds. Idempotent."""
    import tvm_ffi

    for cls in error_classes():
        tvm_ffi.register_error(f"sd_tvm.{cls.__name__}", cls)
