"""Where on the image the elements of each value lie, followed from the image input through the graph.

Every spatial axis of the image is a coordinate, in pixels of the model's input: pixel i covers i to i + 1. A value has
each coordinate as an array that broadcasts to its shape, of size 1 along axes where nothing changes, so an activation
map costs a line of numbers a coordinate. What moves elements (reshapes, slices, rolls, windows) moves the coordinates
the same way; sliding windows step over them; what mixes all positions (a mean over the grid, attention) ends them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.graph.index import Graph
from onnxcam.graph.types import Sizes

Array = npt.NDArray[np.float32]

DOMAINS = frozenset({"", "com.microsoft", "com.microsoft.nchwc"})  # their operators of one name move alike
LONGEST = 2**22  # cells along one axis that are followed
LARGEST = 2**24  # elements of a coordinate


@dataclass(frozen=True, eq=False)
class Along:
    """One coordinate of a value's elements.

    Attributes:
        at: of the value's rank, size 1 along axes on which it is the same; NaN where an element has no place (a class
            token).
        start, end: the stretch of image the value shows; start > end where it runs backwards.
        step: from one cell to the next.
        firm: whether it is the elements' own place; else it is that of the query that gathered them (attention).
        drift: how far behind `at` the true centres of the first and the last cell lie, where cells were spread evenly.
        coarse: the largest step that cells were made smaller from: a place behind is known to no more than that.
    """

    at: Array
    start: float
    end: float
    step: float
    firm: bool = True
    drift: tuple[float, float] = (0.0, 0.0)
    coarse: float = 0.0

    @property
    def placeless(self) -> bool:
        """Whether no element has a place."""
        return bool(np.isnan(self.at).all())

    @property
    def even(self) -> bool:
        """Whether a line of cells lies spread over the stretch of image that it shows."""
        line, shown = self.at.ravel(), self.end - self.start
        spread = self.start + (np.arange(len(line)) + 0.5) / len(line) * shown
        return bool(np.abs(line - spread).max() <= abs(shown) / len(line) * 0.76)

    def true(self) -> Along:
        """A line of cells at their true centres, where these leave out more than two cells' worth of image.

        Or, of a few cells, where they lie less than half as far apart as they were spread; or where padding added cells
        beyond the image, over which no window has spread them.
        """
        line = self.at.ravel()
        inset = (self.drift[0] - self.drift[1]) * math.copysign(1, self.end - self.start)
        margin = min(2 * abs(self.end - self.start) / len(line), abs(float(line[-1] - line[0])) / 2)
        if self.even and inset <= margin:
            return self
        return renewed(self, line + np.linspace(*self.drift, len(line), dtype=np.float32))

    @property
    def axes(self) -> list[int]:
        """The axes along which it changes."""
        return [axis for axis, size in enumerate(self.at.shape) if size > 1]


Positions = dict[str, Along]  # by label of a spatial axis: D, H, W


@dataclass(frozen=True)
class Known:
    """What a rule may ask: the graph with every size settled, and the positions found so far."""

    graph: Graph
    found: dict[str, Positions]

    def of(self, name: str) -> Positions:
        """Positions of a value; empty when they are not known, or everywhere."""
        return self.found.get(name, {})

    def sizes(self, name: str) -> Sizes | None:
        """The shape of a value; None unless every size is known (and none is absurd)."""
        shape = self.graph.shape(name) if name else None
        sizes = tuple(dim for dim in shape or () if isinstance(dim, int) and 0 < dim <= LONGEST)
        return sizes if shape is not None and len(sizes) == len(shape) else None


Rule = Callable[[Known, onnx.NodeProto, int], Positions]  # the positions of one output, by its place in the node


def positions(graph: Graph, images: dict[str, str], rules: dict[str, Rule]) -> dict[str, Positions]:
    """Positions of every value that has any.

    Args:
        graph: with all sizes settled.
        images: image inputs and their layouts, as in NCHW.
        rules: by operator; of others, what has its input's shape keeps its positions.
    """
    known = Known(graph, {})
    for name, axes in images.items():
        sizes = known.sizes(name)
        if sizes is not None:
            known.found[name] = pixels(axes, sizes)
    for node in graph.nodes:
        if node.domain not in DOMAINS or not any(name in known.found for name in node.input):
            continue
        rule = rules.get(node.op_type, elementwise)
        for i, name in enumerate(node.output):
            sizes = known.sizes(name)
            here = rule(known, node, i) if sizes is not None else {}
            if here and all(fits(along.at.shape, sizes or ()) for along in here.values()):  # else a kind nobody knows
                known.found[name] = here
    return known.found


def pixels(axes: str, sizes: Sizes) -> Positions:
    """The positions of an image's own pixels."""
    found = {}
    for axis, label in enumerate(axes):
        if label in "DHW":
            line = np.arange(sizes[axis], dtype=np.float32) + np.float32(0.5)
            shape = [sizes[axis] if i == axis else 1 for i in range(len(sizes))]
            found[label] = Along(line.reshape(shape), 0.0, float(sizes[axis]), 1.0)
    return found


def elementwise(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """Operands broadcast together; a result of another shape is no element-wise one."""
    sizes = known.sizes(node.output[i])
    shapes = [known.sizes(name) for name in node.input if name in known.found]
    if sizes is None or any(shape is None or not fits(shape, sizes) for shape in shapes):
        return {}
    return together([known.of(name) for name in node.input], len(sizes))


def fits(shape: Sizes, sizes: Sizes) -> bool:
    """Whether one shape broadcasts to another."""
    return len(shape) <= len(sizes) and all(a in (1, b) for a, b in zip(shape[::-1], sizes[::-1], strict=False))


def together(operands: Iterable[Positions], rank: int) -> Positions:
    """Positions of what is made of several operands at once; empty where these lie apart, see `midway`."""
    found: Positions = {}
    for one in operands:
        for label, along in one.items():
            other = replace(along, at=along.at.reshape((1,) * (rank - along.at.ndim) + along.at.shape))
            merged = midway(found[label], other) if label in found else other
            if merged is None:
                return {}
            found[label] = merged
    return found


def midway(one: Along, other: Along) -> Along | None:
    """Half way between two that lie within a cell of each other; where one has no place the other's holds.

    The cell of one that was upsampled is the one that it was before: decoders add to skip connections what asymmetric
    upsampling moved by half such a cell at each level.
    """
    if one.at.shape == other.at.shape and np.array_equal(one.at, other.at, equal_nan=True):
        return one if one.firm else other
    if one.placeless or other.placeless:
        return other if one.placeless else one
    if one.firm != other.firm:
        return one if one.firm else other
    apart, coarse = np.abs(one.at - other.at), max(one.coarse, other.coarse)
    if not np.isnan(apart).all() and np.nanmedian(apart) > max(abs(one.step), coarse) * 1.01:
        return None
    a, b = np.broadcast_arrays(one.at, other.at)
    at = np.where(np.isnan(a), b, np.where(np.isnan(b), a, (a + b) / 2))
    middle = (one.start + other.start) / 2, (one.end + other.end) / 2
    return Along(compressed(at), *middle, one.step, one.firm, coarse=coarse)


def compressed(at: Array) -> Array:
    """The same with size 1 along every axis on which nothing changes."""
    for axis, size in enumerate(at.shape):
        if size > 1:
            first = at.take([0], axis)
            if np.array_equal(np.broadcast_to(first, at.shape), at, equal_nan=True):
                at = first
    return at


def renewed(along: Along, at: Array) -> Along:
    """The coordinate of a selection of cells: its stretch of image is that of the cells left."""
    at = compressed(at)
    held = at[~np.isnan(at)]
    step = along.step
    if len(varying := [axis for axis, size in enumerate(at.shape) if size > 1]) == 1 and held.size == at.size:
        steps = np.diff(at.ravel())
        step = float(steps[0]) if np.allclose(steps, steps[0], rtol=1e-3) else step
    if not held.size or not varying:
        ends = (along.start, along.end) if not held.size else around(float(held[0]), float(held[0]), step)
    else:
        ends = around(float(held.min()), float(held.max()), step)
    return Along(at, *ends, step, along.firm, coarse=along.coarse)


def around(low: float, high: float, step: float) -> tuple[float, float]:
    """Start and end of a stretch of cells with these outermost centres."""
    ends = low - abs(step) / 2, high + abs(step) / 2
    return ends if step > 0 else ends[::-1]


def kept(here: Positions, change: Callable[[Along], Along | None]) -> Positions:
    """Every coordinate changed; those of which nothing is left are dropped."""
    changed = {label: change(along) for label, along in here.items()}
    return {label: along for label, along in changed.items() if along is not None}


def taken(along: Along, axis: int, index: npt.NDArray[np.intp]) -> Along:
    """Cells picked along an axis; an index of another rank than 1 puts its own axes there."""
    shape = along.at.shape
    if shape[axis] > 1:
        return renewed(along, along.at.take(index, axis))
    return replace(along, at=along.at.reshape(*shape[:axis], *[1] * index.ndim, *shape[axis + 1 :]))


def averaged(along: Along, axis: int) -> Along | None:
    """The coordinate behind a weighted sum over an axis; None unless what is summed lies within one cell of the sums.

    The four neighbours that a patch merging lays over each other in the channels do.
    """
    if along.at.shape[axis] == 1:
        return along
    at = compressed(along.at.mean(axis, keepdims=True, dtype=np.float32))
    cells = np.unique(np.round(at[~np.isnan(at)], 3))
    if len(cells) < 2 or np.ptp(along.at, axis).max() > np.diff(cells).min():
        return None
    shown = abs(along.end - along.start)
    return replace(along, at=at, step=math.copysign(shown / len(cells), along.step))
