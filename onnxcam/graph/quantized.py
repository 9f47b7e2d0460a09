"""Quantized graphs: where their integers are read as floats, and how to do so without disturbing ONNX Runtime.

    x -> QuantizeLinear -> q -> DequantizeLinear -> d

x is never read: ONNX Runtime computes q from the operator before it in one integer kernel, and a reader of x would take
that kernel away. d is x as the model knows it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from onnxcam.graph.index import Graph
from onnxcam.graph.integers import MOVING, makes_integers, scaling
from onnxcam.graph.nodes import attributes
from onnxcam.graph.types import INTEGERS

CARRYING = frozenset({"Identity", "Cast"})  # hand an integer on as it is


def quantizer(graph: Graph, name: str) -> onnx.NodeProto | None:
    """The node that makes the integers `name`, or the QuantizeLinear that alone reads it; None where there is none."""
    node = graph.maker(name)
    if node is not None and makes_integers(node):
        return node
    readers = [graph.nodes[i] for i in graph.consumers.get(name, [])]
    if name in graph.outputs or not readers or any(node.op_type != "QuantizeLinear" for node in readers):
        return None
    return readers[0] if readers[0].input[0] == name else None


def dequantized(graph: Graph, name: str) -> str | None:
    """The output of the DequantizeLinear that reads a value, or its quantized form; None where the graph has none."""
    node = quantizer(graph, name)
    if node is None:
        readers = [graph.nodes[i] for i in graph.consumers.get(name, []) if not graph.is_float(name)]
        return next((reader.output[0] for reader in readers if reader.op_type == "DequantizeLinear"), None)
    return next(dequantizers(graph, node.output[0], node), None)


def dequantizers(graph: Graph, q: str, like: onnx.NodeProto) -> Iterator[str]:
    """What dequantizes integers with the scale and zero point of another node, directly or handed on."""
    waiting = [q]
    while waiting:
        for i in graph.consumers.get(waiting.pop(), []):
            reader = graph.nodes[i]
            if reader.op_type == "DequantizeLinear" and same_scaling(graph, like, reader):
                yield str(reader.output[0])
            elif carries(graph, reader):
                waiting.append(reader.output[0])


def origin(graph: Graph, q: str) -> str:
    """The integers that others are, before they were handed on."""
    while (node := graph.maker(q)) is not None and carries(graph, node):
        q = node.input[0]
    return q


def read_point(graph: Graph, name: str) -> str:
    """Where a value can be read of the model as it runs: behind its DequantizeLinear, if it is quantized.

    So is the input of a Relu or Clip whose output is: ONNX Runtime computes all of it in one integer kernel, in which
    the value itself does not exist.
    """
    readers = [graph.nodes[i] for i in graph.consumers.get(name, [])]
    if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip") and name not in graph.outputs:
        return dequantized(graph, readers[0].output[0]) or name
    return dequantized(graph, name) or name


def carries(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node hands integers on unchanged."""
    return node.op_type in CARRYING and graph.type(node.output[0]).elem_type in INTEGERS


def same_scaling(graph: Graph, one: onnx.NodeProto, other: onnx.NodeProto) -> bool:
    """Whether two nodes share scale, zero point and axis of their integers."""
    for key, default in (("axis", 1), ("block_size", 0)):
        if "QuantizeLinear" in (one.op_type, other.op_type) and (
            attributes(one).get(key, default) != attributes(other).get(key, default)
        ):
            return False
    return all(same_constant(graph, a, b) for a, b in zip(scaling(one), scaling(other), strict=True))


def same_constant(graph: Graph, one: str, other: str) -> bool:
    """Whether two names are one value, or equal constants."""
    if one == other:
        return True
    a, b = graph.constant(one), graph.constant(other)
    return a is not None and b is not None and np.array_equal(a, b)


def unquantized(graph: Graph, name: str) -> str:
    """Of a dequantized value the input of its QuantizeLinear, whose rounding it shows; any other value itself.

    A saturated score has no gradient through its quantizer; in front of it there is one, and what runs as deployed
    need not give that value out.
    """
    node = graph.maker(name)
    if node is None or node.op_type != "DequantizeLinear":
        return name
    before = graph.maker(origin(graph, node.input[0]))
    if before is None or before.op_type != "QuantizeLinear" or not same_scaling(graph, before, node):
        return name
    return str(before.input[0])


def rounded(graph: Graph, score: str) -> set[str]:
    """The integers that a dequantized score is read of, back to the operator that makes them; of others none.

    A saturated score would have no gradient through them: that it was cut off does not count.
    """
    node, found = graph.maker(score), set[str]()
    if node is None or node.op_type != "DequantizeLinear":
        return found
    name = node.input[0]
    while True:
        found.add(name)
        before = graph.maker(name)
        if before is None or not (before.op_type in MOVING or carries(graph, before)):
            return found
        name = before.input[0]


def computing_node(graph: Graph, name: str) -> onnx.NodeProto:
    """The node whose result a computed value is: of a quantized or dequantized one that before the QuantizeLinear."""
    node = graph.nodes[graph.producer[name]]
    if node.op_type == "DequantizeLinear" and (before := graph.maker(sources(graph, name)[0])) is not None:
        node = before
    return (graph.maker(node.input[0]) or node) if node.op_type == "QuantizeLinear" else node


def sources(graph: Graph, name: str) -> list[str]:
    """The integers that a dequantized value is read of, and others that are the same ones; none of other values."""
    node = graph.maker(name)
    if node is None or node.op_type != "DequantizeLinear":
        return []
    return equals(graph, origin(graph, node.input[0]))


def twins(graph: Graph, name: str) -> list[str]:
    """Other values that dequantize the same integers as a dequantized value does."""
    node = graph.maker(name)
    found = (d for q in sources(graph, name) for d in dequantizers(graph, q, node)) if node is not None else ()
    return [other for other in dict.fromkeys(found) if other != name]


def equals(graph: Graph, q: str) -> list[str]:
    """The integers of all quantizers that do what the maker of `q` does; `q` alone where no quantizer makes it."""
    node = graph.maker(q)
    if node is None or node.op_type != "QuantizeLinear":
        return [q]
    readers = [graph.nodes[i] for i in graph.consumers[node.input[0]]]
    return [
        str(other.output[0]) for other in readers if other.op_type == node.op_type and same_scaling(graph, node, other)
    ]
