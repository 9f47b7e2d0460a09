"""Arrays from disk, and to it: whole or not at all."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import ImageError, OnnxCamError
from onnxcam.files import check_regular, naming_output, write_whole

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
    """Write a .npy, whole or not at all; OutputError when the disk says no."""

    def write(made: Path) -> None:
        with made.open("wb") as file:  # to a path NumPy would add .npy, if it ends in .NPY
            np.save(file, array)

    with naming_output(path):
        write_whole(path, write)
