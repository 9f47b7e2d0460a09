"""Operators that give out quantized integers, and what these stand for.

A quantized graph in QOperator format has no float value in its middle. Behind each of its operators a DequantizeLinear
is put in, which nothing reads: a place where a layer or a score can be read. What runs keeps only those that something
does read (`drop_unread`).
"""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import helper

from onnxcam.graph.nodes import local_names, optional, reads, replace_nodes

MICROSOFT = "com.microsoft"
SURFACED = "onnxcam/surfaced"  # begins the names of nodes that are put in to show a value otherwise
QUANTIZERS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})
SCALINGS: dict[tuple[str, str], tuple[int, int]] = {
    ("", "QuantizeLinear"): (1, 2), (MICROSOFT, "QuantizeLinear"): (1, 2),
    ("", "QLinearConv"): (6, 7), (MICROSOFT, "QLinearConv"): (6, 7), ("", "QLinearMatMul"): (6, 7),
    (MICROSOFT, "QGemm"): (7, 8), (MICROSOFT, "QLinearAdd"): (6, 7), (MICROSOFT, "QLinearMul"): (6, 7),
    (MICROSOFT, "QLinearWhere"): (7, 8), (MICROSOFT, "QLinearConcat"): (0, 1),
    **{(MICROSOFT, f"QLinear{op}"): (3, 4) for op in (
        "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax",
    )},
}  # fmt: skip
"""Operators that make quantized integers, each with its inputs that hold their scale and zero point."""
MOVING = frozenset(
    ["Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Slice", "MaxPool", "NhwcMaxPool"]
)  # hand integers on, with their scale


def scaling(node: onnx.NodeProto) -> list[str]:
    """Names of the scale and the zero point of the integers a node makes, or takes in DequantizeLinear; "" for none."""
    places = (1, 2) if node.op_type == "DequantizeLinear" else SCALINGS[node.domain, node.op_type]
    return [optional(node, i) for i in places]


def makes_integers(node: onnx.NodeProto) -> bool:
    """Whether a node gives out quantized integers of a scale of their own."""
    place = SCALINGS.get((node.domain, node.op_type))
    return place is not None and bool(optional(node, place[0]))


def surface(proto: onnx.ModelProto) -> onnx.ModelProto:
    """In place: a DequantizeLinear behind every operator that computes with integers or moves them, if it has none."""
    graph = proto.graph
    shown = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.input[:1]}
    taken = local_names(graph)
    scaled: dict[str, list[str]] = {}  # integers, with the names of their scale and zero point
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if not (node.input and node.output):  # of ONNX Runtime's own domain, which nobody checks
            continue
        if makes_integers(node) and node.op_type != "QuantizeLinear":
            scaled[node.output[0]] = [*filter(None, scaling(node))]
        elif node.op_type in MOVING and node.input[0] in scaled:
            scaled[node.output[0]] = scaled[node.input[0]]
        name = f"{node.output[0]}_dequantized"
        if node.output[0] in scaled.keys() - shown and name not in taken:
            inputs = [node.output[0], *scaled[node.output[0]]]
            nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=f"{SURFACED}/{name}"))
    if len(nodes) > len(graph.node):
        replace_nodes(graph, nodes)
    return proto


def drop_unread(proto: onnx.ModelProto, kept: Collection[str]) -> None:
    """In place: without the nodes that were put in to show a value and that nothing reads, but for values in `kept`."""
    graph = proto.graph
    read = {name for node in graph.node for name in reads(node)} | {value.name for value in graph.output} | {*kept}
    left = [node for node in graph.node if not node.name.startswith(SURFACED) or node.output[0] in read]
    if len(left) < len(graph.node):
        replace_nodes(graph, left)
