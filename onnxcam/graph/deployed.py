"""What is made of a model runs as the model does: values that nobody reads go, and integers keep their kernels."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.graph.index import Graph
from onnxcam.graph.integers import drop_unread
from onnxcam.graph.nodes import copied, optional, replace_nodes
from onnxcam.graph.quantized import equals
from onnxcam.runtime import oracle

READING = {"DequantizeLinear": 2, "Greater": 1, "Less": 1}  # which input is an integer of the same kind
VIEWS_OF_INTEGERS = frozenset({"MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})


def as_deployed(graph: Graph, proto: onnx.ModelProto, kept: Collection[str] = ()) -> onnx.ModelProto:
    """In place: a graph made from `graph` such that what was there runs as it does without what was added.

    int8 activations become uint8 where ONNX Runtime would make them so, had they no further reader. Its x86 kernels
    take uint8 activations only, and it shifts a pair of Q and DQ there when nobody else reads it. With a tap or a mask
    on the pair it would not, and the operators around would run in float. The values are the same. `kept`: values that
    stay, though nothing reads them yet.
    """
    drop_unread(proto, kept)
    if not shifts_int8():
        return proto
    shift_pairs(graph, proto)
    if graph.opset >= 21:
        view_integers(graph, proto)
    return proto


def shift_pairs(graph: Graph, proto: onnx.ModelProto) -> None:
    """In place: the lone int8 pairs of `graph`, and what compares their integers, in uint8."""
    if not (pairs := lone_pairs(graph)):
        return
    written = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if is_number(tensor)}
    for node in proto.graph.node:
        made = node.op_type == "QuantizeLinear" and node.output[0] in pairs
        if made or (node.op_type in READING and node.input[0] in pairs):
            i = READING.get(node.op_type, 2)
            number = graph.constant(node.input[i])
            shift(proto, node, i, written[node.input[i]] if number is None else number)
    for value in [value for value in proto.graph.value_info if value.name in pairs]:
        proto.graph.value_info.remove(value)


def view_integers(graph: Graph, proto: onnx.ModelProto) -> None:
    """In place: a view of what int8 integers stand for as what a view of them stands for.

    From opset 21 on, ONNX Runtime 1.31 puts a pair of QuantizeLinear and DequantizeLinear behind the view, makes it
    uint8, and refuses it for the type that it wrote down before. Views that a quantizer follows it leaves alone.
    """
    points = {tensor.name for tensor in proto.graph.initializer if is_number(tensor)}
    quantized = {node.input[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    reading, nodes = dict[str, onnx.NodeProto](), list[onnx.NodeProto]()
    for node in proto.graph.node:
        nodes.append(node)
        read = reading.get(node.input[0]) if node.op_type in VIEWS_OF_INTEGERS and not node.domain else None
        if node.op_type == "DequantizeLinear" and has_one_int8_point(graph, node, points):
            reading[node.output[0]] = node
        elif read is not None and node.output[0] not in quantized:
            nodes[-1:] = viewed(node, read)
            reading[node.output[0]] = nodes[-1]
    if len(nodes) > len(proto.graph.node):
        replace_nodes(proto.graph, nodes)


def has_one_int8_point(graph: Graph, node: onnx.NodeProto, written: Collection[str]) -> bool:
    """Whether a node has one zero point of type int8 for all: a constant of the graph, or one `written` besides."""
    point = int8_point(graph, node)
    return optional(node, 2) in written or (point is not None and point.size == 1)


def viewed(view: onnx.NodeProto, reading: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A view of the integers that a DequantizeLinear reads, and what that stands for."""
    of_integers, meaning = copied(view), copied(reading)
    integers = f"onnxcam/{view.output[0]}/integers"
    of_integers.input[0], of_integers.output[0] = reading.input[0], integers
    meaning.input[0], meaning.output[0], meaning.name = integers, view.output[0], f"{integers}/meaning"
    return [of_integers, meaning]


def is_number(tensor: onnx.TensorProto) -> bool:
    """Whether a constant is a single int8."""
    return tensor.data_type == TensorProto.INT8 and not any(size != 1 for size in tensor.dims)


def shift(proto: onnx.ModelProto, node: onnx.NodeProto, i: int, number: npt.NDArray[Any]) -> None:
    """A node of an int8 pair, in place, with the number that is its input i 128 higher in uint8."""
    shifted = numpy_helper.from_array(
        (number.astype(np.int16) + 128).astype(np.uint8), f"onnxcam/{node.input[i]}/uint8"
    )
    if all(tensor.name != shifted.name for tensor in proto.graph.initializer):
        proto.graph.initializer.append(shifted)
    node.input[i] = shifted.name
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
        if node.op_type != "QuantizeLinear" or int8_point(graph, node) is None:
            continue
        lone = len(equals(graph, q := node.output[0])) == 1 and times_read(graph, q) == 1 and q not in graph.outputs
        reader = graph.nodes[graph.consumers[q][0]] if lone else node
        if (
            reader.op_type == "DequantizeLinear"
            and int8_point(graph, reader) is not None
            and times_read(graph, reader.output[0]) == 1
        ):
            found.add(str(q))
    return found


def times_read(graph: Graph, name: str) -> int:
    """How often a value is read; giving it out is one time."""
    nodes = [graph.nodes[i] for i in graph.consumers.get(name, [])]
    return sum(max(list(node.input).count(name), 1) for node in nodes) + (name in graph.outputs)


def int8_point(graph: Graph, node: onnx.NodeProto) -> npt.NDArray[np.int8] | None:
    """The constant zero point of type int8 that a node has; None where it has no such."""
    point = graph.constant(name) if (name := optional(node, 2)) else None
    return point if point is not None and point.dtype == np.int8 else None


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
