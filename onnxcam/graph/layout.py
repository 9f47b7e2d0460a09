"""What the axes of a value mean, followed from the convolutions through the graph.

Labels: N batch, C channels, D H W space, P positions of a grid in one axis (tokens), ? anything else.
Convolutions and pools fix them; transposes permute them; reshapes join H and W into P and part them again;
concatenation along P adds tokens before or behind the grid; what keeps a shape keeps its labels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from onnxcam.graph.index import Graph, attributes
from onnxcam.graph.types import Shape
from onnxcam.runtime.manifest import Layout

VIEWS = frozenset({"Identity", "Dropout", "Transpose", "Reshape", "Cast"})  # the same activation, seen otherwise
SPATIAL = {1: "W", 2: "HW", 3: "DHW"}
CONVOLVING = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "MaxPool",
        "AveragePool",
        "LpPool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "GlobalLpPool",
        "ConvInteger",
        "QLinearConv",
        "InstanceNormalization",
        "GroupNormalization",
        "DepthToSpace",
        "SpaceToDepth",
        "RoiAlign",
        "MaxRoiPool",
        "DeformConv",
        "FusedConv",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
    ]
)
MOVING = frozenset(
    [
        "Reshape",
        "Transpose",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Gather",
        "GatherElements",
        "GatherND",
        "Slice",
        "Split",
        "Concat",
        "MatMul",
        "Gemm",
        "Einsum",
        "Expand",
        "Tile",
        "ScatterND",
        "ScatterElements",
        "Shape",
        "TopK",
        "Compress",
        "Loop",
        "If",
        "Scan",
        "Attention",
    ]
)


def layouts(graph: Graph) -> dict[str, Layout]:
    """The layout of every value whose axes can be told."""
    found: dict[str, Layout] = {}
    for node in graph.nodes:
        for name in node.output:
            if name and (layout := layout_of(graph, node, name, found)) is not None:
                found[name] = layout
    return found


def layout_of(graph: Graph, node: onnx.NodeProto, name: str, found: dict[str, Layout]) -> Layout | None:
    """The layout of one output, from those of the node's inputs."""
    shape = graph.shape(name)
    if shape is None:
        return None
    if node.op_type in CONVOLVING and len(shape) - 2 in SPATIAL:
        return Layout("NC" + SPATIAL[len(shape) - 2])
    step = STEPS.get(node.op_type) if node.domain == "" else None
    if step is not None:
        return step(graph, node, shape, found)
    if node.op_type in MOVING:
        return None
    known = [found[value] for value in node.input if value in found and graph.shape(value) == shape]
    return next(iter(known), None) or broadcast(graph, node, shape, found)


def broadcast(graph: Graph, node: onnx.NodeProto, shape: Shape, found: dict[str, Layout]) -> Layout | None:
    """An element-wise result that is larger than its labelled input along unlabelled sizes only."""
    for value in node.input:
        own = graph.shape(value)
        if value in found and own is not None and len(own) == len(shape):
            spatial = [i for i, label in enumerate(found[value].axes) if label in "DHWP"]
            if all(own[i] == shape[i] or not (isinstance(own[i], int) and isinstance(shape[i], int)) for i in spatial):
                return found[value]
    return None


def transposed(graph: Graph, node: onnx.NodeProto, shape: Shape, found: dict[str, Layout]) -> Layout | None:
    """The labels in their new order."""
    before = found.get(node.input[0])
    if before is None:
        return None
    perm = attributes(node).get("perm") or range(len(shape))[::-1]
    return replace(before, axes="".join(before.axes[axis] for axis in perm))


def reshaped(graph: Graph, node: onnx.NodeProto, shape: Shape, found: dict[str, Layout]) -> Layout | None:
    """H and W joined to P, or P parted into H and W; every other axis as it was."""
    before, old = found.get(node.input[0]), graph.shape(node.input[0])
    if before is None or old is None:
        return None
    if len(shape) == len(old) and same_sizes(old[1:], shape[1:]):
        return before
    axes, grid = before.axes, spatial_sizes(before, old)
    if grid is None or before.prefix:
        return None
    labels = SPATIAL.get(len(grid), "?")
    if labels in axes:
        joined = axes.replace(labels, "P")
        sizes = replaced(old, axes, labels, (int(np.prod(grid)),))
        if same_sizes(sizes[1:], shape[1:]):
            return Layout(joined, grid)
    elif "P" in axes:
        parted = axes.replace("P", labels)
        sizes = replaced(old, axes, "P", grid)
        if same_sizes(sizes[1:], shape[1:]):
            return Layout(parted)
    return None


def replaced(sizes: Shape, axes: str, labels: str, by: tuple[int, ...]) -> Shape:
    """The sizes with those of some adjacent axes exchanged."""
    at = axes.index(labels)
    return (*sizes[:at], *by, *sizes[at + len(labels) :])


def same_sizes(one: Shape, other: Shape) -> bool:
    """Equal sizes, unknown ones taken for equal when only one is unknown."""
    if len(one) != len(other):
        return False
    unknown = sum(not (isinstance(a, int) and isinstance(b, int)) and a != b for a, b in zip(one, other, strict=True))
    return unknown <= 1 and all(
        a == b for a, b in zip(one, other, strict=True) if isinstance(a, int) and isinstance(b, int)
    )


def spatial_sizes(layout: Layout, shape: Shape) -> tuple[int, ...] | None:
    """The grid of a value; None when a size is not known."""
    if layout.grid is not None:
        return layout.grid
    sizes = [shape[i] for i, label in enumerate(layout.axes) if label in "DHW"]
    return (
        tuple(int(size) for size in sizes if isinstance(size, int)) if all(isinstance(s, int) for s in sizes) else None
    )


def concatenated(graph: Graph, node: onnx.NodeProto, shape: Shape, found: dict[str, Layout]) -> Layout | None:
    """Along P: tokens join the grid. Along any other axis the labels stay."""
    axis = attributes(node).get("axis", 0) % len(shape)
    known = [(i, found[value]) for i, value in enumerate(node.input) if value in found]
    if not known:
        return None
    at, first = known[0]
    if len(first.axes) != len(shape):
        return None
    if first.axes[axis] in "DHW":
        return None
    if first.axes[axis] != "P":
        return first
    before = [(graph.shape(value) or ())[axis] for value in node.input[:at]]
    if len(known) > 1 or not all(isinstance(size, int) for size in before):
        return None
    return replace(first, prefix=first.prefix + sum(int(size or 0) for size in before))


def matrix_product(graph: Graph, node: onnx.NodeProto, shape: Shape, found: dict[str, Layout]) -> Layout | None:
    """A fixed matrix on the right maps the last axis: the channels of each position."""
    before = found.get(node.input[0])
    fixed = node.input[1] in graph.fixed and graph.rank(node.input[1]) == 2
    return (
        before
        if before is not None and fixed and before.axes.endswith("C") and len(before.axes) == len(shape)
        else None
    )


def sliced(graph: Graph, node: onnx.NodeProto, shape: Shape, found: dict[str, Layout]) -> Layout | None:
    """Cutting tokens off before or behind the grid keeps it; any other cut loses the labels."""
    before, old = found.get(node.input[0]), graph.shape(node.input[0])
    if before is None or old is None or len(old) != len(shape):
        return None
    changed = [i for i in range(len(shape)) if old[i] != shape[i]]
    if changed and all(before.axes[i] == "C" for i in changed):
        return before
    if "P" not in before.axes or changed not in ([before.axes.index("P")], []):
        return before if not changed else None
    positions = int(np.prod(before.grid or (0,)))
    starts = graph.constant(node.input[1])
    start = int(starts.ravel()[0]) if starts is not None and starts.size == 1 else -1
    rest = shape[before.axes.index("P")]
    if isinstance(rest, int) and 0 <= start <= before.prefix and rest >= positions + before.prefix - start:
        return replace(before, prefix=before.prefix - start)
    return None


def split_apart(graph: Graph, node: onnx.NodeProto, shape: Shape, found: dict[str, Layout]) -> Layout | None:
    """Channels parted: every part keeps its positions."""
    before = found.get(node.input[0])
    if before is None:
        return None
    axis = attributes(node).get("axis", 0) % len(shape)
    return before if before.axes[axis] == "C" else None


def squeezed(graph: Graph, node: onnx.NodeProto, shape: Shape, found: dict[str, Layout]) -> Layout | None:
    """A size-1 axis that is not space comes or goes."""
    before, old, axes = (
        found.get(node.input[0]),
        graph.shape(node.input[0]),
        graph.constant(node.input[1]) if len(node.input) > 1 else None,
    )
    if before is None or old is None or axes is None:
        return None
    if node.op_type == "Squeeze":
        gone = {int(a) % len(old) for a in axes.ravel()}
        kept = "".join(label for i, label in enumerate(before.axes) if i not in gone)
        return replace(before, axes=kept) if len(kept) == len(shape) and {"N", "C"} <= set(kept) else None
    labels = list(before.axes)
    for a in sorted(int(a) % len(shape) for a in axes.ravel()):
        labels.insert(a, "?")
    return replace(before, axes="".join(labels))


STEPS = {
    "Transpose": transposed, "Reshape": reshaped, "Flatten": reshaped, "Concat": concatenated, "MatMul": matrix_product,
    "Slice": sliced, "Split": split_apart, "Squeeze": squeezed, "Unsqueeze": squeezed,
}  # fmt: skip
