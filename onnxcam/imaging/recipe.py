"""Preprocessing as data: what happens between a photo and the model's input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from onnxcam.errors import PreprocessError, did_you_mean
from onnxcam.files import read_start
from onnxcam.imaging import huggingface, timm
from onnxcam.imaging.decoding import MAX_PIXELS
from onnxcam.imaging.fields import Fields
from onnxcam.imaging.text import printable

LOADS: Final = {"RGB": "RGB", "BGR": "RGB", "L": "L", "Y": "Y"}
"""The channels of the model's input -> how the photo is loaded for them."""
FILTERS: Final = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
LAYOUTS: Final = ("NCHW", "NHWC")
DTYPES: Final = ("float32", "float16", "float64", "uint8")
ANCHORS: Final = ("top-left", "center")
LARGEST_SIDE: Final = 20_000
_TINIEST, _LARGEST = 1e-12, 1e12
_LARGEST_FILE = 1 << 20
_TOLD = ("name", "guess")  # what `onnxcam run --json` says besides; read back, they change nothing
_RESIZE_KEYS: Final = {
    "none": (), "exact": ("to",), "short_side": ("to", "multiple"), "short_side_floor": ("to",),
    "width": ("to",), "height": ("to",),
    "letterbox": ("to", "pad", "anchor"), "height_pad": ("to",),
}  # fmt: skip
HOWS: Final = tuple(_RESIZE_KEYS)
_ONE_SIDE: Final = ("short_side", "short_side_floor", "width", "height")
_KEYS = ("load", "resize", "filter", "crop", "channels", "scale", "mean", "std", "layout", "dtype")


@dataclass(frozen=True)
class Resize:
    """How the photo gets its size.

    Attributes:
        how: `none`; `exact` to [w, h]; keeping the aspect: `short_side`, `short_side_floor`, its long side rounded
            down as by torchvision, `width`, `height`; `letterbox` into [w, h], keeping the aspect; `height_pad`: to
            the height of [w, h], keeping the aspect up to its width, zeros on the right.
        to: (width, height), or the one side; None for `none`.
        pad: the grey of letterbox's bars, 0..255, before scale and mean.
        anchor: where letterbox puts the photo, `top-left` or `center`.
        multiple: of which both sides are, behind `short_side`, each rounded to the nearest.
    """

    how: str = "none"
    to: int | tuple[int, int] | None = None
    pad: int = 0
    anchor: str = "top-left"
    multiple: int = 1


@dataclass(frozen=True)
class Preprocess:
    """A recipe: load, resize, centre crop, reorder channels, x = (pixel * scale - mean) / std, layout, dtype.

    Attributes:
        load: `RGB`, `L` (grey) or `Y` (luma of YCbCr).
        resize: how the photo gets its size.
        filter: Pillow's name of the resampling filter, in lower case.
        crop: (width, height) cut from the middle; where the picture is smaller, black is put around it.
        channels: `RGB`, `BGR`, `L` or `Y`.
        scale, mean, std: numbers; mean and std in the order of `channels`.
        layout: `NCHW` or `NHWC`.
        dtype: `float32`, `float16`, `float64` or `uint8` (rounded to 0..255).
        name: where the recipe comes from.

    Raises:
        PreprocessError: parts that do not go together or are out of range.
    """

    load: str
    resize: Resize
    filter: str
    crop: tuple[int, int] | None
    channels: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: str
    dtype: str
    name: str

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the part."""
        if complaint := next(_complaints(self), None):
            raise PreprocessError(printable(f"preprocessing {self.name}: {complaint}"))

    @classmethod
    def from_json(cls, data: object, *, name: str, layout: str = "NCHW", dtype: str = "float32") -> Preprocess:
        """Read our own keys, those of a Hugging Face preprocessor_config.json, or of a timm config.json.

        `channels` and `scale` are required, for a guess there would give a plausible wrong picture; `resize` is none,
        `filter` bilinear, `crop` null, `mean` 0 and `std` 1 unless told. `layout` and `dtype` serve data without.

        Raises:
            PreprocessError: an unknown, missing or malformed key, named.
        """
        fields = Fields(data, name)
        if timm.is_timm(fields.data):
            fields = Fields(timm.translated(fields), name)
        elif huggingface.is_huggingface(fields.data):
            fields = Fields(huggingface.translated(fields), name)
        fields.refuse_others((*_KEYS, *_TOLD))
        channels = fields.word("channels")
        count = len(channels)
        return cls(
            load=fields.word("load", LOADS.get(channels, channels)),
            resize=_read_resize(fields.part("resize")),
            filter=fields.word("filter", "bilinear").lower(),
            crop=fields.size("crop") if fields.has("crop") else None,
            channels=channels,
            scale=fields.number("scale"),
            mean=fields.numbers("mean", count, 0),
            std=fields.numbers("std", count, 1),
            layout=fields.word("layout", layout),
            dtype=fields.word("dtype", dtype),
            name=name,
        )

    def to_json(self) -> dict[str, object]:
        """Our keys; `from_json` reads them back to an equal recipe."""
        resize: dict[str, object] = {"how": self.resize.how}
        if self.resize.to is not None:
            resize["to"] = self.resize.to if isinstance(self.resize.to, int) else list(self.resize.to)
        if self.resize.how == "letterbox":
            resize |= {"pad": self.resize.pad, "anchor": self.resize.anchor}
        if self.resize.multiple != 1:
            resize["multiple"] = self.resize.multiple
        return {
            "load": self.load,
            "resize": resize,
            "filter": self.filter,
            "crop": None if self.crop is None else list(self.crop),
            "channels": self.channels,
            "scale": self.scale,
            "mean": list(self.mean),
            "std": list(self.std),
            "layout": self.layout,
            "dtype": self.dtype,
        }


def _read_resize(fields: Fields) -> Resize:
    how = fields.word("how", "none" if not fields.data else None)
    if how not in HOWS:
        raise fields.wrong("how", f"one of {', '.join(HOWS)}")
    known = {"how", *_RESIZE_KEYS[how]}
    fields.refuse_others(known | {key for keys in _RESIZE_KEYS.values() for key in keys if not fields.has(key)})
    if how == "none":
        return Resize()
    to = fields.whole("to") if how in _ONE_SIDE else fields.size("to")
    return Resize(how, to, fields.whole("pad", 0), fields.word("anchor", "top-left"), fields.whole("multiple", 1))


def _complaints(recipe: Preprocess) -> Iterator[str]:
    """What is wrong with a recipe, in words."""
    yield from _unknown_words(recipe)
    if recipe.load != LOADS[recipe.channels]:
        yield f"load {recipe.load} does not give channels {recipe.channels}; load {LOADS[recipe.channels]}"
    yield from _wrong_sizes(recipe)
    count = len(recipe.channels)
    for key, values in {"mean": recipe.mean, "std": recipe.std}.items():
        if len(values) != count:
            channels = f"{count} channel{'s' * (count > 1)} ({recipe.channels})"
            yield f"{key} holds {len(values)} numbers for {channels}: give one per channel"
    for key, values in {"scale": (recipe.scale,), "std": recipe.std}.items():
        if not all(_TINIEST <= abs(value) <= _LARGEST for value in values):
            yield f"{key} has to be finite and not zero, not {', '.join(f'{value:g}' for value in values)}"
    if not all(abs(value) <= _LARGEST for value in recipe.mean):
        yield f"mean has to be finite, not {', '.join(f'{value:g}' for value in recipe.mean)}"


def _unknown_words(recipe: Preprocess) -> Iterator[str]:
    words: dict[str, tuple[str, Sequence[str]]] = {
        "channels": (recipe.channels, tuple(LOADS)),
        "load": (recipe.load, sorted(set(LOADS.values()))),
        "filter": (recipe.filter, FILTERS),
        "layout": (recipe.layout, LAYOUTS),
        "dtype": (recipe.dtype, DTYPES),
        "resize.how": (recipe.resize.how, HOWS),
        "resize.anchor": (recipe.resize.anchor, ANCHORS),
    }
    for key, (word, known) in words.items():
        if word not in known:
            yield f"{key} has to be one of {', '.join(known)}, not {word[:40]!r}{did_you_mean(word, known)}"


def _wrong_sizes(recipe: Preprocess) -> Iterator[str]:
    how, to = recipe.resize.how, recipe.resize.to
    if not (to is None if how == "none" else isinstance(to, int if how in _ONE_SIDE else tuple)):
        yield f"resize.to {to} does not go with {how}: none takes no size, one side one number, the others two"
    for key, size in {"resize.to": to, "crop": recipe.crop}.items():
        sides = size if isinstance(size, tuple) else (size,)
        if size is not None and not all(1 <= side <= LARGEST_SIDE for side in sides if side is not None):
            yield f"{key} has to lie in 1..{LARGEST_SIDE} pixels, not {' x '.join(map(str, sides))}"
        if isinstance(size, tuple) and size[0] * size[1] > MAX_PIXELS:
            yield f"{key} holds more than {MAX_PIXELS} pixels: {size[0]} x {size[1]}"
    if not 0 <= recipe.resize.pad <= 255:
        yield f"resize.pad has to lie in 0..255, not {recipe.resize.pad}"
    if not 1 <= recipe.resize.multiple <= LARGEST_SIDE:
        yield f"resize.multiple has to lie in 1..{LARGEST_SIDE}, not {recipe.resize.multiple}"
    if how != "letterbox" and replace(recipe.resize, multiple=1) != Resize(how, to):
        yield f"resize.pad and resize.anchor go with letterbox, not {how}"
    if how != "short_side" and recipe.resize.multiple != 1:
        yield f"resize.multiple goes with short_side, not {how}"
    if how == "height_pad" and recipe.crop:
        yield "crop does not go with height_pad; leave it out"


def load_preprocess(path: str | Path, *, layout: str = "NCHW", dtype: str = "float32") -> Preprocess:
    """Read a recipe from a JSON file of at most a megabyte; see `Preprocess.from_json`.

    Raises:
        PreprocessError: the file cannot be read, is no JSON, or no recipe; the message names the file.
    """
    name = printable(str(path))
    try:
        text = read_start(path, _LARGEST_FILE)
        if len(text) > _LARGEST_FILE:
            raise PreprocessError(f"preprocessing {name}: larger than a megabyte; that is no recipe")
        data = json.loads(text)
    except OSError as error:
        raise PreprocessError(f"preprocessing {name} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, digits without end, brackets without end
        raise PreprocessError(f"preprocessing {name} is not JSON: {printable(str(error))[:160]}") from error
    return Preprocess.from_json(data, name=name, layout=layout, dtype=dtype)


def override(
    recipe: Preprocess,
    *,
    size: int | tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels: str | None = None,
    scale: float | None = None,
) -> Preprocess:
    """The recipe with some parts replaced; None keeps a part.

    A single `size` is the one side where the recipe keeps the aspect, else the side of a square; (width, height)
    where there was one side or no resize means exact, without the crop. One mean or std holds for all channels.
    Turning RGB into BGR turns the recipe's own mean and std along.

    Raises:
        PreprocessError: the result does not go together.
    """
    changes: dict[str, object] = {}
    wanted = channels or recipe.channels
    if channels is not None:
        changes |= {"channels": channels, "load": LOADS.get(channels, recipe.load)}
    turned = {wanted, recipe.channels} == {"RGB", "BGR"}
    for key, own, given in (("mean", recipe.mean, mean), ("std", recipe.std, std)):
        changes[key] = _for_channels((own[::-1] if turned else own) if given is None else tuple(given), len(wanted))
    if size is not None:
        resize = _resized(recipe.resize, size)
        changes |= {"resize": resize, "crop": recipe.crop if resize.how == recipe.resize.how else None}
    if crop is not None:
        changes["crop"] = crop
    if scale is not None:
        changes["scale"] = scale
    apply: Callable[..., Preprocess] = replace
    return apply(recipe, **changes)


def _for_channels(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    return values[:1] * count if len(set(values)) == 1 else values


def _resized(resize: Resize, size: int | tuple[int, int]) -> Resize:
    if resize.how in _ONE_SIDE and isinstance(size, int):
        return replace(resize, to=size)
    pair = (size, size) if isinstance(size, int) else size
    return Resize("exact", pair) if resize.how in ("none", *_ONE_SIDE) else replace(resize, to=pair)
