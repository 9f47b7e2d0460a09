"""What targets are read off: the scores of one image, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import TargetError
from onnxcam.targets.kinds import Array, check_class

BOX, BOX_AND_OBJECTNESS = 4, 5  # numbers of a detection in front of its class scores
BLANK = "blank"  # the name of the token between two letters, in front of an alphabet
SCORE, CLASS = 4, 5  # columns of a finished detection, behind its box
FORM_OF_AXES = {
    **dict.fromkeys(["CHW", "HWC", "CDHW", "DHWC"], "maps"), "HW": "map",
    "RC": "rows", "CR": "rows", "RD": "detections",
}  # fmt: skip


def nowhere(_: Any) -> Any:
    """Stands for a photo or model that a reading has not got."""
    raise TargetError("this target needs the image and the model: explain with an Explainer")


@dataclass(frozen=True, eq=False)
class Reading:
    """The scores of one image, and what is known of them.

    Attributes:
        scores: without the axis of images.
        axes: what the axes mean, as `Score.axes`; empty for a row of classes, and where it cannot be told.
        squash: "softmax", "sigmoid" or "": what the model turns them into probabilities with.
        labels: a name per class.
        score: what messages call the scores.
        region: from a box (x0, y0, x1, y1) of the photo, or a mask's file, to bool on the grid of the scores, (h, w),
            or (d, h, w) of a volume.
        scores_of: from another image's file to its scores.
        probability: whether the scores are probabilities themselves.
        behind: numbers behind the last class of a row, as of key points.
        unfit: how many class names there are that fit none of the axes, where `labels` is None for that.
    """

    scores: Array
    axes: str = ""
    squash: str = ""
    labels: Sequence[str] | None = None
    score: str = "the score"
    region: Callable[[tuple[float, ...] | str], npt.NDArray[np.bool_]] = nowhere
    scores_of: Callable[[str], Array] = nowhere
    unfit: int = 0
    probability: bool = False
    behind: int = 0

    @property
    def form(self) -> str:
        """What kind of scores they are: "classes", "maps" of classes, a "map", "rows" of classes, "detections", or "".

        Of detections a row names its class, instead of scoring every one.
        """
        return "classes" if self.scores.ndim == 1 else FORM_OF_AXES.get(self.axes, "")

    @property
    def axis(self) -> int:
        """The classes' axis. Of rows it is the one that the labels fit, where they fit one alone."""
        if self.form != "rows":
            return max(self.axes.find("C"), 0) if self.scores.ndim > 1 else 0
        fitting = [axis for axis in (0, 1) if self._before(axis) is not None]
        return fitting[0] if len(fitting) == 1 else self.axes.index("C")

    @property
    def before(self) -> int:
        """Numbers in front of the first class: 4 of a box, 5 with its objectness, or none."""
        return self._before(self.axis) or 0

    def _before(self, axis: int) -> int | None:
        """How many more entries an axis has than there are labels, where that is what a detector has; else None."""
        spare = self.scores.shape[axis] - self.behind - len(self.labels) if self.labels is not None else None
        return spare if spare in ((0, BOX, BOX_AND_OBJECTNESS) if self.form == "rows" else (0,)) else None

    @property
    def classes(self) -> int:
        """How many there are."""
        if self.form == "classes":
            return len(self.scores)
        if self.form == "detections":
            return max(len(self.labels or ()), int(np.rint(self.scores[:, CLASS].max(initial=0))) + 1)
        return 1 if self.form == "map" else self.scores.shape[self.axis] - self.before - self.behind

    @cached_property
    def highest(self) -> npt.NDArray[np.intp]:
        """The class that scores highest, at each position of maps of classes."""
        return np.asarray(self.scores.argmax(axis=self.axis))

    def label(self, which: int) -> str | None:
        """The name of a class; None where there is none. TargetError: no such class.

        How many there are detections do not tell, where there are no labels.
        """
        if self.form == "detections" and self.labels is None and which >= 0:
            return None
        check_class(which, self.classes)
        return self.labels[which] if self.labels is not None and which < len(self.labels) else None


def class_counts(shape: Sequence[int], axes: str) -> tuple[int, ...]:
    """The numbers of labels that fit scores of a shape: see `Reading.before`. Empty where no axis holds classes."""
    if len(shape) == 1:
        return tuple(shape)
    if FORM_OF_AXES.get(axes) == "rows":
        return tuple(size - spare for size in shape for spare in (0, BOX, BOX_AND_OBJECTNESS) if size > spare)
    if "C" in axes:
        return (shape[axes.index("C")],)
    return (1,) if FORM_OF_AXES.get(axes) == "map" else ()
