"""Control flow. What a subgraph reads from outside is an input of its node, after those that the node names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import helper

from onnxcam.graph import Graph, ValueType
from onnxcam.vjp.body import Found, pull_back, summed
from onnxcam.vjp.emitter import Emitter, cotangent_type
from onnxcam.vjp.registry import ZERO, Cotangents, Node, rule
from onnxcam.vjp.subgraph import closed, opened

VERSIONS = (16, 19, 21, 23, 24, 25)


@rule("If", versions=VERSIONS)
def conditional(g: Emitter, n: Node, *cotangents: str | None) -> Cotangents:
    """y = a(v) where c, else b(v), v what the branches read from outside;  dv = that of a where c, else that of b."""
    wanted = [name for i, name in enumerate(n.input) if n.wants(i)]
    names = ("then_branch", "else_branch")
    branches = [through_branch(g, n, n.attr(name), cotangents, wanted) for name in names]
    moved = [name for name in wanted if any(found[name] for _, found in branches)]
    bodies = {
        name: closed(b, [found[value] or zeros(b, value) for value in moved])
        for name, (b, found) in zip(names, branches, strict=True)
    }
    given = dict(zip(moved, written(g, "If", n.input[:1], len(moved), **bodies), strict=True))
    return [given.get(name, ZERO) if n.wants(i) else None for i, name in enumerate(n.input)]


def through_branch(
    g: Emitter, n: Node, proto: onnx.GraphProto, cotangents: Sequence[str | None], wanted: Sequence[str]
) -> tuple[Emitter, Found]:
    """The cotangents of what one branch reads, written inside a branch to come."""
    sub = opened(g, proto)
    b = g.inside()
    b.initializers += sub.initializers
    outputs = [(inner, outer) for inner, outer in zip(sub.outputs, n.output, strict=True) if outer]
    kept = {inner: outer for inner, outer in outputs if inner in sub.graph.producer}
    return b, pull_back(b, sub.graph, kept, summed(b, zip(sub.outputs, cotangents, strict=True)), wanted, n.rules)


def zeros(b: Emitter, value: str) -> str:
    """The cotangent of a value that moves nothing."""
    return b.zeros_like(value, kind(b.graph, value).elem_type)


def kind(graph: Graph, value: str) -> ValueType:
    """The type of a value's cotangent, of whatever shape."""
    return ValueType(cotangent_type(graph.type(value).elem_type), None)


def written(g: Emitter, op_type: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
    """A node with subgraphs; its outputs. None is written where there is nothing to give out."""
    outputs = [g.fresh(op_type) for _ in range(count)]
    if outputs:
        g.nodes.append(helper.make_node(op_type, inputs, outputs, name=outputs[0], **attributes))
    return outputs
