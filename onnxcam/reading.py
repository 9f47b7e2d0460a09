"""Files that users name: regular ones alone. A pipe would be waited for without end, a device may never end."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


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
