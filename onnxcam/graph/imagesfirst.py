"""Tokens that a model holds as [positions, images, channels], shown once more with the images first.

Attention as PyTorch wrote it at first runs over sequences in front: CLIP's image encoders do. A layer is read, cut and
given back with a row an image, so behind each such value a Transpose is put in that nothing reads, as `surface` does
for integers: what runs keeps only those that are read. The model's own values stay as they are.
"""

from __future__ import annotations

import onnx
from onnx import helper

from onnxcam.graph.index import Graph, attributes
from onnxcam.graph.integers import SURFACED
from onnxcam.graph.layout import VIEWS, layouts

SWAP = [1, 0, 2]


def with_images_first(graph: Graph) -> Graph:
    """The graph with such values shown; itself where there are none."""
    if not any(node.op_type == "Transpose" and attributes(node).get("perm") == SWAP for node in graph.nodes):
        return graph
    known = layouts(graph)
    nodes = []
    for node in graph.nodes:
        nodes.append(node)
        name = node.output[0] if node.output else ""
        layout = None if node.op_type in VIEWS or not graph.is_float(name) else known.get(name)
        if layout is not None and layout.axes == "PNC" and (shown := f"{name}_images_first") not in graph.names:
            nodes.append(helper.make_node("Transpose", [name], [shown], name=f"{SURFACED}/{shown}", perm=SWAP))
    if len(nodes) == len(graph.nodes):
        return graph
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return Graph(graph.model, proto)


def images_first(graph: Graph, name: str) -> str:
    """The value that shows another with the images first; that itself where there is none."""
    readers = (graph.nodes[i] for i in graph.consumers.get(name, []))
    return next((str(node.output[0]) for node in readers if is_view(node)), name)


def images_second(graph: Graph, name: str) -> str | None:
    """The value that another shows with the images first; None where it shows none."""
    node = graph.nodes[graph.producer[name]] if name in graph.producer else None
    return str(node.input[0]) if node is not None and is_view(node) else None


def is_view(node: onnx.NodeProto) -> bool:
    """Whether a node was put in here."""
    return node.op_type == "Transpose" and node.name.startswith(SURFACED)
