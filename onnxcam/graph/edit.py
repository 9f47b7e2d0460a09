"""Small changes to a ModelProto, in place where nothing else is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from onnxcam.graph.index import Graph
from onnxcam.graph.nodes import all_nodes, reads


def rename(proto: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Values under other names, in the main graph's nodes, inputs and outputs."""
    for node in proto.graph.node:
        for held in (node.input, node.output):
            for i, name in enumerate(held):
                held[i] = names.get(name, name)
    for value in (*proto.graph.input, *proto.graph.output):
        value.name = names.get(value.name, value.name)


def default_to(proto: onnx.ModelProto, name: str, value: int) -> None:
    """An int64 input becomes optional."""
    proto.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))


def expose(graph: Graph, proto: onnx.ModelProto, values: Sequence[str]) -> None:
    """Values as outputs, with type and shape, unless they are outputs."""
    there = {value.name for value in proto.graph.output}
    for name in dict.fromkeys(values):
        if name not in there:
            found = graph.type(name)
            proto.graph.output.append(helper.make_tensor_value_info(name, found.elem_type, found.shape))


def restore_interface(graph: Graph, proto: onnx.ModelProto) -> None:
    """The original inputs and outputs as they were declared, not as normalizing left them.

    An output declared without type or shape gets those that were worked out.
    """
    original = graph.model.proto.graph
    declared = {value.name: value for value in (*original.input, *original.output)}
    for value in (*proto.graph.input, *proto.graph.output):
        if value.name in declared:
            value.CopyFrom(declared[value.name])
    for value in proto.graph.output:
        found = graph.type(value.name)
        if not value.type.WhichOneof("value") or (
            value.type.HasField("tensor_type")
            and not (value.type.tensor_type.elem_type and value.type.tensor_type.HasField("shape"))
        ):
            value.CopyFrom(helper.make_tensor_value_info(value.name, found.elem_type, found.shape))


def forget_authors(proto: onnx.ModelProto) -> None:
    """Exporters note stack traces, with their author's paths, at every node; a file of ours does not carry them on."""
    graph = proto.graph
    nodes = [*all_nodes(graph), *(node for function in proto.functions for node in function.node)]
    values = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for held in (*nodes, *values, *proto.functions, graph):
        held.ClearField("metadata_props")
        held.ClearField("doc_string")


def without_idle_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model, in a copy when there are any, without weights that nothing reads.

    ONNX Runtime takes a time that grows with their square to drop them: 9 s for 50,000.
    """
    graph = proto.graph
    read = {name for node in graph.node for name in reads(node)}
    read |= {value.name for value in (*graph.input, *graph.output)}
    if read.issuperset(tensor.name for tensor in graph.initializer):
        return proto
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    lean = onnx.ModelProto()
    lean.CopyFrom(proto)
    del lean.graph.initializer[:]
    lean.graph.initializer.extend(kept)
    return lean


def write_metadata(proto: onnx.ModelProto, entries: Mapping[str, str]) -> None:
    """Metadata entries set, others kept."""
    kept = [(entry.key, entry.value) for entry in proto.metadata_props if entry.key not in entries]
    del proto.metadata_props[:]
    for key, value in [*kept, *entries.items()]:
        proto.metadata_props.add(key=key, value=value)
