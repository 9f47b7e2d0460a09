"""What Ultralytics' exports say of themselves, texts that hold Python literals: `names`, `imgsz`, `end2end` and more.

What is not as it should be counts as absent: strangers' metadata is no reason to refuse a model.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from onnxcam.imaging import Preprocess, Resize
from onnxcam.runtime import DETECTIONS, ImageInput, Score
from onnxcam.targets import BOX

MARK = "stride"  # which its exports have, and hardly anybody else's
LONGEST = 2**17  # characters of a literal, whose parsing takes 600 bytes for each; LVIS's 1,203 names are 30,000
USUAL_SIDE = 640
GREY = 114  # of its letterbox
LONGER = ("segment", "pose", "obb")  # tasks whose rows go on behind the class scores
LEAST = 6  # columns of finished detections: x1, y1, x2, y2, score, class, maybe more


def literal(metadata: Mapping[str, str], key: str) -> Any:
    """The Python literal of one entry; None where there is none."""
    text = metadata.get(key, "")
    if MARK not in metadata or not text or len(text) > LONGEST:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def names(metadata: Mapping[str, str]) -> list[str] | None:
    """The class names, `{0: 'person', 1: 'bicycle'}` or a list; None where there are none."""
    found = literal(metadata, "names")
    if isinstance(found, dict) and found and set(found) == set(range(len(found))):
        found = [found[i] for i in range(len(found))]
    return found if isinstance(found, list) and found and all(isinstance(name, str) for name in found) else None


def finished(metadata: Mapping[str, str]) -> bool:
    """Whether rows are finished detections: exported with `nms=True`, or of a network that needs no suppression."""
    arguments = literal(metadata, "args")
    suppressed = isinstance(arguments, dict) and arguments.get("nms") is True
    return names(metadata) is not None and (suppressed or literal(metadata, "end2end") is True)


def with_detections(score: Score, shape: Sequence[Any] | None, metadata: Mapping[str, str]) -> Score:
    """A score whose rows are known to be finished detections, which looks like rows of classes, as that."""
    columns = shape[-1] if shape else None
    wide = score.axes == "RC" and isinstance(columns, int) and columns >= LEAST
    return replace(score, axes=DETECTIONS) if wide and finished(metadata) else score


def behind(shape: Sequence[int], axes: str, metadata: Mapping[str, str]) -> int:
    """How many numbers follow a row's class scores: a mask's coefficients, key points or an angle."""
    if axes not in ("RC", "CR") or metadata.get("task") not in LONGER or (found := names(metadata)) is None:
        return 0
    return max(shape[axes.index("C")] - BOX - len(found), 0)


def recipe(metadata: Mapping[str, str], image: ImageInput) -> Preprocess | None:
    """Its own preprocessing, RGB in 0..1: a classifier's crop, else a letterbox. None: it is no such export."""
    if names(metadata) is None or image.channels not in (3, None) or image.dtype in ("uint8", "int8"):
        return None
    height, width = sides(metadata)
    size = image.size[0] or width, image.size[1] or height
    classifier = metadata.get("task") == "classify"
    return Preprocess(
        load="RGB",
        resize=Resize("short_side", max(size)) if classifier else Resize("letterbox", size, GREY, "center"),
        filter="bilinear",
        crop=size if classifier else None,
        channels="RGB",
        scale=1 / 255,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        layout="NCHW",
        dtype=image.dtype,
        name="ultralytics",
    )


def sides(metadata: Mapping[str, str]) -> tuple[int, int]:
    """`imgsz`, (height, width); 640 where it is not told."""
    found = literal(metadata, "imgsz")
    pair = found if isinstance(found, list | tuple) else [found, found]
    fits = len(pair) == 2 and all(isinstance(side, int) and 0 < side < 2**14 for side in pair)
    return (pair[0], pair[1]) if fits else (USUAL_SIDE, USUAL_SIDE)
