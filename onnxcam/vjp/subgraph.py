"""Subgraphs of control-flow nodes: opened as graphs of their own, and written anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from onnxcam.graph import IMPURE, Graph, ValueType, all_nodes, lift_constants, renamed, sort_nodes, subgraphs
from onnxcam.vjp.body import body_graph, port
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import RuleError


@dataclass(frozen=True)
class Subgraph:
    """A subgraph as a graph of its own; its values bear names that nothing else has.

    Attributes:
        graph: its inputs are the subgraph's, then the values that it captures and that are no constants.
        inputs, outputs: names of the subgraph's own.
        initializers: the subgraph's own.
    """

    graph: Graph
    inputs: list[str]
    outputs: list[str]
    initializers: list[onnx.TensorProto]


def opened(g: Emitter, proto: onnx.GraphProto, types: Sequence[ValueType] = (), values: Sequence[str] = ()) -> Subgraph:
    """A subgraph of a node of `g.graph`; `types` are those of its inputs, `values` what goes into them."""
    drawn = next((node.op_type for node in all_nodes(proto) if node.op_type in IMPURE), "")
    if drawn:
        raise RuleError(f"{drawn} inside would draw other numbers when it is run again")
    body = onnx.GraphProto()
    body.CopyFrom(proto)
    lift_constants(body, g.graph.model.name)
    sort_nodes(body, g.graph.model.name, outside=g.graph.names)
    inputs = [value.name for value in body.input]
    local = [*inputs, *(tensor.name for tensor in body.initializer), *(o for node in body.node for o in node.output)]
    names = {name: g.fresh(name) for name in local if name}
    for tensor in body.initializer:
        tensor.name = names[tensor.name]
    named = {node.name for node in body.node}
    for node in body.node:  # messages name nodes by what the model calls them
        node.name = node.name or next((name for name in node.output if name and name not in named), "")
    nodes = renamed(body.node, names)
    forget_branch_shapes(nodes)
    inner = [names[name] for name in inputs]
    quantized = [name for name, value in zip(inner, values, strict=True) if g.graph.is_real(value)]
    graph = body_graph(g, nodes, dict(zip(inner, types, strict=True)), body.initializer, quantized)
    outputs = [names.get(value.name, value.name) for value in body.output]
    return Subgraph(graph, inner, outputs, list(body.initializer))


def forget_branch_shapes(nodes: Sequence[onnx.NodeProto]) -> None:
    """Leave the shapes that branches give out to inference, in place: ports of ours have none that would correct them.

    Exporters declare what is not so, and ONNX Runtime then allocates by it.
    """
    for node in nodes:
        for branch in subgraphs(node):
            forget_branch_shapes(branch.node)
            for value in branch.output if node.op_type == "If" else ():
                if value.type.HasField("tensor_type"):
                    value.type.tensor_type.ClearField("shape")


def closed(
    b: Emitter,
    outputs: Sequence[str],
    inputs: Mapping[str, ValueType] | None = None,
    types: Sequence[ValueType] | None = None,
) -> onnx.GraphProto:
    """What was written into a subgraph, for a new node. An output may come from outside, or be there twice: a copy.

    `types` are those of the outputs, where ONNX Runtime wants them declared.
    """
    inside = {name for node in b.nodes for name in node.output}
    made: list[str] = []
    for value in outputs:
        made.append(value if value in inside and value not in made else b.fresh("output"))
        if made[-1] != value:
            b.nodes.append(helper.make_node("Identity", [value], [made[-1]], name=b.fresh("Identity")))
    nodes, initializers = b.needed(made)
    ports = [port(name, found) for name, found in (inputs or {}).items()]
    results = [port(name, found) for name, found in zip(made, types or [ValueType(0, None)] * len(made), strict=True)]
    return helper.make_graph(nodes, b.fresh("body"), ports, results, initializers)
