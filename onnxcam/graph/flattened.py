"""A softmax over flattened axes that is one over the last axis.

Below opset 13 a softmax took all axes from one on as a single one. Brought to a newer opset it stands between a Flatten
and a Reshape, unless its input's rank is known then. Inference often knows it later, and that it was the last axis all
along: the softmax reads the model's own value again, which is the score that users know.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import helper

from onnxcam.graph.index import Graph
from onnxcam.graph.nodes import attributes, with_nodes

KINDS = frozenset({"Softmax", "LogSoftmax", "Hardmax"})


@dataclass(frozen=True)
class Flattened:
    """Flatten, softmax and Reshape of a value: their places in the graph, and the axis that they amount to."""

    flatten: int
    softmax: int
    reshape: int
    axis: int


def without_flattens(graph: Graph) -> onnx.ModelProto | None:
    """The model without those that are not needed; None where all are."""
    found = [one for i in range(len(graph.nodes)) if (one := flattened(graph, i)) is not None]
    if not found:
        return None
    gone = {i for one in found for i in (one.flatten, one.softmax)}
    plain = {one.reshape: plainly(graph, one) for one in found}
    return with_nodes(graph.proto, (plain.get(i, node) for i, node in enumerate(graph.nodes) if i not in gone))


def plainly(graph: Graph, one: Flattened) -> onnx.NodeProto:
    """The softmax over one axis that three nodes amount to."""
    softmax, source = graph.nodes[one.softmax], graph.nodes[one.flatten].input[0]
    output = graph.nodes[one.reshape].output
    return helper.make_node(softmax.op_type, [source], output, name=softmax.name, axis=one.axis)


def flattened(graph: Graph, i: int) -> Flattened | None:
    """The three nodes around a softmax, where of the axes that it takes together only one is longer than 1."""
    node = graph.nodes[i]
    if node.op_type not in KINDS or node.domain or node.input[0] not in graph.producer:
        return None
    before, readers = graph.producer[node.input[0]], graph.consumers.get(node.output[0], [])
    flatten, lone = graph.nodes[before], not {node.input[0], node.output[0]} & set(graph.outputs)
    if flatten.op_type != "Flatten" or len(graph.consumers[node.input[0]]) != 1 or len(readers) != 1 or not lone:
        return None
    reshape, shape = graph.nodes[readers[0]], graph.shape(flatten.input[0])
    if reshape.op_type != "Reshape" or shape is None or not shape or not is_shape(graph, reshape, flatten.input[0]):
        return None
    if attributes(node).get("axis", -1) not in (-1, 1):
        return None
    first = int(attributes(flatten).get("axis", 1))
    wide = [axis for axis in range(first + len(shape) if first < 0 else first, len(shape)) if shape[axis] != 1]
    return Flattened(before, i, readers[0], wide[0] if wide else len(shape) - 1) if len(wide) <= 1 else None


def is_shape(graph: Graph, reshape: onnx.NodeProto, name: str) -> bool:
    """Whether a Reshape gives a value the shape of another."""
    maker = graph.maker(reshape.input[1])
    return maker is not None and maker.op_type == "Shape" and maker.input[0] == name and not maker.attribute
