"""Nodes, what they read and hold, and the subgraphs in them: walks, names, copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import onnx
from google.protobuf.message import Message
from onnx import helper

Copied = TypeVar("Copied", bound=Message)


def all_nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of subgraphs after the node that holds them."""
    for node in graph.node:
        yield node
        for body in subgraphs(node):
            yield from all_nodes(body)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs inside it."""
    yield graph
    for node in graph.node:
        for body in subgraphs(node):
            yield from all_graphs(body)


def local_names(graph: onnx.GraphProto) -> set[str]:
    """The values of a graph itself, not those of the subgraphs in it."""
    made = {name for node in graph.node for name in node.output if name}
    weights = [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]
    return made | {value.name for value in (*graph.input, *weights)}


def captures(node: onnx.NodeProto) -> set[str]:
    """Names that a node's subgraphs read from outside."""
    found: set[str] = set()
    for body in subgraphs(node):
        read = {value.name for value in body.output}
        for inner in body.node:
            read |= set(reads(inner))
        found |= read - local_names(body) - {""}
    return found


def reads(node: onnx.NodeProto) -> list[str]:
    """Every name a node reads: its inputs, without those left out, then what its subgraphs read from outside."""
    return [*filter(None, node.input), *sorted(captures(node))]


def optional(node: onnx.NodeProto, i: int) -> str:
    """The name of the optional input i; "" where it is left out."""
    return node.input[i] if i < len(node.input) else ""


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values (strings decoded)."""
    return {a.name: decoded(helper.get_attribute_value(a)) for a in node.attribute}


def decoded(value: Any) -> Any:
    """An attribute's value, its bytes as text."""
    if isinstance(value, list):
        return [decoded(item) for item in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def copied(message: Copied) -> Copied:
    """A copy of a node, or of any other message."""
    copy: Copied = type(message)()
    copy.CopyFrom(message)
    return copy


def with_nodes(
    proto: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], initializers: Iterable[onnx.TensorProto] = ()
) -> onnx.ModelProto:
    """A copy of a model with other nodes in its main graph, and further initializers."""
    copy = copied(proto)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    copy.graph.initializer.extend(initializers)
    return copy


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Other nodes in a graph, in place; some may be its own, which are copied before they are let go."""
    copies = list(map(copied, nodes))
    del graph.node[:]
    graph.node.extend(copies)


def renamed(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> list[onnx.NodeProto]:
    """Copies of nodes with values under other names, in their subgraphs too."""
    found = []
    for node in nodes:
        copy = copied(node)
        copy.input[:] = [names.get(name, name) for name in node.input]
        copy.output[:] = [names.get(name, name) for name in node.output]
        for body in subgraphs(copy):
            rename_captures(body, names)
        found.append(copy)
    return found


def rename_captures(body: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """What a subgraph reads from outside under other names, in place."""
    seen = {name: new for name, new in names.items() if name not in local_names(body)}
    replace_nodes(body, renamed(body.node, seen))
    for value in body.output:
        value.name = seen.get(value.name, value.name)


def described(node: onnx.NodeProto) -> str:
    """A node as messages call it: its type and what it is called."""
    return f"{node.op_type} '{called(node)}'"


def called(node: onnx.NodeProto) -> str:
    """A node's name, or its first output."""
    return node.name or next(iter(node.output), "")
