"""Float16 graphs in float32: what runs many times with tiny changes must not drown these in its roundings."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.graph.nodes import all_graphs, replace_nodes
from onnxcam.graph.types import NARROW

TYPES = frozenset({"to", "dtype", "output_dtype"})  # attributes that say what type a node makes


def widened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """In place: what a graph computes in float16 or bfloat16, it computes in float32; inputs and outputs too.

    Weights stay as they are stored, also where that is in another file, and are cast as a session opens.
    """
    for graph in all_graphs(proto.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            widen_type(value.type)
        for node in graph.node:
            for attribute in node.attribute:
                widen_attribute(attribute)
        if casts := [cast_of(tensor) for tensor in graph.initializer if tensor.data_type in NARROW]:
            replace_nodes(graph, [*casts, *graph.node])
    return proto


def widen_type(held: onnx.TypeProto) -> None:
    """In place: the type of a tensor, or of what a sequence or an optional value holds."""
    kind = held.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        widen_type(getattr(held, kind).elem_type)
    elif kind == "tensor_type" and held.tensor_type.elem_type in NARROW:
        held.tensor_type.elem_type = TensorProto.FLOAT


def widen_attribute(attribute: onnx.AttributeProto) -> None:
    """In place: a type that a node makes, or a constant that it holds."""
    if attribute.name in TYPES and attribute.i in NARROW:
        attribute.i = TensorProto.FLOAT
    if attribute.t.data_type in NARROW:
        attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float32)))


def cast_of(tensor: onnx.TensorProto) -> onnx.NodeProto:
    """A weight takes another name, in place; the node that makes it in float32, under its own."""
    name = tensor.name
    tensor.name = f"onnxcam/{name}/stored"
    return helper.make_node("Cast", [tensor.name], [name], name=f"{tensor.name}/cast", to=TensorProto.FLOAT)
