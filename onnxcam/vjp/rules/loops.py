"""Loop: run again with the states kept that the way back reads, and then backwards."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

from onnxcam.graph import Graph, ValueType
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, rule
from onnxcam.vjp.rules.control import VERSIONS, kind, written
from onnxcam.vjp.rules.steps import Body, answers, check_kept, loose, outside, read_of, settled, way_back
from onnxcam.vjp.subgraph import closed

COUNTER, CONDITION = ValueType(TensorProto.INT64, ()), ValueType(TensorProto.BOOL, ())


def as_declared(found: ValueType, port: onnx.ValueInfoProto) -> ValueType:
    """A body may take its counter and its condition as vectors of one element; ONNX Runtime heeds that."""
    return ValueType(found.elem_type, (1,) * len(port.type.tensor_type.shape.dim))


@rule("Loop", versions=VERSIONS)
def loop(g: Emitter, n: Node, *cotangents: str | None) -> Cotangents:
    """s, y_t = f(t, s, v) while it goes on;  backwards ds = (df/ds)^T ds + (dy_t/ds)^T ct_t, dv the sum of the same."""
    states = len(n.proto.input) - 2
    types = [as_declared(*pair) for pair in zip((COUNTER, CONDITION), n.attr("body").input, strict=False)]
    types += [g.graph.type(name) for name in n.input[2 : 2 + states]]
    body = settled(g, n, types, (2, 1), states)
    b = g.inside()
    i, goes_on, t, last = (g.fresh(hint) for hint in ("step", "goes_on", "t", "last"))
    kept = {start: g.fresh("kept") for start in body.starts}
    b.nodes.append(helper.make_node("Sub", [last, i], [t], name=b.fresh("Sub")))
    for value, name, found in zip((t, b.const(True)), body.sub.inputs, types, strict=False):
        shape = b.ints(*[1] * len(found.shape or ()))
        b.nodes.append(helper.make_node("Reshape", [value, shape], [name], name=b.fresh("Reshape")))
    for start, values in kept.items():
        b.nodes.append(helper.make_node("Gather", [values, t], [start], name=b.fresh("Gather"), axis=0))
    scans = {s: b.op("Gather", ct, t, axis=0) for s, ct in zip(body.scans, cotangents[states:], strict=True) if ct}
    wanted = [start for j, start in enumerate(body.starts) if n.wants(2 + j)] + outside(n)
    carries, _ = way_back(g, b, n, body, cotangents[:states], scans, wanted)
    ends = [b.const(True), *(carry.end for carry in carries)]
    read = read_of(b, ends)
    ports = {i: COUNTER, goes_on: CONDITION} | {carry.port: kind(body.sub.graph, carry.of) for carry in carries}
    backwards = closed(b, ends, ports)
    trips = loop_again(g, n, body, {j: kept[start] for j, start in enumerate(body.starts) if kept[start] in read})
    g.nodes.append(helper.make_node("Sub", [trips, g.const(1, "int64")], [last], name=g.fresh("Sub")))
    results = written(g, "Loop", [trips, "", *(carry.initial for carry in carries)], len(carries), body=backwards)
    return answers(n, body, 2, {carry.of: ct for carry, ct in zip(carries, results, strict=True)})


def loop_again(g: Emitter, n: Node, body: Body, kept: Mapping[int, str]) -> str:
    """Run the loop again where it has to tell more: states to keep, under their names to be. How many steps it made.

    A scanned output tells that, but not one for which the file promises a number: that need not be true.
    """
    check_kept(body, kept)
    told = next((name for name in n.output[body.count :] if name and not is_promised(g.graph, name)), "")
    if kept or not told:
        again, k = body.again(g)
        step, goes_on, *_ = again.sub.inputs
        stacked = [*(again.starts[j] for j in kept), *([] if told else [step])]
        states = again.feeding([again.sub.outputs[0], *stacked])
        ports = {step: body.types[0], goes_on: body.types[1]} | {
            again.starts[j]: loose(again.sub.graph, again.starts[j]) for j in states
        }
        ends = [again.sub.outputs[0], *(again.ends[j] for j in states), *stacked]
        outputs = [g.fresh("last") for _ in states] + [*kept.values()] + ([] if told else [told := g.fresh("steps")])
        inputs = [*n.proto.input[:2], *(n.input[2 + j] for j in states)]
        g.nodes.append(helper.make_node("Loop", inputs, outputs, name=g.fresh("Loop"), body=closed(k, ends, ports)))
    return g.op("Squeeze", g.dims(told, (0, 1)), g.ints(0))


def is_promised(graph: Graph, name: str) -> bool:
    """Whether the file says how many steps a scanned output holds; ONNX Runtime believes it where Shape is read."""
    shapes = (value.type.tensor_type.shape for value in graph.model.proto.graph.output if value.name == name)
    return any(shape.dim and shape.dim[0].HasField("dim_value") for shape in shapes)
