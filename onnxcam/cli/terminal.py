"""The terminal: ours alone, and shared between results and a progress bar."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click

from onnxcam.cli.errors import error_line

CLEAR_LINE = "\r\x1b[K"


@contextmanager
def undisturbed() -> Iterator[None]:
    """Nobody else writes to the terminal: sys.stdout and sys.stderr reach the user, descriptors 1 and 2 go nowhere.

    libtiff describes damage on stderr, ONNX Runtime announces a fallback on stdout, in the middle of the JSON. Python's
    warnings are for developers, who ask for them with -W.
    """
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            stack.enter_context(_moved(name, descriptor))
        yield


@contextmanager
def _moved(name: str, shared: int) -> Iterator[None]:
    """Give a stream of sys a descriptor of its own, and let the shared one lead nowhere."""
    given = getattr(sys, name)
    if not _is_on(given, shared):
        yield
        return
    given.flush()
    kept = os.dup(shared)
    own = open(  # noqa: SIM115 (closed below, behind the descriptors' return)
        os.dup(shared), "w", encoding=given.encoding, errors="backslashreplace"
    )
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, shared)
    os.close(nowhere)
    setattr(sys, name, own)
    try:
        yield
        own.flush()
    finally:
        setattr(sys, name, given)
        os.dup2(kept, shared)
        os.close(kept)
        _closed(own)


def _is_on(stream: Any, descriptor: int) -> bool:
    """Whether a stream writes to a descriptor; not when it is closed, or somebody captures it."""
    try:
        return bool(stream.fileno() == descriptor)
    except (AttributeError, OSError, ValueError):
        return False


def _closed(stream: Any) -> None:
    """Close a stream whose reader may be gone: what it said of that was raised when it was written to."""
    try:
        stream.close()
    except OSError:
        return


class Reporter:
    """Says things while a progress bar may be on the screen."""

    def __init__(self, bar: Any | None) -> None:
        self._bar = bar

    def say(self, text: str, *, err: bool = False) -> None:
        """A line, or several, on stdout or stderr."""
        if self._bar is not None:
            click.echo(CLEAR_LINE, file=sys.stderr, nl=False)
        click.echo(text, err=err)

    def complain(self, message: str) -> None:
        """One error among others."""
        self.say(error_line(message), err=True)

    def step(self) -> None:
        """One more is done."""
        if self._bar is not None:
            self._bar.update(1)


@contextmanager
def reporter(count: int, *, quiet: bool) -> Iterator[Reporter]:
    """A Reporter for `count` steps; the bar is drawn on a terminal only, and for more than one step."""
    if quiet or count < 2 or sys.stderr is None or not sys.stderr.isatty():
        yield Reporter(None)
        return
    with click.progressbar(length=count, label="Explaining", show_pos=True, file=sys.stderr) as bar:
        yield Reporter(bar)
