"""A recipe applied: from a photo to the array that the model takes, with the way back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from onnxcam.errors import PreprocessError
from onnxcam.imaging.decoding import MAX_PIXELS
from onnxcam.imaging.geometry import Geometry
from onnxcam.imaging.recipe import Preprocess, Resize

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prepared:
    """A photo as the model takes it.

    Attributes:
        array: (1, C, H, W) or (1, H, W, C), in the recipe's dtype.
        geometry: where its pixels lie on the photo.
    """

    array: npt.NDArray[np.number]
    geometry: Geometry


def prepare(image: Image.Image, recipe: Preprocess) -> Prepared:
    """Apply `recipe` to an upright image of mode RGB or L.

    Raises:
        PreprocessError: the photo would grow beyond all measure.
    """
    pixels, geometry = RESIZERS[recipe.resize.how](_Photo(image, recipe), recipe.resize)
    if recipe.crop:
        pixels, geometry = _center_crop(pixels, geometry, recipe.crop)
    values = _normalized(pixels, recipe)
    width, height = geometry.input_size
    if values.shape[:2] != (height, width):  # height_pad: zeros of the normalized input
        values = np.pad(values, ((0, height - values.shape[0]), (0, width - values.shape[1]), (0, 0)))
    return Prepared(_arranged(values, recipe), geometry)


class _Photo:
    """The photo loaded as the recipe says, ready to be resized with its filter."""

    def __init__(self, image: Image.Image, recipe: Preprocess) -> None:
        self.recipe = recipe
        self.image = image.convert("YCbCr").getchannel(0) if recipe.load == "Y" else image.convert(recipe.load)
        self.size = self.image.size

    def resized(self, width: int, height: int) -> Pixels:
        """uint8 (height, width, C)."""
        if width * height > MAX_PIXELS:
            raise PreprocessError(
                f"preprocessing {self.recipe.name}: {self.recipe.resize.how} would make the photo of {self.size[0]} x "
                f"{self.size[1]} pixels {width} x {height}; crop the photo or take an exact size"
            )
        image = self.image
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling[self.recipe.filter.upper()])
        return np.asarray(image).reshape(height, width, -1)


def _none(photo: _Photo, _: Resize) -> tuple[Pixels, Geometry]:
    return photo.resized(*photo.size), Geometry.identity(*photo.size)


def _exact(photo: _Photo, resize: Resize) -> tuple[Pixels, Geometry]:
    size = _pair(resize)
    return photo.resized(*size), Geometry.resized(photo.size, size)


def _short_side(photo: _Photo, resize: Resize) -> tuple[Pixels, Geometry]:
    return _scaled(photo, resize, min(photo.size))


def _width(photo: _Photo, resize: Resize) -> tuple[Pixels, Geometry]:
    return _scaled(photo, resize, photo.size[0])


def _height(photo: _Photo, resize: Resize) -> tuple[Pixels, Geometry]:
    return _scaled(photo, resize, photo.size[1])


def _scaled(photo: _Photo, resize: Resize, side: int) -> tuple[Pixels, Geometry]:
    """Both sides by the factor that makes the number that is wanted of this one."""
    assert isinstance(resize.to, int)
    step = resize.multiple
    width, height = (max(round(n * resize.to / side / step), 1) * step for n in photo.size)
    return photo.resized(width, height), Geometry.resized(photo.size, (width, height))


def _short_side_floor(photo: _Photo, resize: Resize) -> tuple[Pixels, Geometry]:
    assert isinstance(resize.to, int)
    short = min(photo.size)
    width, height = (max(side * resize.to // short, 1) for side in photo.size)
    return photo.resized(width, height), Geometry.resized(photo.size, (width, height))


def _letterbox(photo: _Photo, resize: Resize) -> tuple[Pixels, Geometry]:
    frame = _pair(resize)
    factor = min(frame[0] / photo.size[0], frame[1] / photo.size[1])
    width, height = (max(1, min(round(n * factor), f)) for n, f in zip(photo.size, frame, strict=True))
    centred = resize.anchor == "center"
    left, top = ((frame[0] - width) // 2, (frame[1] - height) // 2) if centred else (0, 0)
    pixels = photo.resized(width, height)
    canvas = np.full((frame[1], frame[0], pixels.shape[2]), resize.pad, np.uint8)
    canvas[top : top + height, left : left + width] = pixels
    return canvas, Geometry.resized(photo.size, (width, height)).framed(-left, -top, frame)


def _height_pad(photo: _Photo, resize: Resize) -> tuple[Pixels, Geometry]:
    frame = _pair(resize)
    width = min(math.ceil(photo.size[0] * frame[1] / photo.size[1]), frame[0])
    geometry = Geometry.resized(photo.size, (width, frame[1])).framed(0, 0, frame)
    return photo.resized(width, frame[1]), geometry


RESIZERS: dict[str, Callable[[_Photo, Resize], tuple[Pixels, Geometry]]] = {
    "none": _none,
    "exact": _exact,
    "short_side": _short_side,
    "short_side_floor": _short_side_floor,
    "width": _width,
    "height": _height,
    "letterbox": _letterbox,
    "height_pad": _height_pad,
}
"""`resize.how` -> the pixels, which height_pad leaves narrower than the input, and their geometry."""


def _pair(resize: Resize) -> tuple[int, int]:
    assert isinstance(resize.to, tuple)
    return resize.to


def _center_crop(pixels: Pixels, geometry: Geometry, size: tuple[int, int]) -> tuple[Pixels, Geometry]:
    """Cut `size` from the middle; where there is less, black around it (torchvision's center_crop, offsets floored)."""
    spare = (pixels.shape[1] - size[0], pixels.shape[0] - size[1])
    left, top = (int(n / 2) for n in spare)
    kept = pixels[max(top, 0) : max(top, 0) + size[1], max(left, 0) : max(left, 0) + size[0]]
    canvas = np.zeros((size[1], size[0], pixels.shape[2]), np.uint8)
    y, x = max(-top, 0), max(-left, 0)
    canvas[y : y + kept.shape[0], x : x + kept.shape[1]] = kept
    return canvas, geometry.framed(left, top, size)


def _normalized(pixels: Pixels, recipe: Preprocess) -> npt.NDArray[np.floating]:
    """(H, W, C) in the channels' order; float64 for double models, else float32."""
    ordered = pixels[..., ::-1] if recipe.channels == "BGR" else pixels
    values = ordered.astype("float64" if recipe.dtype == "float64" else "float32")
    values *= recipe.scale
    values -= np.array(recipe.mean, values.dtype)
    values /= np.array(recipe.std, values.dtype)
    return values


def _arranged(values: npt.NDArray[np.floating], recipe: Preprocess) -> npt.NDArray[np.number]:
    if recipe.dtype == "uint8":
        values = np.rint(values).clip(0, 255)
    ordered = values.transpose(2, 0, 1) if recipe.layout == "NCHW" else values
    return np.ascontiguousarray(ordered[None], dtype=recipe.dtype)
