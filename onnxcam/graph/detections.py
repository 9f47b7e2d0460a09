"""Detections that a model gives out in parts (boxes, a score each, a class each), shown as rows: box, score, class."""

from __future__ import annotations

from itertools import starmap
from typing import NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnxcam.graph.index import Graph
from onnxcam.graph.integers import SURFACED
from onnxcam.graph.nodes import with_nodes
from onnxcam.graph.types import INTEGERS, Dim

CORNERS = 4  # numbers of a box
NUMBERS = INTEGERS | {TensorProto.INT64}  # that may tell a class
OF_CLASSES, OF_SCORES = ("class", "label"), ("score", "conf", "prob")  # in the names of outputs


class Parts(NamedTuple):
    """The outputs that hold detections: boxes [N, 4], their scores and classes [N]; or with an axis of images."""

    boxes: str
    scores: str
    classes: str


def with_detections(graph: Graph) -> Graph:
    """The graph with detections given out in parts shown as rows [N, 6]; itself where there are none."""
    parts = detection_parts(graph)
    if parts is None or rows_of_detections(graph) is not None:
        return graph
    name = fresh(graph, "detections")
    kind, rank = graph.type(parts.boxes).elem_type, graph.rank(parts.boxes) or 0
    last = numpy_helper.from_array(np.array([rank - 1]), f"{SURFACED}/{name}/last")
    columns, nodes = [parts.boxes], []
    for of, part in (("scores", parts.scores), ("classes", parts.classes)):
        typed, column = f"{SURFACED}/{name}/{of}/typed", f"{SURFACED}/{name}/{of}"
        nodes.append(helper.make_node("Cast", [part], [typed], typed, to=kind))
        nodes.append(helper.make_node("Unsqueeze", [typed, last.name], [column], column))
        columns.append(column)
    nodes.append(helper.make_node("Concat", columns, [name], f"{SURFACED}/{name}", axis=rank - 1))
    return Graph(graph.model, with_nodes(graph.proto, [*graph.nodes, *nodes], [last]))


def rows_of_detections(graph: Graph) -> str | None:
    """The value that shows the detections of a graph as rows; None where there is none."""
    made = (node for node in graph.nodes if node.op_type == "Concat" and node.name.startswith(SURFACED))
    return next((str(node.output[0]) for node in made), None)


def detection_parts(graph: Graph) -> Parts | None:
    """The outputs that hold a box, a score and a class for each detection; None unless there is one of each.

    Classes are integers, or floats that are called classes (TensorFlow's).
    """
    found = [parts for boxes in graph.outputs if (parts := parts_beside(graph, boxes)) is not None]
    return found[0] if len(found) == 1 else None


def parts_beside(graph: Graph, boxes: str) -> Parts | None:
    """The same for an output that may be the boxes."""
    shape = graph.shape(boxes) or ()
    if len(shape) not in (2, 3) or shape[-1] != CORNERS or not graph.is_float(boxes):
        return None
    beside = [name for name in graph.outputs if agree(graph.shape(name), shape[:-1])]
    integers = [name for name in beside if graph.type(name).elem_type in NUMBERS]
    classes = the_one(integers, OF_CLASSES) or the_one([name for name in beside if says(name, OF_CLASSES)], ())
    scores = the_one([name for name in beside if graph.is_float(name) and name != classes], OF_SCORES)
    return Parts(boxes, scores, classes) if classes and scores else None


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
    """Whether two sizes may be the same: two numbers only if they are."""
    return not (isinstance(one, int) and isinstance(other, int)) or one == other


def fresh(graph: Graph, name: str) -> str:
    """A name that no value has yet."""
    while name in graph.names:
        name += "_"
    return name
