"""What the axes of a score mean: a row of classes, maps of classes, rows of boxes or steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnxcam.graph.imagesfirst import images_first
from onnxcam.graph.index import Graph
from onnxcam.graph.layout import layouts
from onnxcam.graph.nodes import attributes
from onnxcam.graph.types import Dim, Shape
from onnxcam.runtime.manifest import ImageInput, Score

COUNTING = frozenset({"NonMaxSuppression", "NonZero", "Compress", "Unique"})  # give as many rows as they find
SMALLEST_MAP = 2  # positions along each side


def read_axes(graph: Graph, score: Score, image: ImageInput | None) -> Score:
    """The score with what can be told of its axes: see `Score`. One that holds images second is shown otherwise."""
    score = replace(score, name=images_first(graph, score.name))
    shape = graph.shape(score.name)
    if shape is None:
        return score
    rows = has_rows(graph, score.name, shape, image)
    own = shape[1:] if rows else shape
    told = len(own) != 2 or softmax_axis(graph, score.name, len(own) + rows) is not None
    lines = None if told else placed_axis(graph, score.name, len(own), rows)
    if lines is not None:
        score = replace(score, kind="output", squash="", guess=False) if score.guess else score
        return replace(score, rows=rows, axes="RC" if lines == 0 else "CR")
    if sum(size != 1 for size in own) <= 1 and (rows or len(own) == 1):
        return replace(score, rows=rows)  # a row of classes
    return replace(score, rows=rows, axes=labelled(graph, score, own, rows, image))


def placed_axis(graph: Graph, name: str, rank: int, rows: bool) -> int | None:
    """The axis of one image's scores along which places of the image lie, as of anchors; None unless there is one."""
    here = layouts(graph).positions.get(name, {})
    axes = {axis for along in here.values() for axis in along.axes}
    if len(axes) != 1:
        return None
    axis = axes.pop() - rows
    return axis if 0 <= axis < rank else None


def has_rows(graph: Graph, name: str, shape: Shape, image: ImageInput | None) -> bool:
    """Whether a score's first axis is the images'.

    It is not in a model of one image whose scores begin with another size, or with the number of what was found.
    """
    if len(shape) < 2:
        return bool(shape) and image is not None and image.batch != 1 and image.batch in (None, shape[0])
    if image is None or image.batch != 1:
        return True
    if isinstance(shape[0], int):
        return shape[0] == 1
    return all(graph.nodes[i].op_type not in COUNTING for i in graph.ancestors([name]))


def labelled(graph: Graph, score: Score, own: Shape, rows: bool, image: ImageInput | None) -> str:
    """The meaning of each axis of one image's scores; empty where it cannot be told."""
    classes = softmax_axis(graph, score.name, len(own) + rows) if len(own) == 2 else None
    if classes is not None:
        return "CR" if classes == rows else "RC"
    known = layouts(graph).axes(score.name)
    if known.startswith("N") and rows and set(known[1:]) <= set("CDHW"):
        return known[1:]
    if len(own) == 3:
        return "CHW" if like_image(own[1:], image) else "HWC" if like_image(own[:2], image) else ""
    if len(own) == 2:
        return "HW" if like_image(own, image) else "RC"
    return ""


def like_image(sizes: Sequence[Dim], image: ImageInput | None) -> bool:
    """Whether two sizes are a grid over the image: the same fraction, or multiple, of its height and width."""
    if image is None or None in image.size or not all(isinstance(size, int) and size >= SMALLEST_MAP for size in sizes):
        return False
    height, width = (int(size or 0) for size in sizes)
    return height * int(image.size[0] or 0) == width * int(image.size[1] or 0)


def softmax_axis(graph: Graph, name: str, rank: int) -> int | None:
    """The axis along which a softmax reads a value; None where none does."""
    for i in graph.consumers.get(name, []):
        node = graph.nodes[i]
        if node.op_type in ("Softmax", "LogSoftmax"):
            return int(attributes(node).get("axis", -1)) % rank
    return None


def class_axis(shape: Sequence[int | str | None] | None) -> int | None:
    """The classes' axis of a score shaped [N, K], [N, K, 1, 1], [N, 1, K] or [K]; None for anything else."""
    if shape is None or not shape:
        return None
    if len(shape) == 1:
        return 0
    wide = [axis for axis in range(1, len(shape)) if shape[axis] != 1]
    if len(wide) > 1:
        return None
    return wide[0] if wide else 1
