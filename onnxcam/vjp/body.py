"""Bodies: pieces of graph that are differentiated by a sweep of their own.

A body is what an operator does, written as nodes: an equivalent in simpler operators (`lowering`), or the subgraph of a
control-flow node (`rules/control.py`). It becomes a small Graph, the sweep goes through it as through the main graph,
and of the body's own nodes only those remain that the backward pass reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx
from onnx import helper, numpy_helper

from onnxcam.errors import UnsupportedOpError
from onnxcam.graph import Graph, ValueType, copied, reads
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import ZERO, Cotangents, Node, RuleError, RuleFunction, RuleSet, rule
from onnxcam.vjp.sweep import reverse, unsupported

Outputs = Sequence[str | None]  # names of what was written for the outputs of a node
Lowering = Callable[[Emitter, Node], Outputs]
Found = Mapping[str, str | None]  # cotangents by value; None where there is none


def lowering(
    *op_types: str, versions: Sequence[int] = (), domain: str = "", only: Sequence[int] | None = None
) -> Callable[[Lowering], Lowering]:
    """Register what an operator does in simpler ones; its rule follows from theirs.

    The function writes nodes with an emitter and gives the names of the node's outputs (None, or fewer, for those that
    let no gradient pass). It reads what may have a gradient as `n.x(i)`, so that all is computed in the cotangents'
    type, quantized integers as real numbers; or integers as they are, `n.input[i]`, to dequantize them. The deployed
    node stays as it is, and where the backward pass reads its outputs they are not made again.
    """
    follow = rule(*op_types, versions=versions, domain=domain, only=only)

    def register(function: Lowering) -> Lowering:
        follow(lowered(function))
        return function

    return register


def lowered(function: Lowering) -> RuleFunction:
    """The rule that follows from a lowering."""

    def through_body(g: Emitter, n: Node, *cotangents: str | None) -> Cotangents:
        w = g.apart()
        made = [name or "" for name in function(w, n)]
        check_passing(made, cotangents)
        g.adopt(w)
        g.uncut |= {name for name, output in zip(made, n.output, strict=False) if output in g.uncut}
        read, types = read_inputs(g, n, w.nodes)
        body = body_graph(g, w.nodes, types)
        seeds = summed(g, zip(made, cotangents, strict=False))
        wrt = [name for i, name in read.items() if n.wants(i)]
        try:
            found = pull_back(g, body, kept_outputs(g, n, body, made), seeds, wrt, n.rules)
        except UnsupportedOpError as error:  # the node inside is ours: nobody knows its name
            raise unsupported(g.graph, n.proto, error.why) from error
        return by_input(n, read, found)

    through_body.__doc__ = function.__doc__
    return through_body


def check_passing(made: Sequence[str], cotangents: Sequence[str | None]) -> None:
    """RuleError where an output that was not written has a cotangent."""
    for i, ct in enumerate(cotangents):
        if ct is not None and not (i < len(made) and made[i]):
            raise RuleError(f"its output {i} is used, which lets no gradient pass")


def read_inputs(g: Emitter, n: Node, nodes: Iterable[onnx.NodeProto]) -> tuple[dict[int, str], dict[str, ValueType]]:
    """The names under which a body's nodes read the node's inputs, and the types of those that are no primal values.

    Floats are read in the cotangents' type, so that the body computes in it throughout. Integers that stand for real
    numbers are read as they are where the body itself dequantizes them; else they are cast to what they stand for.
    """
    inputs = [(i, name) for i, name in enumerate(n.input) if n.wants(i) or g.graph.is_float(name)]
    integers = {name for node in nodes for name in node.input if name in n.input and not g.graph.is_float(name)}
    read = {i: name if name in integers else n.x(i) for i, name in inputs}
    return read, {name: ValueType(n.elem_type, n.shape(i)) for i, name in read.items() if name not in integers}


def kept_outputs(g: Emitter, n: Node, body: Graph, made: Sequence[str]) -> dict[str, str]:
    """The body's values that the deployed node gives out, with their names there: they are not made again."""
    kept = {}
    for i, (name, output) in enumerate(zip(made, n.output, strict=False)):
        if name in body.producer and output:
            alike = body.type(name).elem_type == g.graph.type(output).elem_type
            kept[name] = output if alike else n.y(i)
    return kept


def summed(b: Emitter, pairs: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """Cotangents by value; a value that is given out twice gets the sum."""
    parts: dict[str, list[str]] = {}
    for name, ct in pairs:
        if ct is not None:
            parts.setdefault(name, []).append(ct)
    return {name: b.add(cts) for name, cts in parts.items()}


def by_input(n: Node, read: Mapping[int, str], found: Found) -> Cotangents:
    """Cotangents of values in the order of a node's inputs; a value that is read twice has it once."""
    left = dict(found)
    return [(left.pop(read[i], None) or ZERO) if n.wants(i) else None for i in range(len(n.input))]


def body_graph(
    g: Emitter,
    nodes: Iterable[onnx.NodeProto],
    types: Mapping[str, ValueType],
    initializers: Iterable[onnx.TensorProto] = (),
    quantized: Iterable[str] = (),
) -> Graph:
    """Nodes as a graph of their own. What they read from outside is an input, or a constant where its value is known.

    `types`: of those inputs that the primal graph does not know; these come first. `quantized`: which of them are the
    integers of a quantizer.
    """
    outer = g.graph
    proto = onnx.ModelProto(ir_version=outer.proto.ir_version, opset_import=outer.proto.opset_import)
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(initializers)
    made = {name for node in proto.graph.node for name in node.output} | {t.name for t in proto.graph.initializer}
    read = dict.fromkeys(name for node in proto.graph.node for name in reads(node) if name not in made)
    for name in dict.fromkeys([*types, *read]):
        tensor = outer.initializers.get(name)
        value = None if tensor is not None or name in types else g.constant(name)
        if tensor is not None:
            proto.graph.initializer.append(tensor)
        elif value is not None:
            proto.graph.initializer.append(numpy_helper.from_array(value, name))
        else:
            proto.graph.input.append(port(name, types.get(name) or outer.type(name)))
    return Graph(outer.model, proto, [*quantized, *(name for name in read if outer.is_real(name))])


def port(name: str, found: ValueType) -> onnx.ValueInfoProto:
    """The declaration of an input; without a type where it is not known, or no tensor."""
    if not found.elem_type:
        return onnx.ValueInfoProto(name=name)
    return helper.make_tensor_value_info(name, found.elem_type, found.shape)


def pull_back(
    g: Emitter, body: Graph, kept: Mapping[str, str], seeds: Mapping[str, str], wrt: Sequence[str], rules: RuleSet
) -> Found:
    """Write the cotangents of a body's values `wrt`, given those of others; None where these do not depend on it.

    The body's nodes are written in front, for what the sweep reads of them.

    Args:
        kept: values of the body that exist where `g` writes, with their names there.
    """
    for name, there in kept.items():
        g.nodes.append(helper.make_node("Identity", [there], [name], name=g.fresh("Identity")))
    for node in body.nodes:
        if any(name and name not in kept for name in node.output):
            copy = copied(node)
            copy.output[:] = [g.fresh("unread") if name in kept else name for name in node.output]
            g.nodes.append(copy)
    return reverse(g.reading(body), seeds, wrt, rules)
