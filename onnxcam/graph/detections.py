"""Finished detections: rows of a box, a score and a class, in one output or in two or three.

Where a model gives them out apart, or in another order, a value is appended that shows them as such rows. Nothing is
appended where an output is one already.
"""

from __future__ import annotations

from itertools import accumulate, starmap
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.graph.imagesfirst import batch
from onnxcam.graph.index import Graph
from onnxcam.graph.integers import SURFACED
from onnxcam.graph.nodes import attributes, with_nodes
from onnxcam.graph.scorekind import KEEPING
from onnxcam.graph.types import INTEGERS, Dim, made_up

CORNERS = 4  # numbers of a box; mmdetection's have the score behind, rotated ones an angle
NUMBERS = INTEGERS | {TensorProto.INT64}  # that may tell a class
OF_CLASSES, OF_SCORES = ("class", "label", "categor"), ("score", "conf", "prob")  # in the names of outputs
OF_OTHERS = ("index", "indic", "idx", "keep", "batch", "track", "num", "count", "_id")
CHOOSING = frozenset({"ArgMax", "TopK"})  # the highest of some classes
SQUASHING = KEEPING | {"Softmax", "LogSoftmax", "Sigmoid"}
ORDER = [0, 1, 2, 3, 4, 5]  # of the columns: the box, its score, its class
MOVING_ROWS = frozenset({"Identity", "Cast", "Slice", "Squeeze", "Unsqueeze", "Reshape"})
MOVING = MOVING_ROWS | {"Transpose", "Gather", "GatherElements", "GatherND", "Expand", "Split"}


class Parts(NamedTuple):
    """The outputs that hold detections: boxes [N, 4], their scores and classes [N]; or with an axis of images.

    `scores` is "" where each box has its score behind, [N, 5]; else what is behind the four is left out.
    """

    boxes: str
    scores: str
    classes: str


def with_detections(graph: Graph) -> Graph:
    """The graph with detections given out apart, or in another order, shown as rows [N, 6]; itself where no need is."""
    if rows_of_detections(graph) is not None:
        return graph
    name = fresh(graph, "detections")
    if (parts := detection_parts(graph)) is not None:
        nodes, constants = put_together(graph, parts, name)
    elif (found := detection_columns(graph)) is not None:
        rows, columns = found
        order = numpy_helper.from_array(np.array(columns), fresh(graph, f"{SURFACED}/{name}/columns"))
        nodes = [helper.make_node("Gather", [rows, order.name], [name], f"{SURFACED}/{name}/rows", axis=-1)]
        constants = [order]
    else:
        return graph
    return Graph(graph.model, with_nodes(graph.proto, [*graph.nodes, *nodes], constants))


def rows_of_detections(graph: Graph) -> str | None:
    """The value that holds, or shows, the detections of a graph as rows; None where there is none."""
    for node in graph.nodes:
        if node.name.startswith(f"{SURFACED}/") and node.name == f"{SURFACED}/{node.output[0]}/rows":
            return str(node.output[0])
    found = detection_columns(graph)
    return found[0] if found is not None and found[1] == ORDER else None


def outputs_of_detections(graph: Graph, rows: str) -> list[str]:
    """The outputs that hold what such a value shows."""
    if rows in graph.outputs:
        return [rows]
    if (parts := detection_parts(graph)) is not None:
        return [part for part in parts if part]
    found = detection_columns(graph)
    return [] if found is None else [found[0]]


# -- several outputs ------------------------------------------------------------------------------------


def detection_parts(graph: Graph) -> Parts | None:
    """The outputs that hold a box, a score and a class for each detection; None unless there is one of each.

    Classes are called so, or are the only integers that are not called anything else. TensorFlow's are floats, and come
    with all boxes before their suppression, which are called raw.
    """
    outputs = [name for name in graph.outputs if not says(name, ("raw", *OF_SCORES))]
    found = [parts for boxes in outputs if (parts := parts_beside(graph, boxes)) is not None]
    return found[0] if len(found) == 1 else None


def parts_beside(graph: Graph, boxes: str) -> Parts | None:
    """The same for an output that may be the boxes: not rows of four or five classes, the highest of which is told."""
    shape = graph.shape(boxes) or ()
    if len(shape) not in (2, 3) or shape[-1] not in (CORNERS, CORNERS + 1) or not graph.is_float(boxes):
        return None
    if len(shape) == 2 and shape[0] == batch(graph):
        return None
    alone = len(shape) == 3 and (shape[0] == 1 or made_up(shape[0]))
    rows = [shape[:-1], shape[1:-1]] if alone else [shape[:-1]]  # those of the only image have no axis for it, at times
    beside = [name for name in graph.outputs if any(agree(graph.shape(name), some) for some in rows)]
    named = [name for name in beside if says(name, OF_CLASSES) and not says(name, OF_SCORES)]
    integers = [name for name in beside if graph.type(name).elem_type in NUMBERS and not is_other(name)]
    classes = the_one(named, ()) or the_one(integers, ())
    floats = [name for name in beside if graph.is_float(name) and name != classes]
    scores = the_one([name for name in floats if says(name, OF_SCORES) or not is_other(name)], OF_SCORES)
    if classes is None or is_highest_of(graph, classes, boxes):
        return None
    if scores is not None:
        return Parts(boxes, scores, classes)
    return Parts(boxes, "", classes) if shape[-1] > CORNERS and not floats else None


def is_other(name: str) -> bool:
    """Whether an output is called what is neither a class nor a score."""
    return says(name, OF_OTHERS) or name.lower() in ("id", "ids")


def is_highest_of(graph: Graph, classes: str, rows: str) -> bool:
    """Whether classes are those of the highest numbers of some rows, or of what these were before a softmax."""
    node = graph.maker(behind(graph, classes)[-1])
    if node is None or node.op_type not in CHOOSING:
        return False
    return bool(set(behind(graph, node.input[0])).intersection(behind(graph, rows)))


def behind(graph: Graph, name: str) -> list[str]:
    """A value, and those that it is with a shape, a type or a squashing of its own, the first last."""
    found = [name]
    while (node := graph.maker(found[-1])) is not None and node.op_type in SQUASHING:
        found.append(node.input[0])
    return found


def the_one(names: list[str], words: tuple[str, ...]) -> str | None:
    """The only name, or the only one with such a word in it; None where there is none, or several."""
    told = [name for name in names if says(name, words)]
    fitting = names if len(names) == 1 else told
    return fitting[0] if len(fitting) == 1 else None


def says(name: str, words: tuple[str, ...]) -> bool:
    """Whether one of some words is in a name."""
    return any(word in name.lower() for word in words)


def agree(shape: tuple[Dim, ...] | None, other: tuple[Dim, ...]) -> bool:
    """Whether two shapes may be the same."""
    return shape is not None and len(shape) == len(other) and all(starmap(may_equal, zip(shape, other, strict=True)))


def may_equal(one: Dim, other: Dim) -> bool:
    """Whether two sizes may be the same: of an unknown number of rows there is not always one."""
    numbers = [size for size in (one, other) if isinstance(size, int)]
    return one == other or not numbers or (len(numbers) == 1 and numbers[0] != 1)


def put_together(graph: Graph, parts: Parts, name: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes that make rows of such outputs, and the constants they read."""
    given = [part for part in parts if part]
    is_double = any(graph.type(part).elem_type == TensorProto.DOUBLE for part in given)
    kind = TensorProto.DOUBLE if is_double else TensorProto.FLOAT  # a narrower one would round the classes
    rank = graph.rank(parts.boxes) or 0
    columns, nodes, constants = list[str](), list[onnx.NodeProto](), list[onnx.TensorProto]()
    more_behind = bool(parts.scores) and (graph.shape(parts.boxes) or ())[-1] != CORNERS
    for part in given:
        typed, column = (fresh(graph, f"{SURFACED}/{name}/{part}/{made}") for made in ("typed", "column"))
        nodes.append(helper.make_node("Cast", [part], [typed], typed, to=kind))
        if part != parts.boxes:
            missing = np.array([*range(rank - 1 - (graph.rank(part) or 0)), rank - 1])
            constants.append(numpy_helper.from_array(missing, fresh(graph, f"{SURFACED}/{name}/{part}/axes")))
            nodes.append(helper.make_node("Unsqueeze", [typed, constants[-1].name], [column], column))
        elif more_behind:
            constants.append(numpy_helper.from_array(np.arange(CORNERS), fresh(graph, f"{SURFACED}/{name}/corners")))
            nodes.append(helper.make_node("Gather", [typed, constants[-1].name], [column], column, axis=-1))
        columns.append(nodes[-1].output[0])
    nodes.append(helper.make_node("Concat", columns, [name], f"{SURFACED}/{name}/rows", axis=rank - 1))
    return nodes, constants


def fresh(graph: Graph, name: str) -> str:
    """A name that no value or node has yet."""
    while name in graph.names:
        name += "_"
    return name


# -- one output ---------------------------------------------------------------------------------------


def detection_columns(graph: Graph) -> tuple[str, list[int]] | None:
    """The output that holds finished detections, and its columns of a box, a score and a class; None: not just one."""
    found = [(name, columns) for name in graph.outputs if (columns := columns_of(graph, name)) is not None]
    return found[0] if len(found) == 1 else None


def columns_of(graph: Graph, name: str) -> list[int] | None:
    """Of rows that were joined of a box, a score and a whole number, perhaps with the image's number in front or other
    things: the columns of box, score and class. None: they were not.
    """
    shape, joined = graph.shape(name) or (), graph.maker(name)
    while joined is not None and moves_rows(graph, joined):
        joined = graph.maker(joined.input[0])
    if len(shape) not in (2, 3) or joined is None or joined.op_type != "Concat":
        return None
    shapes = [graph.shape(part) or (None,) for part in joined.input]
    widths = [width for *_, width in shapes if isinstance(width, int)]
    along_rows = attributes(joined)["axis"] in (-1, *(len(part) - 1 for part in shapes))
    if not along_rows or len(widths) != len(shapes) or sum(widths) != shape[-1]:
        return None
    columns = list(zip(accumulate(widths, initial=0), widths, joined.input, strict=False))
    boxes = [range(begin, begin + width) for begin, width, _ in columns if width == CORNERS]
    whole = [begin for begin, width, part in columns if width == 1 and is_whole(graph, part)]
    scores = [begin for begin, width, _ in columns if width == 1 and begin not in whole]
    classes = whole[1:] if len(whole) == 2 and whole[0] == 0 else whole
    return [*boxes[0], *scores, *classes] if len(boxes) == len(scores) == len(classes) == 1 else None


def moves_rows(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node leaves out, reorders or reshapes rows at most."""
    if node.op_type == "Gather":
        rank = graph.rank(node.input[0])
        return rank is not None and int(attributes(node).get("axis", 0)) % rank != rank - 1
    return node.op_type in MOVING_ROWS


def is_whole(graph: Graph, name: str) -> bool:
    """Whether a value is a whole number made a float."""
    while (node := graph.maker(name)) is not None and node.op_type in MOVING:
        if node.op_type == "Cast" and graph.type(node.input[0]).elem_type in NUMBERS:
            return True
        name = node.input[0]
    return False
