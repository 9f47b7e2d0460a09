"""Gradients by differences of a target's value, as a head's layer is moved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from onnxcam.errors import VerificationError
from onnxcam.explainer.advice import instead_of_differences
from onnxcam.explainer.grids import from_grid, to_grid
from onnxcam.explainer.scores import as_rows
from onnxcam.explainer.subject import Array, Ask, Seen, TargetLayer
from onnxcam.runtime import distance_from_differences, mean_gradient
from onnxcam.targets import Target
from onnxcam.vjp import CLASS

if TYPE_CHECKING:
    from onnxcam.explainer.rewritten import Rewritten


def numeric_mean(subject: Rewritten, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
    """The gradient's mean over positions, (targets, C).

    VerificationError: the head rounds, or is not smooth.
    """
    if node := subject.rounding(at):
        raise VerificationError(f"no numeric gradient over {node}, which rounds: {instead_of_differences(subject, at)}")
    found = []
    for image, target in zip(ask.images, ask.targets, strict=True):
        grid, values = moved_layer(subject, at, seen, image, target)
        found.append(mean_gradient(values, grid))
    return np.stack(found)


def apart_from_differences(
    subject: Rewritten, at: TargetLayer, seen: Seen, ask: Ask, gradient: Array
) -> tuple[float, int]:
    """How far the first target's gradient (C, *grid) is from them: see `runtime.distance_from_differences`."""
    grid, values = moved_layer(subject, at, seen, ask.images[0], ask.targets[0])
    return distance_from_differences(values, grid, gradient)


def moved_layer(
    subject: Rewritten, at: TargetLayer, seen: Seen, image: int, target: Target
) -> tuple[Array, Callable[[Array], Array]]:
    """The layer's grid in one image, (C, *grid), and the target's values for other grids."""
    one = {name: in_float32(value[image : image + 1]) for name, value in seen.values.items()}
    return to_grid(one[at.name], at.layout)[0], partial(values_at, subject, at, one, target)


def in_float32(value: Array) -> Array:
    """A float16 value as a head of float32 takes it, see `graph.widened`; others as they are."""
    return value.astype(np.float32) if value.dtype == np.float16 else value


def values_at(subject: Rewritten, at: TargetLayer, one: dict[str, Array], target: Target, grids: Array) -> Array:
    """The target's value for one image whose layer has other grids, a row each."""
    forward = subject.sessions.forward(at, to_class=target.index is not None)
    count, inputs = len(grids), forward.graph.inputs
    feeds = {at.name: from_grid(grids, one[at.name], at.layout)}
    if target.index is not None:
        feeds[CLASS] = np.full(count, target.index, np.int64)
    values = forward.run({**feeds, **{n: np.repeat(one[n], count, axis=0) for n in inputs if n not in feeds}})
    if CLASS in inputs:
        return values.reshape(count)
    return np.array([target.value(row) for row in as_rows(values, subject.score)])
