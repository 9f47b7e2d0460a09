"""Scan: as Loop, over what is taken apart along an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import onnx
from onnx import helper

from onnxcam.graph import ValueType
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, rule
from onnxcam.vjp.rules.control import VERSIONS, kind
from onnxcam.vjp.rules.steps import Body, answers, loose, outside, ranked, read_of, settled, way_back
from onnxcam.vjp.subgraph import closed


class Along(NamedTuple):
    """A value that a Scan takes apart, or puts together, along an axis; in direction 0 from its start, in 1 its end."""

    value: str
    axis: int
    direction: int

    def backwards(self) -> Along:
        """The same from the other end."""
        return self._replace(direction=1 - self.direction)


def along(n: Node, which: str, values: Sequence[str | None]) -> list[Along]:
    """The node's scanned inputs or outputs with their axes and directions."""
    axes, ways = (n.attr(f"scan_{which}_{what}") or [0] * len(values) for what in ("axes", "directions"))
    return [Along(value or "", *how) for value, *how in zip(values, axes, ways, strict=True)]


def slice_type(found: ValueType, axis: int) -> ValueType:
    """What remains of a type without an axis."""
    if found.shape is None:
        return found
    at = axis % len(found.shape)
    return ValueType(found.elem_type, (*found.shape[:at], *found.shape[at + 1 :]))


@rule("Scan", versions=VERSIONS)
def scan(g: Emitter, n: Node, *cotangents: str | None) -> Cotangents:
    """s, y_t = f(s, x_t, v);  backwards ds = (df/ds)^T ds + (dy_t/ds)^T ct_t, dx_t likewise, dv the sum of the same."""
    count = len(n.proto.input) - n.attr("num_scan_inputs")
    inputs = along(n, "input", n.proto.input[count:])
    given = [item.backwards() for item in along(n, "output", cotangents[count:])]
    types = [g.graph.type(name) for name in n.input[:count]]
    types += [slice_type(g.graph.type(item.value), item.axis) for item in inputs]
    body = settled(g, n, types, (0, 0), count)
    b = g.inside()
    scanned = dict(zip(body.slices, (item.backwards() for item in inputs), strict=True))
    scanned |= {start: Along(g.fresh("kept"), 0, 1) for start in body.starts}
    scans = {name: b.fresh("ct") for name, item in zip(body.scans, given, strict=True) if item.value}
    scanned |= {scans[name]: item for name, item in zip(body.scans, given, strict=True) if item.value}
    wanted = [name for i, name in enumerate([*body.starts, *body.slices]) if n.wants(i)] + outside(n)
    carries, found = way_back(g, b, n, body, cotangents[:count], scans, wanted)
    parts = {name: scanned[name] for name in body.slices if found.get(name)}
    ends = [*(carry.end for carry in carries), *(str(found[name]) for name in parts)]
    read = read_of(b, ends)
    taken = {port: item for port, item in scanned.items() if port in read or port == body.slices[0]}
    graph = body.sub.graph
    types_of = {name: loose(graph, name) for name in [*body.slices, *body.starts]}
    types_of |= {port: kind(graph, name) for name, port in scans.items()}
    ports = {carry.port: kind(graph, carry.of) for carry in carries} | {port: types_of[port] for port in taken}
    scan_again(g, n, body, {i: scanned[start].value for i, start in enumerate(body.starts) if start in taken}, inputs)
    initial = [carry.initial for carry in carries]
    results_of = [ranked(graph, name, kind) for name in [*(carry.of for carry in carries), *parts]]
    results = scan_node(g, closed(b, ends, ports, results_of), initial, list(taken.values()), list(parts.values()))
    return answers(n, body, 0, dict(zip([*(carry.of for carry in carries), *parts], results, strict=True)))


def scan_again(g: Emitter, n: Node, body: Body, kept: Mapping[int, str], inputs: Sequence[Along]) -> None:
    """Run the Scan again for states to keep, under their names to be."""
    if not kept:
        return
    again, k = body.again(g)
    stacked = [again.starts[i] for i in kept]
    states = again.feeding(stacked)
    ends = [*(again.ends[i] for i in states), *stacked]
    names = [*(again.starts[i] for i in states), *again.slices]
    graph = again.sub.graph
    types = [ranked(graph, name, loose) for name in [*(again.starts[i] for i in states), *stacked]]
    proto = closed(k, ends, {name: loose(graph, name) for name in names}, types)
    outputs = [*(g.fresh("last") for _ in states), *kept.values()]
    scan_node(g, proto, [n.input[i] for i in states], inputs, [Along(name, 0, 0) for name in kept.values()], outputs)


def scan_node(
    g: Emitter,
    body: onnx.GraphProto,
    states: Sequence[str],
    scanned: Sequence[Along],
    results: Sequence[Along],
    outputs: Sequence[str] | None = None,
) -> list[str]:
    """Write a Scan; its outputs, under given names or new ones."""
    outputs = list(outputs or [g.fresh("Scan") for _ in body.output])
    node = helper.make_node(
        "Scan", [*states, *(item.value for item in scanned)], outputs, name=g.fresh("Scan"), body=body,
        num_scan_inputs=len(scanned), scan_input_axes=[item.axis for item in scanned],
        scan_input_directions=[item.direction for item in scanned],
    )  # fmt: skip
    if results:
        node.attribute.append(helper.make_attribute("scan_output_axes", [item.axis for item in results]))
        node.attribute.append(helper.make_attribute("scan_output_directions", [item.direction for item in results]))
    g.nodes.append(node)
    return outputs
