"""What a Slice takes, as its inputs say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy.typing as npt
import onnx


class Stretch(NamedTuple):
    """What is taken along one axis, in the node's own numbers: negative ones count from the end."""

    axis: int
    start: int
    end: int
    step: int

    def of(self, size: int) -> slice:
        """Python's slice of an axis of this size. ONNX goes down from the first element where it would from none."""
        return slice(max(self.start, -size) if self.step < 0 else self.start, self.end, self.step)


def stretches(node: onnx.NodeProto, constant: Callable[[str], npt.NDArray[Any] | None]) -> list[Stretch] | None:
    """What a Slice takes along each of its axes; None where that is not known before the model runs."""
    given = {i: constant(name) for i, name in enumerate(node.input) if i and name}
    known = {i: array.ravel().tolist() for i, array in given.items() if array is not None and array.dtype.kind in "iu"}
    if len(known) < len(given) or not known.keys() >= {1, 2}:
        return None
    starts, ends = known[1], known[2]
    axes, steps = known.get(3, range(len(starts))), known.get(4, [1] * len(starts))
    if {len(starts)} != {len(ends), len(axes), len(steps)} or 0 in steps:
        return None
    return [*map(Stretch, axes, starts, ends, steps)]
