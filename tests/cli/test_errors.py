"""Whatever goes wrong: an exit code and one printable line."""

from __future__ import annotations

import errno

import click
import pytest
from click.testing import CliRunner, Result

from onnxcam.cli.errors import LONGEST, one_line
from onnxcam.cli.group import COMMANDS, Commands, main
from onnxcam.errors import ModelError
from tests.cli.conftest import Invoke, refusal


def failing(error: BaseException) -> Result:
    """`onnxcam` with a command that fails so."""

    class One(Commands):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            @click.command()
            def fail() -> None:
                raise error

            return fail

    return CliRunner().invoke(One("onnxcam"), ["fail"])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ModelError("the model\nis \x1b[31mred"), 2, "the model is ?[31mred"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 2, "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device"),
        (OSError(errno.EACCES, "Permission denied", "photos"), 2, "photos: Permission denied"),
        (click.UsageError("several\nlines"), 2, "several lines"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_is_one_line_and_its_code(error: BaseException, code: int, line: str) -> None:
    assert refusal(failing(error), code) == line


def test_a_reader_that_went_away_is_no_message() -> None:
    result = failing(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert (result.exit_code, result.output) == (141, "")


def test_a_mistake_of_ours_is_not_dressed_up() -> None:
    assert isinstance(failing(ZeroDivisionError()).exception, ZeroDivisionError)


def test_a_line_is_cut_where_it_gets_too_long() -> None:
    assert len(one_line("x" * 1000)) == LONGEST
    assert one_line("x" * 1000).endswith("x...")
    assert one_line("x" * LONGEST) == "x" * LONGEST


def test_no_command_and_an_unknown_one_are_bad_usage(onnxcam: Invoke) -> None:
    assert refusal(onnxcam()) == "no command: one of run, layers, ops, check, export (see onnxcam --help)"
    assert "'expalin'" in refusal(onnxcam("expalin"))
    assert "--frobnicate" in refusal(onnxcam("--frobnicate"))


def test_help_tells_every_command(onnxcam: Invoke) -> None:
    result = onnxcam("--help")
    assert result.exit_code == 0
    told = result.stdout.partition("Commands:\n")[2]
    assert [line.split()[0] for line in told.splitlines()] == list(COMMANDS)
    assert "..." not in told


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_every_option(onnxcam: Invoke, name: str) -> None:
    assert onnxcam(name, "-h").exit_code == 0
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))
