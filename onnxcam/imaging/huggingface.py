"""Hugging Face's preprocessor_config.json, said in our own keys.

Written from the behaviour of transformers' image processors: ViT, DeiT, CLIP, ConvNeXT (also ResNet, RegNet), BiT,
LeViT, PoolFormer, MobileNet, MobileViT and EfficientNet; others that use the same keys read the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from onnxcam.imaging.fields import Fields

_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # at Pillow's numbers
_TYPES = ("image_processor_type", "feature_extractor_type")
_WRAPPER = "image_processor"  # of processor_config.json
_MARKS = {*_TYPES, _WRAPPER, "do_resize", "do_rescale", "do_normalize", "do_center_crop", "image_mean", "image_std"}
# A bare number for `size` is the short side here, the side of a square in all others.
_KEEP_ASPECT = {
    "Bit", "CLIP", "ChineseCLIP", "ConvNext", "Levit", "MobileNetV1", "MobileNetV2", "MobileViT", "PoolFormer",
    "ViTHybrid",
}  # fmt: skip
_BICUBIC_BY_DEFAULT = {
    "Beit", "Bit", "CLIP", "ChineseCLIP", "ConvNext", "DeiT", "Levit", "PoolFormer", "Siglip", "ViTHybrid",
}  # fmt: skip
_CONVNEXT_WARPS_FROM = 384
_IMAGENET_MARGIN = 224 / 256
_READ = {
    *_TYPES, "do_resize", "size", "resample", "crop_pct", "do_center_crop", "crop_size", "do_rescale", "rescale_factor",
    "rescale_offset", "do_normalize", "image_mean", "image_std", "include_top", "do_flip_channel_order",
}  # fmt: skip
# These say nothing about the pixels of one colour photo.
_IDLE = {
    "processor_class", "_processor_class", "auto_map", "transformers_version", "do_convert_rgb", "do_reduce_labels",
    "reduce_labels", "data_format", "input_data_format", "return_tensors", "device", "disable_grouping",
    "default_to_square", "image_seq_length", "_valid_processor_keys", "valid_processor_keys", "format",
}  # fmt: skip


def is_huggingface(data: Mapping[str, object]) -> bool:
    """Whether the keys are those of a Hugging Face image processor."""
    return not _MARKS.isdisjoint(data)


def translated(fields: Fields) -> dict[str, object]:
    """The same preprocessing in the keys of `Preprocess.from_json`, but for layout and dtype, which it does not tell.

    Raises:
        PreprocessError: a key that is malformed, or switches on something that is not supported.
    """
    if fields.has(_WRAPPER):
        fields = fields.part(_WRAPPER)
    switched_off = {key for key, value in fields.data.items() if value is None or value is False}
    fields.refuse_others(_READ | _IDLE | switched_off)
    resize, crop = _geometry(fields)
    scale, mean, std = _values(fields)
    flipped = fields.flag("do_flip_channel_order", False)
    return {
        "channels": "BGR" if flipped else "RGB",
        "resize": resize,
        "filter": _filter(fields),
        "crop": crop,
        "scale": scale,
        "mean": mean[::-1] if flipped else mean,
        "std": std[::-1] if flipped else std,
    }


def _family(fields: Fields) -> str:
    kind = next((fields.word(key) for key in _TYPES if fields.has(key)), "")
    return re.sub(r"(ImageProcessor|FeatureExtractor)\w*$", "", kind)


def _filter(fields: Fields) -> str:
    number = fields.whole(
        "resample", _FILTERS.index("bicubic" if _family(fields) in _BICUBIC_BY_DEFAULT else "bilinear")
    )
    if not 0 <= number < len(_FILTERS):
        raise fields.wrong("resample", f"a number of Pillow's filters, 0..{len(_FILTERS) - 1}")
    return _FILTERS[number]


def _geometry(fields: Fields) -> tuple[dict[str, object], list[int] | None]:
    """`resize` and `crop`."""
    crop = _crop(fields)
    if not fields.flag("do_resize", fields.has("size")):
        return {"how": "none"}, crop
    family, to = _family(fields), _size(fields)
    share = fields.share("crop_pct", _IMAGENET_MARGIN if family == "ConvNext" else 1)
    if _crops_by_share(fields, family) and isinstance(to, int):
        square = [to, to]
        return ({"how": "exact", "to": square}, crop) if to >= _CONVNEXT_WARPS_FROM else (_short(to / share), square)
    if family == "Levit" and isinstance(to, int):
        return _short(to / _IMAGENET_MARGIN), crop
    if isinstance(to, int) or (share < 1 and to[0] == to[1]):
        return _short((to if isinstance(to, int) else to[0]) / share), crop
    return {"how": "exact", "to": [int(side / share) for side in to]}, crop


def _crops_by_share(fields: Fields, family: str) -> bool:
    """ConvNeXT's rule: what `crop_pct` leaves is cut off without being asked for."""
    return family == "ConvNext" or (fields.has("crop_pct") and not fields.has("do_center_crop"))


def _short(side: float) -> dict[str, object]:
    return {"how": "short_side_floor", "to": int(side)}


def _size(fields: Fields) -> int | list[int]:
    """The short side, or [width, height]."""
    if not isinstance(fields.data.get("size"), Mapping):
        side = fields.whole("size")
        return side if _keeps_aspect(fields) else [side, side]
    size = fields.part("size")
    if size.has("longest_edge"):
        raise size.wrong("longest_edge", "left out (write the size as our own letterbox recipe)")
    if size.has("shortest_edge"):
        size.refuse_others(["shortest_edge", "longest_edge"])
        return size.whole("shortest_edge")
    return _height_width(size)


def _keeps_aspect(fields: Fields) -> bool:
    family = _family(fields)
    return family in _KEEP_ASPECT if family else fields.has("crop_pct") or fields.flag("do_center_crop", False)


def _height_width(size: Fields) -> list[int]:
    size.refuse_others(["height", "width"])
    return [size.whole("width"), size.whole("height")]


def _crop(fields: Fields) -> list[int] | None:
    if not fields.flag("do_center_crop", fields.has("crop_size")):
        return None
    if isinstance(fields.data.get("crop_size"), Mapping):
        return _height_width(fields.part("crop_size"))
    side = fields.whole("crop_size")
    return [side, side]


def _values(fields: Fields) -> tuple[float, list[float], list[float]]:
    """Scale, mean and std of x = (pixel * scale - mean) / std."""
    rescales = fields.flag("do_rescale", True)
    scale = fields.number("rescale_factor", 1 / 255) if rescales else 1.0
    mean, std = [0.0] * 3, [1.0] * 3
    if fields.flag("do_normalize", fields.has("image_mean")):
        mean, std = _statistics(fields, "image_mean"), _statistics(fields, "image_std")
    if rescales and fields.flag("rescale_offset", False):  # EfficientNet: pixel * scale - 1
        mean = [m + 1 for m in mean]
    if fields.flag("include_top", False):  # EfficientNet's classifier divides by std once more
        std = [s * again for s, again in zip(std, _statistics(fields, "image_std"), strict=True)]
    return scale, mean, std


def _statistics(fields: Fields, key: str) -> list[float]:
    values = fields.numbers(key, 3, 0) if fields.has(key) else ()
    if len(values) != 3:
        raise fields.wrong(key, "a number for each of 3 channels")
    return list(values)
