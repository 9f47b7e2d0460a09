"""Values, of a graph or written for its gradient, that are provably not negative."""

from __future__ import annotations

import numpy as np
import onnx

from onnxcam.graph import RANGES, Graph, optional
from onnxcam.vjp.emitter import Emitter

NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs", "Softplus", "Sqrt"})
KEEP_SIGN = frozenset(
    [
        "Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile",
        "Slice", "Gather", "Split", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool",
        "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "Add", "Mul", "Div", "Sum", "Mean", "Max", "Min",
        "SpaceToDepth", "DepthToSpace", "Where",
    ]
)  # fmt: skip
DATA = frozenset({"Concat", "Add", "Mul", "Div", "Sum", "Mean", "Max", "Min"})  # all their inputs are data


def never_negative(g: Emitter, name: str) -> bool:
    """Whether a value is at least 0 whatever the input: computed by operators that make or keep that.

    Of what a head reads it is the whole model that tells.
    """
    waiting, seen = [name], {name}
    while waiting:
        value = waiting.pop()
        node, constant, graph = g.maker(value), g.constant(value), g.graph
        if node is None and constant is None:
            graph = graph.whole
            node, constant = graph.maker(value), graph.constant(value)
        if constant is not None and bool(np.all(constant >= 0)):
            continue
        if node is None or node.domain:
            return False
        if node.op_type in NEVER_NEGATIVE or cuts_at_zero(graph, node):
            continue
        if node.op_type not in KEEP_SIGN:
            return False
        data = [read for read in data_of(node) if read not in seen]
        seen.update(data)
        waiting += data
    return True


def data_of(node: onnx.NodeProto) -> list[str]:
    """The inputs whose elements an operator of KEEP_SIGN passes on."""
    if node.op_type == "Where":
        return list(node.input[1:])
    return list(node.input if node.op_type in DATA else node.input[:1])


def cuts_at_zero(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node lets nothing below 0 through: a Clip there, or a quantizer whose zero point is its least integer.

    Of QuantizeLinear it is what its integers stand for that is never negative.
    """
    if node.op_type == "Clip":
        low = graph.constant(name) if (name := optional(node, 1)) else None
        return low is not None and bool(np.all(low >= 0))
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return False
    integers = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
    least = RANGES.get(graph.type(integers).elem_type, (None,))[0]
    point = graph.constant(name) if (name := optional(node, 2)) else np.zeros(())
    return point is not None and least is not None and bool(np.all(point == least))
