"""ONNX Runtime's normalizations of a sum, as the sum and its normalization.

Their last output is that sum, of which the first is the normalization: where both are read, one is behind the other,
and no sibling of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

from onnxcam.graph.index import Graph
from onnxcam.graph.integers import MICROSOFT
from onnxcam.graph.nodes import attributes, optional, with_nodes

SKIPPING = {  # op_type -> what it does with the sum, and where its scale, its shift and its bias are
    "SkipLayerNormalization": ("LayerNormalization", (2, 3), 4),
    "SkipSimplifiedLayerNormalization": ("SimplifiedLayerNormalization", (2,), 3),
}
SUM = 3  # the place of the sum among the outputs
NORMALIZING = 17  # the opset that has a LayerNormalization


def without_skips(graph: Graph) -> onnx.ModelProto | None:
    """The model with the sums apart whose normalization is not all that is read; None where there are none."""
    apart = {
        i: parts(node) for i, node in enumerate(graph.nodes) if graph.opset >= NORMALIZING and gives_sum(graph, node)
    }
    if not apart:
        return None
    return with_nodes(graph.proto, [one for i, node in enumerate(graph.nodes) for one in apart.get(i, [node])])


def gives_sum(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node's sum is read, and nothing that it measures."""
    read = [bool(name) and (name in graph.consumers or name in graph.outputs) for name in node.output]
    return node.domain == MICROSOFT and node.op_type in SKIPPING and read[SUM:] == [True] and not any(read[1:SUM])


def parts(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    """The sum and its normalization."""
    normalization, places, at = SKIPPING[node.op_type]
    name, total, bias = node.name or node.output[0], node.output[SUM], optional(node, at)
    summed = f"onnxcam/{total}/without_bias" if bias else total
    scaling = list(filter(None, (optional(node, i) for i in places)))
    epsilon = attributes(node).get("epsilon", 1e-12)
    return [
        helper.make_node("Add", node.input[:2], [summed], name=f"{name}/sum"),
        *([helper.make_node("Add", [summed, bias], [total], name=f"{name}/bias")] if bias else []),
        helper.make_node(normalization, [total, *scaling], node.output[:1], name=name, axis=-1, epsilon=epsilon),
    ]
