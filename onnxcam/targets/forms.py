"""What a class is in each form of scores, and what is explained when nobody says."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onnxcam.errors import InputError, TargetError
from onnxcam.targets.kinds import ClassTarget, Target
from onnxcam.targets.reading import BLANK, BOX, BOX_AND_OBJECTNESS, CLASS, SCORE, Reading
from onnxcam.targets.selections import ElementTarget, ProductTarget, RegionTarget, class_map
from onnxcam.targets.sequences import nothing_read, what_is_read

Mask = npt.NDArray[np.bool_]
NOTHING = "the model detects nothing in this image"
BACKGROUND = ("background", "_background_", "__background__")


def best(scores: npt.NDArray[np.floating], count: int) -> list[int]:
    """Indices of the highest scores, the highest first; ties: the lowest index first."""
    return [int(i) for i in np.argsort(-scores, kind="stable")[:count]]


def sayable(reading: Reading) -> str:
    """What can be said of some scores, for a message."""
    shape = " x ".join(map(str, reading.scores.shape)) or "one"
    form = "map" if reading.form == "maps" and reading.classes == 1 else reading.form
    said = f"{FORMS[form].sayable}, or NAME[INDEX]".removeprefix(", or ")
    return f"'{reading.score}' holds {shape} numbers for an image: say {said} with --target"


def class_target(which: int, reading: Reading) -> Target:
    """The target that a class is; TargetError when there is none such."""
    return FORMS[reading.form].of_class(which, reading)


def default_target(reading: Reading) -> Target:
    """What is explained when nobody says.

    Raises:
        TargetError: nothing suggests itself; tells what can be said. InputError: nothing does for this image.
    """
    found = FORMS[reading.form].default(reading)
    if found is None and reading.form == "detections":
        raise InputError(NOTHING)
    if found is None and reading.form in ("map", "maps") and own_region(0, reading) is not None:
        raise InputError(
            "the model sees nothing in this image: say where, 0@X0,Y0,X1,Y1 in pixels of the photo, or 0@all"
        )
    if found is None and reading.form == "rows" and is_alphabet(reading):
        raise nothing_read(blank=0)
    if found is None:
        raise TargetError(f"no target was named, and none suggests itself: {sayable(reading)}")
    return found


def some_target(reading: Reading) -> Target:
    """A target that any scores have: the default one, or the element farthest from zero."""
    farthest = np.unravel_index(np.argmax(np.abs(reading.scores)), reading.scores.shape)
    return FORMS[reading.form].default(reading) or ElementTarget(",".join(map(str, farthest)))


# -- a class ------------------------------------------------------------------------------------------


def in_row(which: int, reading: Reading) -> Target:
    """One of a row of classes; a single number is called by the name of the output."""
    return ClassTarget(which, reading.label(which), reading.score if reading.classes == 1 else None)


def over_own_region(which: int, reading: Reading) -> Target:
    """A segmentation's class over the region where the model says it (Seg-Grad-CAM)."""
    label = reading.label(which)
    mask = own_region(which, reading)
    where = f"say where, {which}@X0,Y0,X1,Y1 in pixels of the photo, {which}@MASK.png or {which}@all"
    if mask is None:
        raise TargetError(f"where class {which} is cannot be told from numbers of any range: {where}")
    if not mask.any():
        raise InputError(f"the model sees {label or f'class {which}'} nowhere in this image: {where}")
    return over(which, mask, "its own region", reading)


def own_region(which: int, reading: Reading) -> Mask | None:
    """Where the model says a class: it is highest; behind a sigmoid, over one half. None: one map of any range."""
    here = reading.scores if reading.form == "map" else class_map(reading.scores, which, reading.axis)
    if reading.squash == "sigmoid":
        return np.asarray(here > 0)
    if reading.classes == 1:
        return np.asarray(here > 0.5) if reading.probability else None
    return np.asarray(reading.highest == which)


def over(which: int, mask: Mask, where: str, reading: Reading) -> RegionTarget:
    """A class over a region."""
    label = reading.label(which) or ("the map" if reading.classes == 1 else None)
    return RegionTarget(None if reading.form == "map" else which, mask, where, label, reading.axis)


def in_best_row(which: int, reading: Reading) -> Target:
    """A detector's class in the row, box or step, that is surest of it."""
    label = reading.label(which)
    sure = confidences(reading)[:, which]
    return detection(int(np.argmax(sure)), which, label, reading)


def confidences(reading: Reading) -> npt.NDArray[np.floating]:
    """(rows, classes): the class scores, times the objectness where there is one."""
    rows = reading.scores if reading.axis else reading.scores.T
    sure = rows[:, reading.before : rows.shape[1] - reading.behind]
    return sure * rows[:, BOX : BOX + 1] if reading.before == BOX_AND_OBJECTNESS else sure


def detection(row: int, which: int, label: str | None, reading: Reading) -> Target:
    """A class in one row."""
    channels = [reading.before + which, *([BOX] if reading.before == BOX_AND_OBJECTNESS else [])]
    elements = tuple((row, channel) if reading.axis else (channel, row) for channel in channels)
    return ProductTarget(elements, f"{label or unnamed(which, reading)} in row {row}", label)


def unnamed(which: int, reading: Reading) -> str:
    """What a class of rows is called that has no label: a column that is a class for sure, or might be a box's."""
    return f"{'class' if reading.squash or reading.classes == 1 else 'column'} {which}"


def in_surest_detection(which: int, reading: Reading) -> Target:
    """The score of the surest detection that says a class."""
    label = reading.label(which)
    rows = surest(reading, which)
    if not rows.size:
        raise InputError(f"the model detects no {label or f'class {which}'} in this image: name another class")
    return finished(int(rows[0]), reading)


def finished(row: int, reading: Reading) -> Target:
    """The score of a detection, of the class that it says."""
    which = int(np.rint(reading.scores[row, CLASS]))
    label = reading.label(which)
    return ProductTarget(((row, SCORE),), f"{label or f'class {which}'} in row {row}", label)


def surest(reading: Reading, which: int | None = None) -> npt.NDArray[np.intp]:
    """The rows of detections, of one class or of all, the surest first.

    What only fills up the output is none: classes below 0, scores of 0, or below where others are above.
    """
    scores, kinds = reading.scores[:, SCORE], np.rint(reading.scores[:, CLASS])
    counted = (kinds >= 0) & ((scores > 0) if (scores > 0).any() else (scores < 0))
    if which is not None:
        counted &= kinds == which
    order = np.argsort(-scores, kind="stable")
    return order[counted[order]]


def in_place_of(one: Target, which: int, reading: Reading) -> Target:
    """Another class where a target already is: over its region, in its row; a detection's row says one class alone."""
    if isinstance(one, RegionTarget):
        return over(which, one.mask, "the same region", reading)
    if isinstance(one, ProductTarget) and reading.form == "rows":
        return detection(one.elements[0][1 - reading.axis], which, reading.label(which), reading)
    return class_target(which, reading)


def nameless(which: int, reading: Reading) -> Target:
    """Scores whose axes cannot be told have no classes."""
    raise TargetError(f"which of the scores is class {which} cannot be told: {sayable(reading)}")


# -- nobody says --------------------------------------------------------------------------------------


def highest(reading: Reading) -> Target | None:
    """The class of the highest score, the first of equals."""
    return in_row(int(reading.scores.argmax()), reading)


def highest_ones(count: int, reading: Reading) -> list[Target]:
    """The classes of the highest scores."""
    return [in_row(i, reading) for i in best(reading.scores, count)]


def most_frequent(reading: Reading) -> Target | None:
    """The class that takes most of the image, the one called background aside."""
    regions = [own_region(which, reading) for which in range(reading.classes)]
    shares = [0 if region is None else int(region.sum()) for region in regions]
    if reading.labels is not None and reading.labels[0].strip().lower() in BACKGROUND and any(shares[1:]):
        shares[0] = 0
    return over_own_region(int(np.argmax(shares)), reading) if any(shares) else None


def surest_row(reading: Reading) -> Target | None:
    """The surest detection: where labels tell the classes, or there is one alone. A softmax may have a background.

    Of an alphabet with its blank what is read.
    """
    if is_alphabet(reading):
        return what_is_read(reading, blank=0)
    if reading.squash == "softmax" or (reading.labels is None and reading.classes > 1):
        return None
    sure = confidences(reading)
    row, which = (int(i) for i in np.unravel_index(np.argmax(sure), sure.shape))
    return detection(row, which, reading.label(which), reading)


def is_alphabet(reading: Reading) -> bool:
    """Whether the classes are letters, with the blank in front."""
    return reading.labels is not None and reading.labels[0] == BLANK and not reading.before


def surest_detection(reading: Reading) -> Target | None:
    """The surest detection of all."""
    rows = surest(reading)
    return finished(int(rows[0]), reading) if rows.size else None


def surest_ones(count: int, reading: Reading) -> list[Target]:
    """The surest detections; InputError where there are none."""
    rows = surest(reading)[:count]
    if not rows.size:
        raise InputError(NOTHING)
    return [finished(int(row), reading) for row in rows]


def nothing(_: Reading) -> Target | None:
    """Nothing suggests itself."""
    return None


# -- the forms ----------------------------------------------------------------------------------------


class Form(NamedTuple):
    """A form of scores (see `Reading.form`): what can be said besides NAME[INDEX], what a class is, what is explained
    when nobody says, and the K best, where there are such.
    """

    sayable: str
    of_class: Callable[[int, Reading], Target]
    default: Callable[[Reading], Target | None]
    best: Callable[[int, Reading], list[Target]] | None = None


FORMS = {
    "classes": Form("a class's index or label, top:K, 'A not B', similar:IMAGE", in_row, highest, highest_ones),
    "maps": Form(
        "CLASS (over its own region), CLASS@X0,Y0,X1,Y1 in pixels of the photo, CLASS@MASK.png, CLASS@all",
        over_own_region,
        most_frequent,
    ),
    "map": Form("0@X0,Y0,X1,Y1 in pixels of the photo, 0@MASK.png, 0@all", over_own_region, most_frequent),
    "rows": Form("CLASS (in its best row), token:STEP,CLASS, tokens:A,B,C, ctc", in_best_row, surest_row),
    "detections": Form("CLASS (in its best row), top:K", in_surest_detection, surest_detection, surest_ones),
    "": Form("", nameless, nothing),
}
