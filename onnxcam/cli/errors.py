"""Whatever a user can cause ends in one line on stderr and an exit code."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from onnxcam.errors import OnnxCamError

LONGEST = 400  # characters of a line on stderr


class Refused(click.ClickException):
    """Bad input: exit code 2."""

    exit_code = 2


READER_GONE = 141  # what `| head` makes of a program that does not notice
ENDED = 128  # and the number of the signal that ended us, as shells have it


@contextmanager
def for_the_user() -> Iterator[None]:
    """Turn the errors of the library and of the machine into click's, which end the program in one line."""
    try:
        yield
    except OnnxCamError as error:
        raise Refused(str(error)) from error
    except KeyboardInterrupt as error:
        complain("interrupted")
        raise click.exceptions.Exit(ENDED + next(iter(error.args), signal.SIGINT)) from error
    except MemoryError as error:
        raise Refused("not enough memory") from error
    except BrokenPipeError as error:
        raise click.exceptions.Exit(READER_GONE) from error
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        raise Refused(f"{where}{error.strerror or error}") from error


def complain(message: str) -> None:
    """The one line on stderr, unless nothing can be written there: the exit code says it too."""
    with suppress(OSError):
        click.echo(error_line(message), err=True)


def error_line(message: str) -> str:
    """What an error looks like, as click has it too."""
    return one_line(f"Error: {message}")


def one_line(text: str) -> str:
    """Printable characters alone, on one line, at most LONGEST of them."""
    from onnxcam.imaging import printable

    line = " ".join(printable(text).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
