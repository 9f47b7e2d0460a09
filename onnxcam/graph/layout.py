"""What the axes of a value mean, told from where its elements lie on the image (`positions`).

Labels: N batch, C channels, D H W space, P positions of a grid in one axis (tokens), ? anything else, of size 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from onnxcam.errors import ModelError
from onnxcam.graph.image import images, likeliest
from onnxcam.graph.index import Graph
from onnxcam.graph.mixing import MIXES
from onnxcam.graph.moving import MOVES
from onnxcam.graph.operators import ATTENTION, PRODUCTS
from onnxcam.graph.positions import Along, Positions, positions
from onnxcam.graph.sliding import SLIDING
from onnxcam.graph.types import Shape, Sizes
from onnxcam.runtime.manifest import USUAL_SIDE, Layout

VIEWS = frozenset(
    {"Identity", "Dropout", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast"}
)  # the same activation, seen otherwise
NOMINAL = {"C": 3, "D": 16, "H": USUAL_SIDE, "W": USUAL_SIDE}  # sizes for what the model leaves free
SPATIAL = "DHW"
ALL = (0.0, 1.0)  # of the image's side
LINES = (48, 32, 64)  # heights of lines of text, the usual one first
SIDES = (256, 512, 128, 96, 64, 32, 112, 160, 192, 299, 320, 384, 448, 640)  # of photos, where a head fits one alone
HEIGHTS_AND_WIDTHS = (  # of photos, and of lines of text; the first that a model takes
    *((height, USUAL_SIDE) for height in (USUAL_SIDE, 256, *LINES)),
    *((side, side) for side in SIDES),
)


class Layouts(Mapping[str, Layout]):
    """The layout of every value whose axes can be told, by name.

    Attributes:
        positions: where the elements of each value lie on the image, at nominal sizes.
    """

    def __init__(self, graph: Graph) -> None:
        self._image = next(iter(likeliest(graph)), None)
        self._graph, self._sized = graph, fully_sized(graph, {image.name: image.layout for image in images(graph)})
        placed = {self._image.name: self._image.layout} if self._image else {}
        self.positions = positions(self._sized, placed, {**MOVES, **SLIDING, **MIXES})
        self._told: dict[str, Layout | None] = {}

    def __getitem__(self, name: str) -> Layout:
        if name not in self._told:
            self._told[name] = self._tell(name)
        found = self._told[name]
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.positions if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def axes(self, name: str) -> str:
        """What the axes of a value mean, also where its place hangs on the size of the image; empty: cannot be told."""
        told = self._at_nominal_size(name)
        return told.axes if told else ""

    def mixes(self, node: onnx.NodeProto) -> bool:
        """Whether a node lets every position see others: attention, a product of positions with positions."""
        several = sum(name in self.positions for name in node.input) > 1
        return node.op_type in ATTENTION or (several and (node.op_type in PRODUCTS or node.op_type == "Einsum"))

    @property
    def unfit(self) -> bool:
        """Whether the image's size is free, and none of the usual ones fits the graph."""
        free = self._graph.shape(self._image.name) if self._image else None
        return self._sized is self._graph and any(not isinstance(size, int) for size in (free or ())[1:])

    def lost(self, end: str) -> str:
        """The last node on the way from the image to a value that positions go into and do not come out of."""
        image = self._image.name if self._image else None
        for i in sorted(self._graph.ancestors([end]), reverse=True):
            node = self._graph.nodes[i]
            placed = any(name in self or name == image for name in node.input)
            if placed and node.output[0] not in self and self._graph.is_float(node.output[0]):
                return self._graph.describe(i)
        return ""

    def _tell(self, name: str) -> Layout | None:
        told = self._at_nominal_size(name)
        if told is None or self._image is None or not (told.grid or told.window):
            return told
        sizes = dict(zip(self._image.layout, self._graph.shape(self._image.name) or (), strict=True))
        sides = zip((label for label in SPATIAL if label in sizes), told.window or (), strict=False)
        hanging = set(SPATIAL) if told.grid else {label for label, side in sides if sorted(side) != list(ALL)}
        return told if all(isinstance(sizes[label], int) for label in hanging & sizes.keys()) else None

    def _at_nominal_size(self, name: str) -> Layout | None:
        """The layout, of which grid and window are those of one size where the model takes several."""
        here, sizes, shape = self.positions.get(name), self._sized.shape(name), self._graph.shape(name)
        if not here or sizes is None or shape is None or name in self._graph.inputs or self._image is None:
            return None
        axes, free = self._image.layout, self._graph.shape(self._image.name) or ()
        seen = zip(axes, self._sized.shape(self._image.name) or (), strict=True)
        whole = {label: size for label, size in seen if isinstance(size, int)}
        rows = next((i for i, dim in enumerate(shape) if "N" in axes and dim == free[axes.index("N")]), None)
        return layout_of(here, tuple(int(size or 1) for size in sizes), whole, rows)


def layouts(graph: Graph) -> Layouts:
    """The layout of every value whose axes can be told."""
    return graph.once(Layouts)


def fully_sized(graph: Graph, images: Mapping[str, str]) -> Graph:
    """The graph at nominal sizes where it leaves some free; itself where it leaves none, or where none of these fit."""
    if all(isinstance(dim, int) for name in graph.inputs for dim in graph.shape(name) or ()):
        return graph
    return next((fixed for one in usual_sizes(images, 1) if (fixed := of_size(graph, one)) is not None), graph)


def usual_sizes(
    images: Mapping[str, str], rows: int | None, among: Sequence[tuple[int, int]] = HEIGHTS_AND_WIDTHS
) -> Iterator[dict[str, list[int | None]]]:
    """Nominal sizes for what image inputs of some layouts leave free; `rows` along the batch (None: any)."""
    for height, width in among:
        one: dict[str, int | None] = {**NOMINAL, "H": height, "W": width, "N": rows}
        yield {name: [one[label] for label in axes] for name, axes in images.items()}


def of_size(graph: Graph, sizes: Mapping[str, Sequence[int | None]]) -> Graph | None:
    """The graph for inputs of some sizes (None: as it is), others of 1 where they are free; None: these do not fit."""
    fixed = graph.sized(sizes, others=1)
    try:
        _ = fixed.types
    except ModelError:
        return None
    return fixed


def layout_of(here: Positions, sizes: Sizes, whole: Mapping[str, int], rows: int | None) -> Layout | None:
    """The layout of a value of these sizes; None where its axes are none of ours.

    Args:
        here: where its elements lie.
        whole: the image's sizes by label.
        rows: the axis of the batch where that is known; else it is the first that may be.
    """
    lines = {label: along for label, along in here.items() if label in whole and along.axes}
    single = {label: along for label, along in here.items() if label in whole and along.at.size == 1}  # a row picked
    if not lines or any(len(along.axes) > 1 for along in lines.values()):
        return None
    places = {label: along.axes[0] for label, along in lines.items()}
    free = [axis for axis in range(len(sizes)) if axis not in places.values()]
    if rows is None:
        rows = next((axis for axis in free if sizes[axis] in (1, whole.get("N", 1))), None)
    if rows is None or rows not in free:
        return None
    free.remove(rows)
    wide, spare = [axis for axis in free if sizes[axis] > 1], [axis for axis in free if sizes[axis] == 1]
    if len(wide) > 1 or not (wide or spare):
        return None
    channels = wide[0] if wide else spare.pop(0 if spare[0] < min(places.values()) else -1)
    known = {rows: "N", channels: "C"}
    missing = [label for label in SPATIAL if label in whole and label not in lines]
    used = set(places.values())
    if len(used) == len(lines) and len(spare) >= len(missing):
        spatial = {axis: label for label, axis in places.items()} | dict(zip(spare, missing, strict=False))
        return evenly_spread(Layout(spelled(known | spatial, len(sizes))), single | lines, whole)
    if len(used) > 1:
        return None
    found = token_layout(spelled(known | {used.pop(): "P"}, len(sizes)), lines, whole)
    return evenly_spread(found[0], single | found[1], whole) if found else None


def spelled(labels: Mapping[int, str], rank: int) -> str:
    """The labels of some axes as a layout has them; of the others nothing is known."""
    return "".join(labels.get(axis, "?") for axis in range(rank))


def token_layout(
    axes: str, lines: Mapping[str, Along], whole: Mapping[str, int]
) -> tuple[Layout, dict[str, Along]] | None:
    """The layout of a grid in one axis, row by row, with other tokens before or behind; and its cells along each side.

    `lines`: the coordinates that change along that axis.
    """
    flat = {label: along.at.ravel() for label, along in lines.items()}
    there = np.all([~np.isnan(line) for line in flat.values()], axis=0)
    (at,) = np.nonzero(there)
    spatial = [label for label in SPATIAL if label in whole]
    grid = tuple(len(np.unique(flat[label][there])) if label in flat else 1 for label in spatial)
    if not len(at) or at[-1] - at[0] + 1 != len(at) or int(np.prod(grid)) != len(at):
        return None
    sides = {}
    for label, along in lines.items():
        i = spatial.index(label)
        block = np.moveaxis(flat[label][there].reshape(grid), i, 0).reshape(grid[i], -1)
        if np.ptp(block, axis=1).any():
            return None
        sides[label] = replace(along, at=block[:, 0])
    return Layout(axes, grid, int(at[0])), sides


def evenly_spread(layout: Layout, sides: Mapping[str, Along], whole: Mapping[str, int]) -> Layout | None:
    """The layout with the part of the image that its grid shows; None where its cells do not lie evenly there, or all
    beside it.

    `sides`: the cells along each coordinate; of one that is left out, or has no place, a single cell shows all.
    """
    window = []
    for label in SPATIAL:
        if label in whole:
            placed = label in sides and not sides[label].placeless
            stretch = stretch_of(sides[label], whole[label]) if placed else ALL
            if stretch is None or max(stretch) <= 0 or min(stretch) >= 1:
                return None
            window.append(stretch)
    return layout if set(window) == {ALL} else replace(layout, window=tuple(window))


def stretch_of(along: Along, size: int) -> tuple[float, float] | None:
    """The stretch of the image's side that cells show, its start and end as shares of `size`; None: it is uneven."""
    along = along.true()
    if not along.even:
        return None
    cell = abs(along.end - along.start) / along.at.size
    for start, end in (ALL, ALL[::-1]):
        if abs(along.start - start * size) + abs(along.end - end * size) < cell / 4:
            return start, end
    return along.start / size, along.end / size


def spatial_sizes(layout: Layout, shape: Shape) -> tuple[int, ...] | None:
    """The grid of a value, depth, height and width in this order; None when a size is not known."""
    if layout.grid is not None:
        return layout.grid
    sizes = [shape[layout.axes.index(label)] for label in SPATIAL if label in layout.axes]
    known = tuple(size for size in sizes if isinstance(size, int))
    return known if len(known) == len(sizes) else None
