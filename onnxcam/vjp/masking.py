"""Infinite derivatives that the model itself keeps out: Where(x > 0, Sqrt(x), 0) has a slope of 0 at -1, not of NaN.

The cotangent of what Where leaves is 0, but 0 times an infinite derivative is NaN. So of an operator that may have
one, and whose value a Where chooses from, a cotangent of 0 gives 0.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from onnxcam.graph import Graph
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import ZERO, Cotangents, Node

SINGULAR = frozenset({"Acos", "Acosh", "Asin", "Atanh", "Div", "Exp", "Log", "Pow", "Reciprocal", "Sqrt"})
ELEMENTWISE = SINGULAR | frozenset(
    {"Abs", "Add", "Cast", "CastLike", "Clip", "Identity", "Mul", "Neg", "Relu", "Sigmoid", "Sub", "Tanh"}
)
REARRANGING = frozenset(
    {"Expand", "Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)  # a cotangent of 0 stays one
FARTHEST = 8  # nodes between a value and the Where


def guarded(g: Emitter, n: Node, ct: str | None, found: Cotangents) -> Cotangents:
    """What an elementwise node's rule gives, 0 where its own cotangent is 0; as it is where nothing calls for that."""
    elementwise = n.proto.op_type in ELEMENTWISE and not n.proto.domain
    if ct is None or not elementwise or not is_masked(g.graph, n.output[0]) or not may_be_infinite(g, n.proto):
        return found
    zero = n.array(0)
    nothing = g.op("Equal", ct, zero)
    return [g.op("Where", nothing, zero, dx) if dx and dx != ZERO else dx for dx in found]


def without_nan(g: Emitter, n: Node) -> str:
    """The output of a softmax, 0 for NaN where a Where chooses from it: rows of -inf alone have none."""
    y = n.y()
    return g.op("Where", g.op("Equal", y, y), y, n.array(0)) if is_masked(g.graph, n.output[0]) else y


def may_be_infinite(g: Emitter, node: onnx.NodeProto) -> bool:
    """Whether an elementwise node, or one upstream of it, may have an infinite derivative, or a value that is none."""
    seen, here = set[str](), [node]
    for _ in range(FARTHEST):
        if any(is_singular(g, one) for one in here):
            return True
        read = {name for one in here for name in one.input} - seen
        seen |= read
        makers = [g.graph.maker(name) for name in sorted(read)]
        here = [maker for maker in makers if maker is not None and maker.op_type in ELEMENTWISE | REARRANGING]
    return False


def is_singular(g: Emitter, node: onnx.NodeProto) -> bool:
    """Whether an operator may have an infinite derivative; not where it divides by one number, or by constants."""
    if node.op_type not in ("Div", "Pow"):
        return node.op_type in SINGULAR
    power = g.constant(node.input[1])
    if node.op_type == "Pow":
        return power is None or bool(np.any(power < 1))
    shape = g.graph.shape(node.input[1])
    return power is None and (shape is None or math.prod(dim if isinstance(dim, int) else 2 for dim in shape) != 1)


def is_masked(graph: Graph, name: str) -> bool:
    """Whether a Where chooses from a value, or from what elementwise nodes and views make of it."""
    seen, here = {name}, [name]
    for _ in range(FARTHEST):
        readers = [(value, graph.nodes[i]) for value in here for i in graph.consumers.get(value, [])]
        if any(node.op_type == "Where" and value in node.input[1:] for value, node in readers):
            return True
        made = dict.fromkeys(node.output[0] for _, node in readers if node.op_type in ELEMENTWISE | REARRANGING)
        here = [name for name in made if name not in seen]
        seen.update(here)
    return False
