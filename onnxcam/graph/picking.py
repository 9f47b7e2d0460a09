"""A GatherND that picks along the first axis as the Gather that it is; torch's newer exporter writes it of x[:, i]."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from onnxcam.graph.index import Graph
from onnxcam.graph.nodes import attributes, with_nodes


def with_plain_gathers(graph: Graph) -> onnx.ModelProto | None:
    """The model with such nodes as Gather; None where there are none."""
    nodes, indices = list(graph.nodes), list[onnx.TensorProto]()
    for i, node in enumerate(graph.nodes):
        if node.op_type != "GatherND" or node.domain or attributes(node).get("batch_dims", 0):
            continue
        index = graph.constant(node.input[1])
        if index is not None and index.shape[-1:] == (1,):
            indices.append(numpy_helper.from_array(index[..., 0], f"onnxcam/{node.output[0]}/indices"))
            nodes[i] = helper.make_node(
                "Gather", [node.input[0], indices[-1].name], node.output, name=node.name, axis=0
            )
    return with_nodes(graph.proto, nodes, indices) if indices else None
