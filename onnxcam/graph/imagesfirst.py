"""Values that a model holds as [positions, images, channels], shown once more with the images first.

Attention as PyTorch wrote it at first runs over sequences in front, and so do recurrent networks: CLIP's image encoders
hold such tokens, readers of text give out such scores. A layer, or a score, is read, cut and given back with a row an
image, so behind each such value a Transpose is put in that nothing reads, as `surface` does for integers: what runs
keeps only those that are read. The model's own values stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import helper

from onnxcam.errors import ModelError
from onnxcam.graph.image import image_input
from onnxcam.graph.index import Graph
from onnxcam.graph.integers import SURFACED
from onnxcam.graph.layout import VIEWS, layouts
from onnxcam.graph.nodes import attributes, with_nodes
from onnxcam.graph.types import Dim

SWAP = [1, 0, 2]
ALIKE = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "Identity", "Cast"})  # between a score and what is given out


def with_images_first(graph: Graph) -> Graph:
    """The graph with such values shown; itself where there are none."""
    shown = {*tokens(graph), *scores(graph)}
    nodes = []
    for node in graph.nodes:
        nodes.append(node)
        for name in shown.intersection(node.output):
            if (view := f"{name}_images_first") not in graph.names:
                nodes.append(helper.make_node("Transpose", [name], [view], name=f"{SURFACED}/{view}", perm=SWAP))
    return graph if len(nodes) == len(graph.nodes) else Graph(graph.model, with_nodes(graph.proto, nodes))


def tokens(graph: Graph) -> Iterator[str]:
    """Values with positions of the image in front, in models that turn them so."""
    if any(node.op_type == "Transpose" and attributes(node).get("perm") == SWAP for node in graph.nodes):
        known = layouts(graph)
        for node in graph.nodes:
            name = node.output[0] if node.output else ""
            layout = None if node.op_type in VIEWS or not graph.is_float(name) else known.get(name)
            if layout is not None and layout.axes == "PNC":
                yield name


def scores(graph: Graph) -> Iterator[str]:
    """What the model gives out with the images second, and what lies before its softmax."""
    images = batch(graph)
    for name in graph.outputs:
        while name in graph.producer and graph.is_float(name) and are_second(graph, name, images):
            yield name
            node = graph.nodes[graph.producer[name]]
            if node.op_type not in ALIKE:
                break
            name = node.input[0]


def batch(graph: Graph) -> Dim:
    """The size of the image input's axis of images; None where there is no such input, or it has none."""
    try:
        image = image_input(graph)
    except ModelError:
        return None
    shape = graph.shape(image.name)
    return shape[image.layout.index("N")] if shape is not None and "N" in image.layout else None


def are_second(graph: Graph, name: str, images: Dim) -> bool:
    """Whether the second of three axes holds the images, and the first one does not."""
    shape = graph.shape(name)
    if shape is None or len(shape) != 3 or images is None:
        return False
    return shape[1] == images != shape[0] and shape[2] != 1


def images_first(graph: Graph, name: str) -> str:
    """The value that shows another with the images first; that itself where there is none."""
    readers = (graph.nodes[i] for i in graph.consumers.get(name, []))
    return next((str(node.output[0]) for node in readers if is_view(node)), name)


def images_second(graph: Graph, name: str) -> str | None:
    """The value that another shows with the images first; None where it shows none."""
    node = graph.maker(name)
    return str(node.input[0]) if node is not None and is_view(node) else None


def is_view(node: onnx.NodeProto) -> bool:
    """Whether a node was put in here."""
    return node.op_type == "Transpose" and node.name.startswith(SURFACED)
