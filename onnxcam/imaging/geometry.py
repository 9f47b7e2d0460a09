"""Where a pixel of the model's input lies on the photo, and maps carried back there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Geometry:
    """The affine way from photo to model input: input = photo * scale + offset, axis by axis.

    Coordinates are continuous: pixel i covers i to i + 1, its centre is i + 0.5. Sizes are (width, height).

    Attributes:
        photo_size: the upright photo.
        input_size: what the model sees.
        scale: input pixels a photo pixel, (x, y).
        offset: where the photo's top left corner lies in the input, (x, y); negative where a crop cut it away.
    """

    photo_size: tuple[int, int]
    input_size: tuple[float, float]
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    @classmethod
    @cache
    def identity(cls, width: int, height: int) -> Geometry:
        """The model sees the photo pixel by pixel."""
        return cls((width, height), (width, height))

    @classmethod
    def resized(cls, photo_size: tuple[int, int], input_size: tuple[float, float]) -> Geometry:
        """The whole photo fills the whole input."""
        scale = (input_size[0] / photo_size[0], input_size[1] / photo_size[1])
        return cls(photo_size, input_size, scale)

    def framed(self, left: float, top: float, size: tuple[float, float]) -> Geometry:
        """The input seen through a frame of `size` whose corner lies at (left, top) of it: a crop, or padding."""
        return replace(self, input_size=size, offset=(self.offset[0] - left, self.offset[1] - top))

    def part(self, window: tuple[tuple[float, float], ...] | None) -> Geometry:
        """Of a map that shows only a stretch of the input's height and width, (0 to 1) each, either way round."""
        if window is None:
            return self
        (top, bottom), (left, right) = (sorted(side) for side in window)
        width, height = self.input_size
        return self.framed(left * width, top * height, ((right - left) * width, (bottom - top) * height))


def place(
    map: npt.NDArray[np.floating], geometry: Geometry, *, shape: tuple[int, int] | None = None
) -> npt.NDArray[np.float32]:
    """Carry a map that spans the model's input back onto the photo: bilinear, half-pixel centres, in one step.

    map: (h, w) at any resolution. Returns float32 (H, W) at the photo's size, or at `shape` for the whole photo at
    another resolution. Within half a cell of the map's border its edge values hold. What a crop cut away gets 0, what
    the model saw of padding is left out. NaN and infinity spread along rows and columns.
    """
    height, width = shape or geometry.photo_size[::-1]
    rows = _sampling(height, map.shape[0], geometry, axis=1)
    columns = _sampling(width, map.shape[1], geometry, axis=0)
    placed: npt.NDArray[np.float32] = (rows @ map.astype(np.float32)) @ columns.T
    return placed


def _sampling(count: int, cells: int, geometry: Geometry, *, axis: int) -> npt.NDArray[np.float32]:
    """(count, cells): each row holds the two weights that read a photo pixel's value from a line of map cells."""
    photo = (np.arange(count) + 0.5) * geometry.photo_size[axis] / count
    seen = photo * geometry.scale[axis] + geometry.offset[axis]
    position = np.clip(seen * cells / geometry.input_size[axis] - 0.5, 0, cells - 1)
    before = position.astype(np.intp)
    after = np.minimum(before + 1, cells - 1)
    inside = (seen >= 0) & (seen <= geometry.input_size[axis])
    weights = np.zeros((count, cells), np.float32)
    pixels = np.arange(count)
    weights[pixels, before] += inside * (1 - (position - before))
    weights[pixels, after] += inside * (position - before)
    return weights
