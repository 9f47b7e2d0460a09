"""The recipes that have names, fitted to a model's input."""

from __future__ import annotations

from typing import NamedTuple

from onnxcam.errors import PreprocessError, did_you_mean
from onnxcam.imaging.recipe import Preprocess, Resize
from onnxcam.imaging.text import printable


class _Row(NamedTuple):
    """One recipe; `cover` is the short side over the input's longer side before a centre crop, None: exact, no crop."""

    cover: float | None
    filter: str
    channels: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


_ONE = (1.0,)
_RECIPES = {
    "imagenet": _Row(256 / 224, "bilinear", "RGB", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": _Row(256 / 224, "bilinear", "BGR", 1.0, (103.939, 116.779, 123.68), _ONE),
    "tf": _Row(None, "bilinear", "RGB", 1 / 127.5, _ONE, _ONE),
    "unit": _Row(None, "bilinear", "RGB", 1 / 255, (0.0,), _ONE),
    "raw": _Row(None, "bilinear", "RGB", 1.0, (0.0,), _ONE),
    "clip": _Row(
        1.0, "bicubic", "RGB", 1 / 255, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    ),
}


def preprocess_names() -> list[str]:
    """The names that `named_preprocess` knows."""
    return list(_RECIPES)


def named_preprocess(
    name: str, *, size: tuple[int, int], channels: int, layout: str = "NCHW", dtype: str = "float32"
) -> Preprocess:
    """A named recipe for a model's input of `size` (width, height), `channels` 1 or 3, `layout` and `dtype`.

    Raises:
        PreprocessError: no such name, or a recipe that does not suit the input.
    """
    if name not in _RECIPES:
        raise PreprocessError(
            f"no preprocessing called {printable(name)!r}{did_you_mean(name, _RECIPES)} "
            f"(there are: {', '.join(_RECIPES)}, or a JSON file)"
        )
    row = _RECIPES[name]
    if channels not in (1, 3):
        raise PreprocessError(
            f"preprocessing {name}: a photo gives 1 or 3 channels, the model takes {channels}: "
            "give an array, or a .npy file"
        )
    if channels == 1 and len(row.mean) > 1:
        raise PreprocessError(
            f"preprocessing {name} is for 3 channels, the model takes 1; use unit, raw, tf or a JSON file"
        )
    if dtype == "uint8" and name != "raw":
        raise PreprocessError(f"preprocessing {name} gives fractions, the model takes uint8 pixels; use raw")
    return Preprocess(
        load="RGB" if channels == 3 else "L",
        resize=Resize("exact", size) if row.cover is None else Resize("short_side", round(max(size) * row.cover)),
        filter=row.filter,
        crop=None if row.cover is None else size,
        channels=row.channels if channels == 3 else "L",
        scale=row.scale,
        mean=row.mean if len(row.mean) == channels else row.mean * channels,
        std=row.std if len(row.std) == channels else row.std * channels,
        layout=layout,
        dtype=dtype,
        name=name,
    )
