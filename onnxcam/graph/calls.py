"""What the model-local functions of a model come to when they are unfolded, told before they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

import onnx

from onnxcam.errors import ModelError, counted
from onnxcam.graph.nodes import all_nodes

MOST_NODES = 100_000
MOST_BYTES = 512 * 2**20
Key = tuple[str, str, str]  # domain, name, overload


def check_calls(proto: onnx.ModelProto, name: str) -> None:
    """ModelError when functions call themselves, or unfold to more than any model holds; inlining would not end."""
    bodies = {(f.domain, f.name, f.overload): f for f in proto.functions}
    called = {key: [called_by(n) for n in all_nodes(f)] for key, f in bodies.items()}
    sizes: dict[Key, Unfolded] = {}
    try:
        for key in TopologicalSorter(called).static_order():
            if key in bodies:
                sizes[key] = unfolded(all_nodes(bodies[key]), bodies, sizes)
    except CycleError as error:
        raise ModelError(f"a function inside {name} calls itself ({error.args[1][0][1]}): it never ends") from error
    total = unfolded((n for n in all_nodes(proto.graph) if called_by(n) in bodies), bodies, sizes)
    if total.size > MOST_BYTES or total.nodes > MOST_NODES:
        raise ModelError(
            f"the functions inside {name} unfold to {counted(total.nodes)} nodes of {counted(total.size >> 20)} MB: "
            "more than any real model has"
        )


@dataclass
class Unfolded:
    """What the nodes of a function come to, when all that they call is put in.

    Attributes:
        nodes: their number.
        size: in bytes, without attributes that are handed in.
        passed: how many times each of those attributes is put in.
    """

    nodes: int = 0
    size: int = 1
    passed: Counter[str] = field(default_factory=Counter)


def called_by(node: onnx.NodeProto) -> Key:
    """The function that a node calls, if there is one."""
    return node.domain, node.op_type, node.overload


def unfolded(
    nodes: Iterable[onnx.NodeProto],
    bodies: Mapping[Key, onnx.FunctionProto],
    sizes: Mapping[Key, Unfolded],
) -> Unfolded:
    """What some nodes come to, the functions that they call being known."""
    found = Unfolded()
    for node in nodes:
        inner = sizes.get(called_by(node))
        found.nodes += inner.nodes if inner else 1
        found.size += node.ByteSize() + (inner.size if inner else 0)
        defaults = bodies[called_by(node)].attribute_proto if inner else []
        given = {attribute.name: attribute for attribute in (*defaults, *node.attribute)}
        for attribute in given.values():
            times = inner.passed[attribute.name] if inner else 1
            if attribute.ref_attr_name:
                found.passed[attribute.ref_attr_name] += times
            elif inner:
                found.size += max(times, 1) * attribute.ByteSize()
    return found


def write_defaults(proto: onnx.ModelProto) -> None:
    """In place: every call is given the defaults of its function, which onnx's inliner does not read."""
    defaults = {(f.domain, f.name, f.overload): f.attribute_proto for f in proto.functions if f.attribute_proto}
    for node in (node for graph in (proto.graph, *proto.functions) for node in all_nodes(graph)):
        given = {attribute.name for attribute in node.attribute}
        node.attribute.extend(a for a in defaults.get(called_by(node), []) if a.name not in given)
