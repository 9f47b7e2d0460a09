"""Control-C while ONNX Runtime computes: Python's own handler waits until that is done, which may be never."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from onnxcam.cli.errors import one_line

PATIENCE = 1.0  # seconds for Python to end by itself
INTERRUPTED = 130


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it Control-C ends the process, if need be without asking Python. Files are whole or not there anyway."""
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    over = threading.Event()
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(heard, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(told)


def _watch(heard: int, over: threading.Event) -> None:
    """Wait for SIGINT; then for Python to react, and end the process when it does not."""
    with open(heard, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] == signal.SIGINT and not over.wait(PATIENCE):
                _end()


def _end() -> None:
    """The one line, and out."""
    sys.stderr.write(one_line("Error: interrupted") + "\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)
