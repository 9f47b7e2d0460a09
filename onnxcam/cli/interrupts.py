"""Signals to end while ONNX Runtime computes: Python's own handlers wait until that is done, which may be never."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from onnxcam.cli.errors import ENDED, error_line

PATIENCE = 1.0  # seconds for Python to end by itself
ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it Control-C, TERM and HUP are a KeyboardInterrupt, which lets temporary files be removed.

    Where Python does not come to that, the process ends without asking it. Files are whole or not there anyway.
    """
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    over = threading.Event()
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    ours = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]  # SIGHUP may be ignored: nohup
    for number in ours:
        signal.signal(number, _interrupt)
    threading.Thread(target=_watch, args=(heard, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        os.close(told)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt(number)


def _watch(heard: int, over: threading.Event) -> None:
    """Wait for a signal to end; then for Python to react, and end the process when it does not."""
    with open(heard, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] in ENDING and not over.wait(PATIENCE):
                _end(number[0])


def _end(number: int) -> None:
    """The one line, where anybody reads it, and out."""
    try:
        sys.stderr.write(error_line("interrupted") + "\n")
        sys.stderr.flush()
    finally:
        os._exit(ENDED + number)
