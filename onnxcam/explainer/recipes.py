"""Which preprocessing and labels belong to a model: what the user says, what the file says, or an announced guess."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxcam.arguments import NAMES_OF_CLASSES, Kind, is_text, require
from onnxcam.errors import PreprocessError, TargetError
from onnxcam.explainer import ultralytics
from onnxcam.imaging import Preprocess, Resize, load_preprocess, named_preprocess
from onnxcam.runtime import DETECTIONS, LABELS, PREPROCESS, STEP, USUAL_SIDE, ImageInput
from onnxcam.targets import BLANK, check_labels, class_counts, imagenet_labels, parse_labels, read_labels

IMAGENET_CLASSES = 1000
CHARACTERS = "character"  # metadata of readers of text and other models of the PaddleOCR family
NORMALIZED_INSIDE = {255.0: "raw", 1.0: "unit"}  # what a model wants that normalizes it itself, by its white
SMALL = 64  # pixels; below it images are usually fed whole, as 0..1
RECIPE = Kind(
    "a name, a file or its content", lambda value: isinstance(value, str | Path | Mapping | Preprocess)
).or_none()
USUAL_SHORT = 512  # the same of one that answers for places: its short side; both are multiples of STEP


@dataclass(frozen=True)
class Chosen:
    """A recipe; `guess` says that nobody told us."""

    recipe: Preprocess
    guess: bool


def choose_recipe(
    given: str | Path | Mapping[str, Any] | Preprocess | None,
    image: ImageInput,
    metadata: Mapping[str, str],
    *,
    places: bool = False,
) -> Chosen:
    """The recipe a user gave (a name, a JSON file, its content), the one in the model's metadata, or a guess.

    `places`: whether the model answers for places of the image (a map, boxes), so that all of it counts.

    Raises:
        PreprocessError: it cannot be understood or does not fit the model's input.
    """
    require("preprocess", given, RECIPE)
    check_takes_photos(image)
    if given is not None:
        recipe, guess = given_recipe(given, image, places=places), False
    elif (own := own_recipe(metadata, image)) is not None:
        recipe, guess = own, False
    else:
        recipe, guess = named(guessed(image), image, places=places), True
    return Chosen(fitted(recipe, image), guess)


def check_takes_photos(image: ImageInput) -> None:
    """PreprocessError where no preprocessing makes of a photo what the model takes."""
    if "D" in image.layout:
        raise PreprocessError(
            f"the model's input '{image.name}' takes volumes ({image.layout}), a photo has no depth: "
            "give an array, or a .npy file"
        )
    if image.dtype == "int8":
        raise PreprocessError(
            f"the model's input '{image.name}' takes int8, which no preprocessing gives: give an array, or a .npy file"
        )


def given_recipe(given: str | Path | Mapping[str, Any] | Preprocess, image: ImageInput, *, places: bool) -> Preprocess:
    """The recipe that a user gave. A text is a file where there is one, or where it ends in .json; else a name."""
    if isinstance(given, Preprocess):
        return given
    if isinstance(given, Mapping):
        return Preprocess.from_json(given, name="given", layout=photo_layout(image), dtype=image.dtype)
    if isinstance(given, Path) or Path(given).suffix == ".json" or is_file(given):
        return load_preprocess(given, layout=photo_layout(image), dtype=image.dtype)
    return named(given, image, places=places)


def is_file(name: str) -> bool:
    """Whether there is a file of that name."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # longer than any name, or with a null character
        return False


def own_recipe(metadata: Mapping[str, str], image: ImageInput) -> Preprocess | None:
    """The recipe in the model's metadata: ours, or Ultralytics'; None where there is none."""
    if PREPROCESS not in metadata:
        return ultralytics.recipe(metadata, image)
    try:
        data = json.loads(metadata[PREPROCESS])
    except (ValueError, RecursionError) as error:  # brackets without end
        raise PreprocessError(f"the model's metadata entry {PREPROCESS} is not JSON: give --preprocess") from error
    return Preprocess.from_json(data, name="from the model", layout=photo_layout(image), dtype=image.dtype)


def photo_layout(image: ImageInput) -> str:
    """The layout of preprocessed photos in which the model has its channels."""
    return "NHWC" if image.layout.endswith("C") else "NCHW"


def named(name: str, image: ImageInput, *, places: bool) -> Preprocess:
    """A named recipe for this input.

    Only what is classified, in a square, loses its borders to a crop, which would cut away most of a line of text, and
    objects that a map should show. Where a side is free the photo's own proportions stay.
    """
    width, height = image.size
    size = (width or USUAL_SIDE, height or USUAL_SIDE)
    channels, layout = image.channels or 3, photo_layout(image)
    recipe = named_preprocess(name, size=size, channels=channels, layout=layout, dtype=image.dtype)
    resize = Resize("exact", size)
    if width is None and height is None:
        resize = Resize("short_side", USUAL_SHORT, multiple=STEP)
    elif width is None:
        resize = Resize("height", height)
    elif height is None:
        resize = Resize("width", width)
    return replace(recipe, resize=resize, crop=None) if places or width != height else recipe


def guessed(image: ImageInput) -> str:
    """The name of what such an input most often wants."""
    if image.dtype == "uint8":
        return "raw"
    if image.white is not None:
        return NORMALIZED_INSIDE[image.white]
    small = max(side or USUAL_SIDE for side in image.size) < SMALL
    if small or image.channels == 1:
        return "unit"
    return "tf" if image.layout.endswith("C") else "imagenet"


def fitted(recipe: Preprocess, image: ImageInput) -> Preprocess:
    """The recipe in the model's own layout and type; PreprocessError when its channels or its range are not theirs."""
    if image.channels is not None and len(recipe.mean) != image.channels:
        raise PreprocessError(
            f"preprocessing {recipe.name} gives {len(recipe.mean)} channel(s), "
            f"the model's input '{image.name}' takes {image.channels}"
        )
    ends = [(pixel * recipe.scale - m) / s for pixel in (0, 255) for m, s in zip(recipe.mean, recipe.std, strict=True)]
    if image.dtype == "uint8" and (round(min(ends)), round(max(ends))) != (0, 255):
        raise PreprocessError(
            f"preprocessing {recipe.name} gives {min(ends):.4g} to {max(ends):.4g}, the model's input '{image.name}' "
            "takes uint8 pixels, 0 to 255: use raw, or scale 1 without mean and std"
        )
    return replace(recipe, layout=photo_layout(image), dtype=image.dtype)


def check_size(recipe: Preprocess, image: ImageInput) -> None:
    """PreprocessError when the recipe ends in another size than the model takes; where only the photo tells, it may."""
    size = recipe.crop or (recipe.resize.to if isinstance(recipe.resize.to, tuple) else None)
    if size is not None and any(side not in (None, n) for side, n in zip(image.size, size, strict=True)):
        wanted = " x ".join(str(side or "any") for side in image.size)
        raise PreprocessError(
            f"preprocessing {recipe.name} ends in {size[0]} x {size[1]} pixels, the model's input '{image.name}' takes "
            f"{wanted} (width x height): change --size or --crop"
        )


@dataclass(frozen=True)
class Labels:
    """Class names, None where there are none that fit; `guess` says that nobody told us.

    `unfit`: how many there are of those that do not fit.
    """

    names: list[str] | None = None
    guess: bool = False
    unfit: int = 0


def choose_labels(
    given: str | Path | Sequence[str] | None,
    counts: Sequence[int] | None,
    metadata: Mapping[str, str],
    *,
    strict: bool = True,
) -> Labels:
    """Class names: a user's file or list, the model's own, ImageNet's for 1,000 classes.

    `counts`: how many labels would fit; None: any number. Where none of the user's do there are none, and if `strict`
    that is refused.

    Raises:
        TargetError: a wrong number of labels, or a file that is no text.
    """
    require("labels", given, NAMES_OF_CLASSES)
    if given is not None:
        labels = as_labels(given)
        if not labels:
            raise TargetError("there are no labels in it: write a class name a line, or leave --labels out")
        if strict and counts:
            check_labels(labels, *counts)
        return those_that_fit(labels, counts)
    if LABELS in metadata or ultralytics.names(metadata):
        labels = parse_labels(metadata[LABELS]) if LABELS in metadata else ultralytics.names(metadata) or []
        return those_that_fit(labels, counts)
    if CHARACTERS in metadata and counts is not None:
        return characters(metadata[CHARACTERS], counts)
    return Labels(imagenet_labels(), guess=True) if counts == (IMAGENET_CLASSES,) else Labels()


def as_labels(given: str | Path | Sequence[str]) -> list[str]:
    """Class names out of a file, or as they are. TargetError: the file is no text, or half a character is in a name."""
    labels = read_labels(given) if isinstance(given, str | Path) else list(given)
    if broken := [label for label in labels if not is_text(label)]:
        raise TargetError(f"the class name {broken[0][:40]!r} holds half a character: write the labels as UTF-8")
    return labels


def characters(text: str, counts: Sequence[int]) -> Labels:
    """Class names, a line each, or letters that a model reads: a blank comes before them, perhaps a space behind."""
    names = text.split("\n")
    fitting = (found for found in (names, [BLANK, *names], [BLANK, *names, " "]) if len(found) in counts)
    found = next(fitting, None)
    return Labels(unfit=len(names)) if found is None else Labels(found)


def those_that_fit(labels: list[str], counts: Sequence[int] | None) -> Labels:
    """Class names where there are as many as fit."""
    fit = bool(labels) if counts is None else len(labels) in counts
    return Labels(labels) if fit else Labels(unfit=len(labels))


def label_counts(shape: Sequence[int], axes: str, behind: int, metadata: Mapping[str, str]) -> tuple[int, ...] | None:
    """The numbers of labels that fit one image's scores: of some of Ultralytics' rows that of the model's own names, of
    other detections, which tell nothing but their own classes, any (None).

    `behind`: how many numbers follow a row's class scores.
    """
    own = ultralytics.names(metadata) if axes == DETECTIONS or behind else None
    if own:
        return (len(own),)
    return None if axes == DETECTIONS else class_counts(shape, axes)
