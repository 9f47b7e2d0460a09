"""What is explained: a functional of the scores, as its value and its cotangent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.arguments import is_whole
from onnxcam.errors import TargetError

Array = npt.NDArray[np.floating[Any]]
SATURATED = 1e-6  # from the end of what a value can be


class Target(ABC):
    """A number made of the scores of one image.

    Subclasses say what it is (`value`) and how it changes with the scores (`cotangent`, of the scores' shape). The
    scores of a classifier are (classes,); of any other model they are the score tensor without its axis of images.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What legends and files call it."""

    @property
    def index(self) -> int | None:
        """The class, when the target is one class's score of a row of them: then its row of the head is enough."""
        return None

    @property
    def label(self) -> str | None:
        """The name of the class that it is about, where there is one."""
        return None

    @property
    def output(self) -> str | None:
        """The output, or other value, whose elements it reads; None for the model's score."""
        return None

    @property
    def unit(self) -> str | None:
        """What its value is, such as a log-probability; None for what the scores themselves are."""
        return None

    def at_its_end(self, scores: Array) -> bool:
        """Whether its value is as large, or small, as it can be: there every gradient vanishes."""
        return False

    @abstractmethod
    def value(self, scores: Array) -> float:
        """The number."""

    @abstractmethod
    def cotangent(self, scores: Array) -> Array:
        """d value / d scores, of their shape."""


def check_class(which: int, count: int) -> None:
    """TargetError unless it is one of so many classes."""
    if not is_whole(which):
        raise TargetError(f"a class is an integer, not {which!r:.40}")
    if not 0 <= which < count:
        told = which if abs(which) < 2**64 else "a number of very many digits"
        raise TargetError(f"target {told} is out of range: the model has classes 0 to {count - 1}")


def one_hot(which: int, scores: Array) -> Array:
    """1 at a class, 0 elsewhere, (classes,)."""
    if scores.ndim != 1:
        raise TargetError(f"class {which} of scores of shape {list(scores.shape)}: they are no row of classes")
    check_class(which, len(scores))
    one = np.zeros_like(scores)
    one[which] = 1
    return one


@dataclass(frozen=True)
class ClassTarget(Target):
    """The score of one class.

    Attributes:
        called: its name without a label; by default its number.
    """

    which: int
    label: str | None = None
    called: str | None = None

    @property
    def name(self) -> str:
        """What legends call it."""
        return self.label or self.called or f"class {self.which}"

    @property
    def index(self) -> int | None:
        """The class."""
        return self.which

    def value(self, scores: Array) -> float:
        """The number."""
        return float(scores[self.which])

    def cotangent(self, scores: Array) -> Array:
        """How it changes with each score."""
        return one_hot(self.which, scores)


def as_target(which: int | Target) -> Target:
    """A plain number as the class that it stands for."""
    return which if isinstance(which, Target) else ClassTarget(which)


@dataclass(frozen=True)
class DifferenceTarget(Target):
    """One target less another: why this and not that. Plain numbers are classes."""

    which: int | Target
    other: int | Target

    @property
    def _parts(self) -> tuple[Target, Target]:
        return as_target(self.which), as_target(self.other)

    @property
    def name(self) -> str:
        """What legends call it."""
        one, other = self._parts
        short = other.name if isinstance(self.other, Target) else other.index
        return f"{one.name} and not {short}"

    @property
    def output(self) -> str | None:
        """The one that both read. TargetError: they read different ones."""
        one, other = (part.output for part in self._parts)
        if one and other and one != other:
            raise TargetError(f"'{self.name}' reads two outputs, '{one}' and '{other}': a difference is of one")
        return one or other

    @property
    def unit(self) -> str | None:
        """What both values are, where they are the same."""
        one, other = (part.unit for part in self._parts)
        return one if one == other else None

    def value(self, scores: Array) -> float:
        """The number."""
        one, other = self._parts
        return one.value(scores) - other.value(scores)

    def cotangent(self, scores: Array) -> Array:
        """How it changes with each score."""
        one, other = self._parts
        return one.cotangent(scores) - other.cotangent(scores)


@dataclass(frozen=True)
class NegatedTarget(Target):
    """A target's negative: why not. For a single sigmoid, why the answer is no. A plain number is a class."""

    target: int | Target

    @property
    def _negated(self) -> Target:
        return as_target(self.target)

    @property
    def name(self) -> str:
        """What legends call it."""
        return f"not {self._negated.name}"

    @property
    def output(self) -> str | None:
        """As of that one."""
        return self._negated.output

    @property
    def unit(self) -> str | None:
        """The negative of that one's."""
        return f"negative {self._negated.unit}" if self._negated.unit else None

    def at_its_end(self, scores: Array) -> bool:
        """Whether that one is."""
        return self._negated.at_its_end(scores)

    def value(self, scores: Array) -> float:
        """The number."""
        return -self._negated.value(scores)

    def cotangent(self, scores: Array) -> Array:
        """How it changes with each score."""
        return -self._negated.cotangent(scores)


@dataclass(frozen=True)
class WeightedTarget(Target):
    """A weighted sum of scores.

    Attributes:
        weights: one per class.
    """

    weights: tuple[float, ...]
    title: str = "weighted classes"

    @property
    def name(self) -> str:
        """What legends call it."""
        return self.title

    def value(self, scores: Array) -> float:
        """The number."""
        return float(np.dot(self._fitting(scores), scores))

    def cotangent(self, scores: Array) -> Array:
        """The weights."""
        return self._fitting(scores)

    def _fitting(self, scores: Array) -> Array:
        weights = np.asarray(self.weights)
        if weights.dtype.kind not in "biuf" or weights.shape != scores.shape:
            raise TargetError(
                f"the target weighs {weights.size} classes, the model has {len(scores)}: a number for each"
            )
        return weights.astype(scores.dtype)
