"""Quantized graphs: where their integers are read as floats, and how to do so without disturbing ONNX Runtime.

    x -> QuantizeLinear -> q -> DequantizeLinear -> d

x is never read: ONNX Runtime computes q from the operator before it in one integer kernel, and a reader of x would take
that kernel away. d is x as the model knows it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.graph.index import Graph
from onnxcam.graph.integers import MOVING, drop_unread, makes_integers, scaling
from onnxcam.graph.nodes import attributes, optional
from onnxcam.graph.types import INTEGERS
from onnxcam.runtime import oracle

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


# -- what runs ------------------------------------------------------------------------------------


def as_deployed(graph: Graph, proto: onnx.ModelProto, kept: Collection[str] = ()) -> onnx.ModelProto:
    """In place: a graph made from `graph` such that what was there runs as it does without what was added.

    int8 activations become uint8 where ONNX Runtime would make them so, had they no further reader. Its x86 kernels
    take uint8 activations only, and it shifts a pair of Q and DQ there when nobody else reads it. With a tap or a mask
    on the pair it would not, and the operators around would run in float. The values are the same. `kept`: values that
    stay, though nothing reads them yet.
    """
    drop_unread(proto, kept)
    pairs = lone_pairs(graph)
    if not pairs or not shifts_int8():
        return proto
    for node in proto.graph.node:
        if (node.op_type == "QuantizeLinear" and node.output[0] in pairs) or (
            node.op_type == "DequantizeLinear" and node.input[0] in pairs
        ):
            shift(graph, proto, node)
    for value in [value for value in proto.graph.value_info if value.name in pairs]:
        proto.graph.value_info.remove(value)
    return proto


def shift(graph: Graph, proto: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """A node of an int8 pair, in place, with its zero point 128 higher in uint8."""
    point = graph.constant(node.input[2])
    assert point is not None  # of a lone pair
    shifted = numpy_helper.from_array((point.astype(np.int16) + 128).astype(np.uint8), f"onnxcam/{node.input[2]}/uint8")
    if all(tensor.name != shifted.name for tensor in proto.graph.initializer):
        proto.graph.initializer.append(shifted)
    node.input[2] = shifted.name
    kept = [attribute for attribute in node.attribute if attribute.name != "output_dtype"]
    del node.attribute[:]
    node.attribute.extend(kept)


def lone_pairs(graph: Graph) -> set[str]:
    """The integers of every int8 pair of QuantizeLinear and DequantizeLinear with one reader each, their zero points
    constant.

    Nodes that do the same count as one, for ONNX Runtime merges them first.
    """
    found = set()
    for node in graph.nodes:
        if node.op_type != "QuantizeLinear" or node.domain or not int8_point(graph, node):
            continue
        lone = len(equals(graph, q := node.output[0])) == 1 and times_read(graph, q) == 1 and q not in graph.outputs
        reader = graph.nodes[graph.consumers[q][0]] if lone else node
        if (
            reader.op_type == "DequantizeLinear"
            and int8_point(graph, reader)
            and times_read(graph, reader.output[0]) == 1
        ):
            found.add(str(q))
    return found


def times_read(graph: Graph, name: str) -> int:
    """How often a value is read; giving it out is one time."""
    nodes = [graph.nodes[i] for i in graph.consumers.get(name, [])]
    return sum(max(list(node.input).count(name), 1) for node in nodes) + (name in graph.outputs)


def int8_point(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node has a constant zero point of type int8."""
    point = graph.constant(name) if (name := optional(node, 2)) else None
    return point is not None and point.dtype == np.int8


@cache
def shifts_int8() -> bool:
    """Whether this ONNX Runtime makes a lone int8 pair uint8, as its x86 builds do; it is asked."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    weights = [
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.5]),
        helper.make_tensor("z", TensorProto.INT8, [], [0]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    body = helper.make_graph(nodes, "probe", ports[:1], ports[1:], weights)
    probe = helper.make_model(body, ir_version=8, opset_imports=[helper.make_opsetid("", 16)])
    optimized = onnx.load_from_string(oracle.optimized(probe.SerializeToString()))
    return any(tensor.data_type == TensorProto.UINT8 for tensor in optimized.graph.initializer)
