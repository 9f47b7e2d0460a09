"""`--feed NAME=FILE.npy`: values for inputs besides the image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import UsageError


def read_feeds(given: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays by input; UsageError when one cannot be read."""
    found: dict[str, npt.NDArray[Any]] = {}
    for text in given:
        name, equals, path = text.rpartition("=")
        if not (name and equals and path):
            raise UsageError(f"--feed '{text}' should be NAME=FILE.npy: an input's name and the file of its value")
        if name in found:
            raise UsageError(f"--feed gives the input '{name}' twice")
        try:
            found[name] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(
                f"the feed {path} cannot be read as .npy: {getattr(error, 'strerror', None) or error}"
            ) from error
        if not isinstance(found[name], np.ndarray):
            raise UsageError(f"the feed {path} is no .npy of one array")
    return found
