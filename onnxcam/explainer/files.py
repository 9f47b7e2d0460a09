"""Arrays from disk, and to it: whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import ImageError


def read_array(path: Path) -> npt.NDArray[Any]:
    """The array in a .npy file; ImageError when there is none."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"{path} cannot be read as an array: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(array, np.ndarray):
        raise ImageError(f"{path} holds no single array")
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
