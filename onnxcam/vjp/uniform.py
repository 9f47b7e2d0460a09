"""Values that are provably the same along an axis.

A softmax over logits that no input can tell apart is constant, and its gradient exactly zero. Computed, it is rounding
noise, which the layers below may blow up to any size: placeholder weights (one number throughout) do just that.
"""

from __future__ import annotations

import onnx

from onnxcam.graph import Graph, attributes

KEEP_EQUAL = frozenset(
    [
        "Identity",
        "Relu",
        "LeakyRelu",
        "Sigmoid",
        "Tanh",
        "Dropout",
        "Cast",
        "Neg",
        "GlobalAveragePool",
        "AveragePool",
        "GlobalMaxPool",
        "MaxPool",
    ]
)


def same_along(graph: Graph, name: str, axis: int) -> bool:
    """Whether every slice of a value along an axis is the same, whatever the input."""
    while (node := graph.maker(name)) is not None:
        before, after = graph.shape(node.input[0]) if node.input else None, graph.shape(name)
        if node.op_type == "MatMul" and graph.rank(name) != 2:  # there axis 1 is not the product's
            return False
        if node.op_type in ("Gemm", "MatMul", "Conv"):
            return (
                axis == 1
                and all(is_one_number(graph, operand) for operand in node.input[1:] if operand)
                and plain(node)
            )
        if node.op_type in ("Reshape", "Flatten", "Squeeze") and before is not None and after is not None and axis == 1:
            if len(before) < 2 or len(after) < 2 or before[:2] != after[:2] or not isinstance(after[1], int):
                return False
        elif node.op_type not in KEEP_EQUAL or graph.drops_out(node) or (axis != 1 and node.op_type.endswith("Pool")):
            return False
        name = node.input[0]
    return False


def plain(node: onnx.NodeProto) -> bool:
    """Whether every output channel reads the same inputs."""
    attrs = attributes(node)
    return bool(attrs.get("group", 1) == 1 and attrs.get("transA", 0) == 0)


def is_one_number(graph: Graph, name: str) -> bool:
    """Whether a value is one constant number throughout."""
    maker = graph.maker(name)
    if maker is not None and maker.op_type == "ConstantOfShape":
        return True
    value = graph.constant(name)
    return value is not None and value.size > 0 and bool((value == value.flat[0]).all())
