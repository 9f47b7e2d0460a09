"""Files that users name: read where they are regular, written whole or not at all.

A pipe would be waited for without end, and a device may never end.
"""

from __future__ import annotations

import errno
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxcam.errors import OutputError


def check_regular(path: str | Path) -> None:
    """OSError unless a path leads to a regular file."""
    try:
        mode = Path(path).stat().st_mode
    except ValueError as error:  # a null character, or half a pair of letters
        raise OSError(errno.EINVAL, "no file has such a name") from error
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}", str(path))


def read_start(path: str | Path, most: int) -> bytes:
    """A regular file's bytes, of a larger one `most` + 1; OSError when they are not to be had."""
    check_regular(path)
    with Path(path).open("rb") as file:
        return file.read(most + 1)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a file of that name in a folder of its own, then move it to `path`, and what lies beside it.

    Nothing half-written stays, a file that was there is replaced, and `path` comes last: a model points at its data.

    Raises:
        OSError: the disk says no, or `path` is something else than a file: a device, a pipe.
    """
    if path.exists():
        check_regular(path)
    folder = (
        path.parent / f".{path.name[:40]}.{secrets.token_hex(4)}"
    )  # named first: an interruption leaves none behind
    try:
        folder.mkdir(mode=0o700)
        main = folder / path.name
        write(main)
        for beside in sorted({*folder.iterdir()} - {main}):
            beside.chmod(main.stat().st_mode)  # onnx lets nobody else read the data, whatever the user's mask says
            beside.replace(path.parent / beside.name)
        main.replace(path)
        folder.rmdir()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def naming_output(path: Path) -> Iterator[None]:
    """What stops the writing of a file as its OutputError."""
    try:
        yield
    except (OSError, ValueError) as error:  # no path holds a null character
        raise OutputError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error
