"""Regions of a photo, on the grid of a model's scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import InputError, TargetError
from onnxcam.explainer.arrays import read_array
from onnxcam.imaging import Geometry, decode

Mask = npt.NDArray[np.bool_]
Window = tuple[tuple[float, float], ...]
WHOLE = ((0.0, 1.0), (0.0, 1.0))
INSIDE = 127  # of a mask's 0..255: brighter pixels are in


def seen_region(
    geometry: Geometry, size: tuple[int, int], where: tuple[float, ...] | str, window: Window = WHOLE
) -> Mask:
    """A box or mask of the photo as bool (h, w) on a grid of `size` over the model's input, or a window of that.

    Args:
        geometry: where the model's input lies on the photo.
        size: (height, width) of the grid.
        where: x0, y0, x1, y1 in pixels of the upright photo, x1 and y1 just outside; or the file of a mask, an image or
            .npy of the photo's size.
        window: where the grid starts and ends on the input, (0 to 1) for its height and its width.

    Raises:
        InputError: a mask of another size. ImageError, TargetError: a file that is no mask.
    """
    x, y = grid_centres(geometry, size, window)
    if not isinstance(where, str):
        x0, y0, x1, y1 = where
        return np.outer((y >= y0) & (y < y1), (x >= x0) & (x < x1))
    mask = read_mask(where)
    width, height = geometry.photo_size
    if mask.shape != (height, width):
        raise InputError(
            f"the mask {where} has {mask.shape[1]} x {mask.shape[0]} pixels, the photo {width} x {height}: "
            "give one of the photo's size"
        )
    rows, columns = np.floor(y).astype(int), np.floor(x).astype(int)
    inside = np.outer((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
    found: Mask = mask[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))] & inside
    return found


def grid_centres(
    geometry: Geometry, size: tuple[int, int], window: Window
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Where on the photo the centres of a grid's columns and rows lie: x (w,), y (h,)."""
    y, x = (
        (start + (np.arange(cells) + 0.5) / cells * (end - start)) * pixels
        for cells, pixels, (start, end) in zip(size, geometry.input_size[::-1], window, strict=True)
    )
    return (x - geometry.offset[0]) / geometry.scale[0], (y - geometry.offset[1]) / geometry.scale[1]


def read_mask(path: str) -> Mask:
    """A mask's file: a picture, bright inside, or a .npy array, not zero inside; bool (H, W)."""
    if Path(path).suffix.lower() == ".npy":
        array = read_array(path, what="the mask ", refusal=TargetError)
        if array.dtype.kind not in "biuf":
            raise TargetError(f"the mask {path} holds {array.dtype}: it should hold numbers, not zero inside")
        if array.ndim != 2:
            raise TargetError(f"the mask {path} has shape {list(array.shape)}: it should be (height, width)")
        return np.asarray(array != 0)
    return np.asarray(decode(path).convert("L")) > INSIDE
