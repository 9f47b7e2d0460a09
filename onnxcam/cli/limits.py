"""A command in a process of its own, ended when its time is up: strangers' graphs may loop for ever, or crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path

import click

from onnxcam.cli.errors import ENDED, Refused
from onnxcam.cli.interrupts import ENDING, PATIENCE

SECONDS, LONGEST = 600, 7 * 24 * 3600  # what every platform can wait for in one call
OURS = (0, 1, 2, *(ENDED + number for number in ENDING))  # exit codes that a command ends with on purpose
KILLED = -getattr(signal, "SIGKILL", 9)  # as the system ends what takes more memory than there is
WORK = "from onnxcam.cli.limits import work; work()"
Function = Callable[..., int | None]

timeout_option = click.option(
    "--timeout", metavar="SECONDS", type=click.IntRange(0, LONGEST), default=SECONDS, show_default=True,
    help="End the work after so many seconds. It is done in a separate process; with 0 in this one, without a limit.",
)  # fmt: skip


def limited(function: Function) -> Function:
    """A command's function behind `--timeout`."""

    @timeout_option
    @wraps(function)
    def command(timeout: int, **options: object) -> int | None:
        return ended_after(timeout, click.get_current_context()) if timeout else function(**options)

    return command


def ended_after(seconds: int, context: click.Context) -> int:
    """The exit code of the same command in a process of its own, whose output is passed on.

    Raises:
        Refused: its time was up, or it crashed.
    """
    command = [sys.executable, "-P", "-c", WORK, str(context.info_name), "--timeout", "0", *spelled(context)]
    heard, held = os.pipe()  # nobody writes: it ends with us, however we end
    with subprocess.Popen(
        command, stdin=heard, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as child:
        os.close(heard)
        try:
            out, err = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise Refused(
                f"`onnxcam {context.info_name}` was ended after {seconds} s: the model may never end; "
                "if it is only large, give it longer with --timeout"
            ) from error
        finally:
            os.close(held)
            end(child)
    if child.returncode == KILLED:
        raise Refused("the work on this model was killed, most often for want of memory: try where there is more")
    if child.returncode not in OURS:
        raise Refused(f"the work on this model crashed ({cause(child.returncode)}): ONNX Runtime cannot run it")
    for text, to_stderr in ((out, False), (err, True)):
        click.echo(text.decode(errors="replace"), nl=False, err=to_stderr)
    return child.returncode


def end(child: subprocess.Popen[bytes]) -> None:
    """Leave a child that was told to end the time to remove its temporary files."""
    try:
        child.wait(PATIENCE / 2)
    except subprocess.TimeoutExpired:
        child.kill()


def work() -> None:
    """The command in the process of its own, which ends when nobody holds the other end of stdin any more."""
    from onnxcam.cli.group import main

    threading.Thread(target=outlive_nobody, daemon=True).start()
    main(prog_name="onnxcam")


def outlive_nobody() -> None:
    """Wait for the end of stdin, then end this process as TERM does."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def spelled(context: click.Context) -> Iterator[str]:
    """The arguments and options of a command as they would be typed, but for --timeout."""
    given = [
        (parameter, context.params[str(parameter.name)])
        for parameter in context.command.params
        if parameter.name != "timeout" and context.params.get(str(parameter.name)) is not None
    ]
    for parameter, value in given:
        if isinstance(parameter, click.Option):
            yield from (f"{parameter.opts[-1]}={one}" for one in (value if parameter.multiple else [value]))
    yield "--"
    yield from (value for parameter, value in given if isinstance(parameter, click.Argument))


def environment() -> dict[str, str]:
    """Ours, with this very package in front: `-P` keeps what lies in the working folder from being imported."""
    home = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])}


def cause(code: int) -> str:
    """How a process ended, in a word."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"
