"""Files that users name: read where they are regular, written whole or not at all.

A pipe would be waited for without end, and a device may never end.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from onnxcam.errors import ImageError


def check_regular(path: str | Path) -> None:
    """OSError unless a path leads to a regular file."""
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}", str(path))


def read_start(path: str | Path, most: int) -> bytes:
    """A regular file's bytes, of a larger one `most` + 1; OSError when they are not to be had."""
    check_regular(path)
    with Path(path).open("rb") as file:
        return file.read(most + 1)


def write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Have a picture or an array written to a temporary name beside `path`, and rename that.

    Raises:
        ImageError: the file cannot be written, or `path` is something else than a file: a device, a pipe.
    """
    temporary = path.parent / f".onnxcam-{secrets.token_hex(8)}{path.suffix}"
    try:
        if path.exists():
            check_regular(path)
        try:
            with temporary.open("wb") as file:
                write(file)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error
