"""`--feed NAME=FILE.npy`: values for inputs besides the image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

from onnxcam.errors import UsageError
from onnxcam.explainer.arrays import read_array


def read_feeds(given: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays by input; UsageError when one cannot be read."""
    found: dict[str, npt.NDArray[Any]] = {}
    for text in given:
        name, equals, path = text.rpartition("=")
        if not (name and equals and path):
            raise UsageError(f"--feed '{text}' should be NAME=FILE.npy: an input's name and the file of its value")
        if name in found:
            raise UsageError(f"--feed gives the input '{name}' twice")
        found[name] = read_array(path, what="the feed ", refusal=UsageError)
    return found
