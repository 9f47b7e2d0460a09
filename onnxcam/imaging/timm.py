"""timm's description of a pretrained model, said in our own keys.

Its evaluation: resize to the input's size over `crop_pct`, crop from the middle, normalize. It stands as
`pretrained_cfg` in a model's config.json, and in the preprocessor_config.json that transformers writes for such models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnxcam.imaging.fields import Fields

_CONFIG = "pretrained_cfg"
_SHARE = 0.875  # of the resized picture, where nothing is said
_FILTERS = ("bilinear", "bicubic", "nearest", "lanczos", "box", "hamming")
_MODES = ("center", "squash")


def is_timm(data: Mapping[str, object]) -> bool:
    """Whether the keys are those of timm."""
    return _CONFIG in data or {"input_size", "interpolation"} <= data.keys()


def translated(fields: Fields) -> dict[str, object]:
    """The same preprocessing in the keys of `Preprocess.from_json`, but for layout and dtype, which it does not tell.

    Raises:
        PreprocessError: a key that is malformed, or stands for something that is not supported.
    """
    if fields.has(_CONFIG):
        fields = fields.part(_CONFIG)
    channels, height, width = (int(side) for side in _input_size(fields))
    if channels != 3:
        raise fields.wrong("input_size", "[3, height, width], that of a colour photo")
    share = fields.share("crop_pct", _SHARE)
    return {
        "channels": "RGB",
        "resize": _resize(fields, math.floor(width / share), math.floor(height / share)),
        "filter": _filter(fields),
        "crop": [width, height],
        "scale": 1 / 255,
        "mean": list(fields.numbers("mean", channels, 0)),
        "std": list(fields.numbers("std", channels, 1)),
    }


def _input_size(fields: Fields) -> tuple[float, ...]:
    size = fields.numbers("input_size", 1, 0)
    if len(size) != 3 or any(side != int(side) or side < 1 for side in size):
        raise fields.wrong("input_size", "[channels, height, width]")
    return size


def _resize(fields: Fields, width: int, height: int) -> dict[str, object]:
    mode = fields.word("crop_mode", "center")
    if mode not in _MODES:
        raise fields.wrong("crop_mode", f"one of {', '.join(_MODES)} (write others as our own letterbox recipe)")
    if mode == "squash":
        return {"how": "exact", "to": [width, height]}
    if width != height:
        raise fields.wrong("input_size", "a square, where crop_mode is center (write others as our own recipe)")
    return {"how": "short_side_floor", "to": width}


def _filter(fields: Fields) -> str:
    name = fields.word("interpolation", "bilinear")
    if name not in _FILTERS:
        raise fields.wrong("interpolation", f"one of {', '.join(_FILTERS)}")
    return name
