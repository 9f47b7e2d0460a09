"""A Squeeze that names no axes takes away every axis of size 1: which these are is known where all sizes are."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxcam.graph.index import Graph
from onnxcam.graph.nodes import optional, with_nodes
from onnxcam.graph.types import Shape


def squeezed(graph: Graph) -> dict[int, Shape | None]:
    """The nodes that name no axes, each with the shape of what it reads."""
    return {
        i: graph.shape(node.input[0])
        for i, node in enumerate(graph.nodes)
        if node.op_type == "Squeeze" and node.domain == "" and not optional(node, 1)
    }


def with_named_axes(graph: Graph) -> onnx.ModelProto | None:
    """The model with the axes named that are known; None where there are none.

    A head is cut for any number of rows: the axis of a batch of one would be like any other there.
    """
    known = {i: shape for i, shape in squeezed(graph).items() if is_known(shape)}
    if not known:
        return None
    nodes, axes = list(graph.nodes), list[onnx.TensorProto]()
    for i, shape in known.items():
        node = graph.nodes[i]
        axes.append(numpy_helper.from_array(ones_of(shape), f"onnxcam/{node.output[0]}/axes"))
        nodes[i] = helper.make_node("Squeeze", [node.input[0], axes[-1].name], node.output, name=node.name)
    return with_nodes(graph.proto, nodes, axes)


def is_known(shape: Shape | None) -> bool:
    """Whether all sizes of a shape are known."""
    return shape is not None and all(isinstance(size, int) for size in shape)


def ones_of(shape: Shape | None) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The axes of size 1."""
    return np.array([axis for axis, size in enumerate(shape or ()) if size == 1], np.int64)
