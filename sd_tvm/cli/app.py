"""The application: commands, the error edge, the version.

A command raises the library's typed errors; here they become one clear message and exit code 2. To add
a command, write its module and add it to :data:`COMMANDS`.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sd_tvm.cli import bench, compress, console, demo, diff, explore, inspect, profile, run, sensitivity
from sd_tvm.cli import compile as compile_command
from sd_tvm.errors import OptionError, SDError

EXIT_ERROR = 2


class _Group(TyperGroup):
    """Shows typed errors as one message; ``--debug`` may stand anywhere on the line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move ``--debug`` to the front."""
        rest = [a for a in args if a != "--debug"]
        return super().parse_args(ctx, (["--debug"] if len(rest) < len(args) else []) + rest)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SDError as error:
            if ctx.params.get("debug"):
                raise
            console.show_error(error)
            raise typer.Exit(EXIT_ERROR) from error
        except OSError as error:  # a file that cannot be read or written
            if ctx.params.get("debug") or error.filename is None:
                raise
            console.show_error(
                OptionError(
                    f"{error.filename}: {error.strerror}",
                    expected="a file or folder that can be read or written",
                    fix="check the path and its permissions",
                )
            )
            raise typer.Exit(EXIT_ERROR) from error


app = typer.Typer(
    name="sd-tvm",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compress trained networks into SD form, compile them with TVM, simulate them on the accelerator.",
)

#: Commands in the order of the help page.
COMMANDS: dict[str, Any] = {
    "compress": compress.compress,
    "sensitivity": sensitivity.sensitivity,
    "inspect": inspect.inspect,
    "compile": compile_command.compile_model,
    "run": run.run,
    "profile": profile.profile,
    "bench": bench.bench,
    "diff": diff.diff,
    "explore": explore.explore,
    "demo": demo.demo,
}
for _name, _function in COMMANDS.items():
    app.command(_name)(_function)


def _version(value: bool) -> None:
    if value:
        from sd_tvm import __version__

        typer.echo(f"sd-tvm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of all commands."""
    del debug, version  # read from the context
