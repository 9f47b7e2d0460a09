"""The command `onnxcam`: loads a subcommand when it is asked for, and fails in one line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from onnxcam import __version__
from onnxcam.cli.errors import complain, for_the_user
from onnxcam.cli.interrupts import interruptible
from onnxcam.cli.terminal import undisturbed

COMMANDS = ("run", "layers", "ops", "check", "export")


class Commands(click.Group):
    """The subcommands, each `command` in a module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them, imported now."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"onnxcam.cli.{cmd_name}").command
        return command

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse, and print help and version, which may go wrong as well."""
        with for_the_user():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; what can go wrong comes out as a click exception."""
        with for_the_user(), undisturbed(), interruptible():
            return super().invoke(ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run to an exit code: 0 done, 1 a check failed, 2 bad usage or input, 130 interrupted."""
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.Abort:
            complain("interrupted")
            sys.exit(130)
        except click.ClickException as error:
            complain(error.format_message())
            sys.exit(error.exit_code)
        sys.exit(code)


@click.group(
    cls=Commands,
    invoke_without_command=True,  # without one: a usage error of ours, in one line
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="onnxcam", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Why did this model say that? Grad-CAM and its relatives for ONNX image models."""
    if ctx.invoked_subcommand is None:
        raise click.UsageError(f"no command: one of {', '.join(COMMANDS)} (see onnxcam --help)")
