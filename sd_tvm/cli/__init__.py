"""The command line: ``sd-tvm``, one module a command. Nothing heavy is imported before a command runs."""

from __future__ import annotations


def main() -> None:
    """Entry point of the ``sd-tvm`` script."""
    from sd_tvm.cli.app import app

    app()
