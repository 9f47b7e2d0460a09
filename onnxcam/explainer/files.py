"""Arrays from disk, and to it: whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import ImageError, OnnxCamError
from onnxcam.reading import check_regular

# What NumPy's reader raises on junk, whose header it has Python's own tokenizer and parser read.
DAMAGE = (
    OSError, ValueError, TypeError, KeyError, AttributeError, SyntaxError, EOFError, OverflowError, RecursionError,
    MemoryError, TokenError,
)  # fmt: skip
MAGIC = np.lib.format.MAGIC_PREFIX


def read_array(path: str | Path, *, what: str = "", refusal: type[OnnxCamError] = ImageError) -> npt.NDArray[Any]:
    """The array in a .npy file; the refusal, an ImageError unless told otherwise, when there is none.

    `what`: the file's role, for the message.
    """
    try:
        check_regular(path)
        with Path(path).open("rb") as file:
            if file.peek(len(MAGIC))[: len(MAGIC)] != MAGIC:
                raise ValueError("it is no .npy file, as numpy.save writes them")
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except DAMAGE as error:
        why = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())[:160]
        raise refusal(f"{what}{path} cannot be read as an array: {why}") from error
    return array


def save_array(array: npt.NDArray[Any], path: Path) -> None:
    """Write a .npy to a temporary name and rename it; ImageError when the disk says no."""
    temporary = path.parent / f".onnxcam-{secrets.token_hex(8)}.npy"
    try:
        try:
            with temporary.open("wb") as file:
                np.save(file, array)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}") from error
