"""Scores as they come out of a model, and as targets read them."""

from __future__ import annotations

import numpy as np

from onnxcam.errors import InputError, ModelError
from onnxcam.explainer.subject import Array
from onnxcam.runtime import DETECTIONS, Score
from onnxcam.targets import NOTHING


def checked_scores(scores: Array, images: int, score: Score) -> Array:
    """Scores with a row per image: as `Seen` has them. ModelError, InputError: there are none, or not finite."""
    name = score.name
    if not scores.ndim or len(scores) != images:
        raise ModelError(
            f"the score '{name}' has shape {list(scores.shape)} for {images} image(s), "
            "which is not a row for each image: name another with --score"
        )
    if not scores.size and score.axes == DETECTIONS:
        raise InputError(NOTHING)
    if not scores.size:
        raise ModelError(f"the score '{name}' is empty: its shape is {list(scores.shape)}")
    return finite(as_rows(scores, score), name)


def finite(scores: Array, name: str) -> Array:
    """The scores, those of a narrow type in float32. InputError: they are not finite."""
    if not np.logical_and.reduce(np.isfinite(scores), axis=None):  # `all`, at half its cost
        raise InputError(f"the score '{name}' is not finite on this input: nothing to explain")
    return scores if scores.dtype.char in "fd" else scores.astype(np.float32)


def as_rows(scores: Array, score: Score) -> Array:
    """Scores (images, classes) where each image has a row of classes; else as they are."""
    single = scores.ndim > 2 and not score.axes and sum(size != 1 for size in scores.shape[1:]) <= 1
    return scores.reshape(len(scores), -1) if single or scores.ndim == 1 else scores
