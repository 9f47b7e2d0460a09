"""What a Geometry says, in points and boxes."""

from __future__ import annotations

from onnxcam.imaging import Geometry


def to_input(geometry: Geometry, x: float, y: float) -> tuple[float, float]:
    """A point of the photo, in the input."""
    return x * geometry.scale[0] + geometry.offset[0], y * geometry.scale[1] + geometry.offset[1]


def to_photo(geometry: Geometry, x: float, y: float) -> tuple[float, float]:
    """A point of the input, on the photo."""
    return (x - geometry.offset[0]) / geometry.scale[0], (y - geometry.offset[1]) / geometry.scale[1]


def box(geometry: Geometry) -> tuple[float, ...]:
    """x0, y0, x1, y1 of the input that shows photo; beside it lies padding."""
    corners = (*to_input(geometry, 0, 0), *to_input(geometry, *geometry.photo_size))
    return tuple(min(max(at, 0.0), size) for at, size in zip(corners, 2 * geometry.input_size, strict=True))
