"""Targets in scores of any shape: what an index selects, a class over a region, the product of a few elements."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import TargetError
from onnxcam.targets.kinds import Array, Target, check_class

Index = tuple[int | slice | EllipsisType, ...]
PART = re.compile(r"\s*(?:(?P<at>[+-]?\d{1,18})|(?P<slice>[+-]?\d{0,18}(?::[+-]?\d{0,18}){1,2})|(?P<rest>\.\.\.))\s*")


def parse_index(text: str) -> Index:
    """NumPy's spelling of an index: integers, slices, `...`, with commas between; TargetError for anything else."""
    found: list[int | slice | EllipsisType] = []
    for part in text.split(","):
        match = PART.fullmatch(part)
        if match is None or (match["rest"] and ... in found):
            raise TargetError(
                f"'[{text[:60]}]' is no index: numbers and slices with commas between, as in [3,4] or [0,:]"
            )
        if match["slice"] is not None:
            found.append(slice(*(int(bound) if bound else None for bound in match["slice"].split(":"))))
        else:
            found.append(... if match["rest"] else int(match["at"]))
    return tuple(found)


@dataclass(frozen=True)
class ElementTarget(Target):
    """The sum over what an index selects: an element, a slice, a region.

    Attributes:
        at: the index in NumPy's spelling, such as "3,4" or "0,:,10:20"; the axis of images is left out.
        output: the output, or other value, that it indexes; None for the model's score.
    """

    at: str
    output: str | None = None

    @property
    def name(self) -> str:
        """What legends call it."""
        return f"{self.output or 'score'}[{self.at}]"

    def value(self, scores: Array) -> float:
        """The number."""
        return float(np.sum(scores[self._index(scores)], dtype=np.float64))

    def cotangent(self, scores: Array) -> Array:
        """1 where it selects."""
        ones = np.zeros_like(scores)
        ones[self._index(scores)] = 1
        return ones

    def _index(self, scores: Array) -> Index:
        """The index; TargetError when it does not fit, or selects nothing."""
        index = parse_index(self.at)
        try:
            chosen = scores[index]
        except (IndexError, ValueError) as error:
            raise self._wrong(scores, "does not fit") from error
        if chosen.size == 0:
            raise self._wrong(scores, "selects nothing of")
        return index

    def _wrong(self, scores: Array, what: str) -> TargetError:
        called = f"'{self.output}'" if self.output else "the score"
        return TargetError(
            f"the index [{self.at}] {what} {called}, which holds {' x '.join(map(str, scores.shape))} numbers for an "
            "image (the axis of images is not indexed)"
        )


@dataclass(frozen=True, eq=False)
class RegionTarget(Target):
    """The score of a class summed over a region: what a segmentation says there (Seg-Grad-CAM, Vinogradova 2020).

    Attributes:
        which: the class; None for scores (h, w) without classes.
        mask: bool (h, w), or (d, h, w) of a volume, at the resolution of the scores.
        where: the region in words.
        axis: the classes' axis of the scores: 0 for (classes, h, w), 2 for (h, w, classes).
    """

    which: int | None
    mask: npt.NDArray[np.bool_]
    where: str = "a region"
    label: str | None = None
    axis: int = 0

    @property
    def name(self) -> str:
        """What legends call it."""
        called = self.label or ("the map" if self.which is None else f"class {self.which}")
        return f"{called} over {self.where}"

    @property
    def unit(self) -> str | None:
        """A sum of scores, which is no score itself."""
        return "sum"

    def value(self, scores: Array) -> float:
        """The number."""
        return float(np.sum(self._map(scores)[self.mask], dtype=np.float64))

    def cotangent(self, scores: Array) -> Array:
        """1 at the class over the region."""
        ones = np.zeros_like(scores)
        self._map(ones)[self.mask] = 1
        return ones

    def _map(self, scores: Array) -> Array:
        """The class's own map, a view; TargetError when there is no such class, or the mask has another size."""
        chosen = scores if self.which is None else class_map(scores, self.which, self.axis)
        if chosen.shape != self.mask.shape:
            raise TargetError(f"the region has {self.mask.shape} positions, the scores {chosen.shape}")
        return chosen


def class_map(scores: Array, which: int, axis: int) -> Array:
    """One class of scores (classes, h, w) or (h, w, classes), a view; TargetError when there is none such."""
    first = np.moveaxis(scores, axis, 0)
    check_class(which, len(first))
    chosen: Array = first[which]
    return chosen


@dataclass(frozen=True)
class ProductTarget(Target):
    """The product of a few elements: a detection's confidence, objectness times class.

    Attributes:
        elements: their indices.
        title: what legends call it.
    """

    elements: tuple[tuple[int, ...], ...]
    title: str
    label: str | None = None

    @property
    def name(self) -> str:
        """What legends call it."""
        return self.title

    @property
    def unit(self) -> str | None:
        """A confidence, where there is more than one factor."""
        return "confidence" if len(self.elements) > 1 else None

    def value(self, scores: Array) -> float:
        """The number."""
        return math.prod(float(scores[at]) for at in self.elements)

    def cotangent(self, scores: Array) -> Array:
        """For each factor the product of the others."""
        found = np.zeros_like(scores)
        for i, at in enumerate(self.elements):
            others: Any = math.prod(float(scores[other]) for j, other in enumerate(self.elements) if j != i)
            found[at] += others
        return found
