"""The part of a graph whose sizes are not settled yet: what inference is to read again, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

import onnx
from onnx import helper

from onnxcam.graph.nodes import reads
from onnxcam.graph.types import COUNTS, UNKNOWN, Types, ValueType, is_open, shape_in

SMALL = 4096  # elements; a constant up to this size may be computed while the graph is read


class Wired(NamedTuple):
    """A node, and all that it reads: what its subgraphs capture takes long to tell."""

    node: onnx.NodeProto
    reads: list[str]


def wired(nodes: Iterable[onnx.NodeProto]) -> list[Wired]:
    """Nodes with what they read."""
    return [Wired(node, reads(node)) for node in nodes]


def open_nodes(nodes: Sequence[Wired], types: Types, constants: Container[str]) -> list[int]:
    """The places of the nodes that make what is open, and of what these read whatever may tell its sizes."""
    made = {name: i for i, (node, _) in enumerate(nodes) for name in node.output if name and name not in constants}
    waiting = [name for name in made if is_open(shape_in(types, name))]
    found = set[int]()
    while waiting:
        name = waiting.pop()
        i = made.get(name)
        if i is not None and i not in found and may_tell_sizes(types.get(name, UNKNOWN)):
            found.add(i)
            waiting += nodes[i].reads
    return sorted(found)


def may_tell_sizes(value: ValueType) -> bool:
    """Whether sizes may follow from a value: it is open itself, of integers, or small whatever the batch."""
    sizes = [dim for dim in value.shape or () if isinstance(dim, int)]
    is_small = value.shape is not None and len(sizes) == len(value.shape) and math.prod(sizes) <= SMALL
    return is_small or is_open(value.shape) or value.elem_type in COUNTS


def part_of(
    proto: onnx.ModelProto,
    nodes: Sequence[Wired],
    types: Types,
    weight: Callable[[str], onnx.TensorProto | None],
) -> onnx.ModelProto:
    """A model of some nodes of another, without outputs.

    Args:
        types: of what the nodes read of others, which is input.
        weight: the value where what they read is constant.
    """
    part = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    part.graph.node.extend(node for node, _ in nodes)
    part.graph.sparse_initializer.extend(proto.graph.sparse_initializer)
    made = {name for node in part.graph.node for name in node.output}
    read = {name for _, names in nodes for name in names}
    inputs = {value.name: value for value in proto.graph.input}
    for name in sorted(read - made):
        tensor = weight(name)
        if tensor is not None:
            part.graph.initializer.append(tensor)
        elif name in types and types[name].elem_type:
            port = helper.make_tensor_value_info(name, types[name].elem_type, types[name].shape)
            part.graph.input.append(port)
        elif name in inputs:
            part.graph.input.append(inputs[name])
    return part
