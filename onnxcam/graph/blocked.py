"""Graphs that ONNX Runtime rewrote for one kind of CPU: their values hold channels in blocks."""

from __future__ import annotations

from onnxcam.graph.index import Graph

NCHWC = "com.microsoft.nchwc"
BLOCKED = frozenset({NCHWC, "com.ms.internal.nhwc"})
CURE = "the model was optimised offline for one kind of CPU: use the original"


def blocked(graph: Graph) -> dict[str, str]:
    """Values that hold blocks of channels, however their shapes look, each with the node that brought these in."""
    found: dict[str, str] = {}
    for i, node in enumerate(graph.nodes):
        within = next((found[name] for name in node.input if name in found), None)
        if node.op_type != "ReorderOutput" and (node.domain in BLOCKED or within):
            found |= dict.fromkeys(node.output, within or graph.describe(i))
    return found
