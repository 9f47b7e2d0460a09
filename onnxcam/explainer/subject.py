"""The model that is explained, behind one face: an ONNX file that is rewritten here, or one that `export` prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnxcam.runtime import HIGHEST, ImageInput, Layout, Score
from onnxcam.targets import Target

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TargetLayer:
    """A target layer: the value's name, what its axes mean, and whether its gradient's mean over positions will do."""

    name: str
    layout: Layout
    mean_only: bool = False

    def __hash__(self) -> int:
        return hash(self.name)  # tells places of one model apart, and costs less than all fields

    @cached_property
    def of_mean(self) -> TargetLayer:
        """The same layer where the gradient's mean will do."""
        return replace(self, mean_only=True)


def classes_of(foreseen: int, scores: Array) -> list[int]:
    """The class of each image that was foreseen, one or HIGHEST of its scores (images, classes); HIGHEST: not certain.

    ONNX Runtime leaves out roundings of float16: of scores that are equal where it gives them out it may take another.
    """
    if foreseen != HIGHEST:
        return [foreseen] * len(scores)
    highest = scores == scores.max(axis=1, keepdims=True)
    found: list[int] = np.where(highest.sum(axis=1) == 1, highest.argmax(axis=1), HIGHEST).tolist()
    return found


@dataclass(frozen=True)
class Brought:
    """The gradient of a class's score, and the class of each image.

    Attributes:
        of: the layer at which it is taken, (images, C, *grid) or its mean; or the rules by which, as the image lies.
    """

    of: TargetLayer | str
    classes: list[int]
    gradient: Array


@dataclass(frozen=True)
class Seen:
    """What one forward run of several images gave.

    Attributes:
        x: the model's input, (images, ...).
        scores: (images, classes), or of scores that are no row of classes (images, ...), in the model's own layout.
        values: other values by name, one row per image: the layer's and what its head reads besides.
        brought: the gradient that the run brought along.
    """

    x: Array
    scores: Array
    values: dict[str, Array]
    brought: Brought | None = None

    def gradient_of(self, of: TargetLayer | str, ask: Ask) -> Array | None:
        """The gradient of what is asked, where the run brought that along."""
        brought = self.brought
        if brought is None or brought.of != of or [brought.classes[i] for i in ask.images] != ask.indices:
            return None
        return ask.of(brought.gradient)


@dataclass(frozen=True)
class Ask:
    """Rows to explain: which image each is of, and its target."""

    images: Sequence[int]
    targets: Sequence[Target]

    def of(self, array: Array) -> Array:
        """An array with a row per image, as one with a row per target; where that is a view, not to be written to."""
        images = list(self.images)
        if images == list(range(len(array))):
            return array
        return np.broadcast_to(array, (len(images), *array.shape[1:])) if len(array) == 1 else array[images]

    @property
    def indices(self) -> list[int] | None:
        """The class of every row; None unless each target is one."""
        found = [target.index for target in self.targets]
        return None if None in found else [index for index in found if index is not None]

    @property
    def classes(self) -> npt.NDArray[np.int64] | None:
        """The same as an array."""
        return None if (indices := self.indices) is None else np.array(indices, np.int64)


class Subject(Protocol):
    """What an explainer asks of a model."""

    name: str
    image: ImageInput
    metadata: dict[str, str]

    @property
    def score(self) -> Score:
        """The tensor that is explained."""

    @property
    def score_or_none(self) -> Score | None:
        """The same; None where several may be meant: a target may choose one."""

    @property
    def answers_for_places(self) -> bool:
        """Whether the model answers for places of the image: maps, boxes, steps of a line; no row of classes."""

    def joins(self, x: Array) -> bool:
        """Whether several images, as the model takes them, have one score together."""

    @property
    def photo_input(self) -> ImageInput:
        """The image input as photos are prepared for it: with the size that the model's head tells, or its lines."""

    @property
    def provider(self) -> str:
        """The execution provider that runs the forward pass."""

    @property
    def unsteady(self) -> str:
        """What makes the scores depend on more than the image, as far as the model tells; empty: nothing does."""

    def explaining(self, name: str) -> Subject:
        """The same model with another of its outputs, or values, as the score. LayerError: it has none of that name."""

    def for_size(self, size: tuple[int, ...]) -> Subject:
        """The same model for images of one size, the shape of one image's input."""

    def target_layer(
        self,
        layer: str | None,
        method: str,
        cotangent: Array | None = None,
        size: tuple[int, ...] | None = None,
        seen: Mapping[str, Array] | None = None,
    ) -> TargetLayer:
        """The target layer: the named one, or the automatic choice for a method.

        With a target's cotangent (of one image's scores) it is chosen for what that target depends on, and with the
        shape of one image's input for that size, where the model leaves it free. `seen`: values of that image's run.
        """

    def score_window(self, size: tuple[int, ...]) -> tuple[tuple[float, float], ...] | None:
        """Where the grid of scores that are maps starts and ends on an image of a size, as `Layout.window`."""

    def see(self, x: Array, at: TargetLayer | None, gradient: str, foreseen: int | None = None) -> Seen:
        """One forward run, for a layer's gradient ("symbolic", "numeric", "auto"), one at the image by rules, or none.

        `foreseen`: the class that will be explained, or HIGHEST; its gradient may come along.
        """

    def layer_gradient(self, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
        """d target / d layer, (targets, C, *grid); where the mean will do, perhaps that: (targets, C, 1, ...).

        UnsupportedOpError: an operator has no rule; says what to do instead. So do the two below.
        """

    def numeric_mean(self, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
        """The gradient's mean over positions, (targets, C), worked out by differences."""

    def class_weights(self, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
        """d target / d pooled feature, (targets, C), where the head is global pooling and linear."""

    def input_gradient(self, seen: Seen, ask: Ask, rules: str) -> Array:
        """d target / d input, a row per target, in the input's layout."""
