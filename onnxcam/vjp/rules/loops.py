"""Loops: run again with the states kept that the way back reads, and then backwards.

On the way back the cotangents of the states go from step to step; those of what every step reads from outside are
summed. What a body reads from outside is an input of its node, behind those that the node names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import onnx
from onnx import TensorProto, helper

from onnxcam.graph import Graph, Shape, ValueType, is_placeholder, made_up, reads
from onnxcam.vjp.body import pull_back
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import ZERO, Cotangents, Node, RuleError, RuleSet, rule
from onnxcam.vjp.rules.control import VERSIONS, kind, summed, written, zeros
from onnxcam.vjp.subgraph import Subgraph, closed, opened
from onnxcam.vjp.sweep import path

Found = Mapping[str, str | None]


@dataclass(frozen=True)
class Body:
    """The body of a loop, open: inputs `before`, states, slices of the scanned inputs; outputs likewise.

    Attributes:
        proto, types, values: the body as the node holds it, the types of its inputs, and what goes into them.
        sub: the body as a graph.
        before: how many inputs and outputs lie in front of the states.
        count: the number of states.
        growing: the states whose shape changes from step to step.
        placeholders: the states that start with another rank, which no step reads.
    """

    proto: onnx.GraphProto
    types: Sequence[ValueType]
    values: Sequence[str]
    sub: Subgraph
    before: tuple[int, int]
    count: int
    growing: frozenset[int]
    placeholders: frozenset[int]

    @property
    def starts(self) -> list[str]:
        """The states before a step."""
        return self.sub.inputs[self.before[0] :][: self.count]

    @property
    def ends(self) -> list[str]:
        """The states behind it."""
        return self.sub.outputs[self.before[1] :][: self.count]

    @property
    def slices(self) -> list[str]:
        """What a step takes of the scanned inputs."""
        return self.sub.inputs[self.before[0] + self.count :]

    @property
    def scans(self) -> list[str]:
        """What it gives to the scanned outputs."""
        return self.sub.outputs[self.before[1] + self.count :]

    def carried(self, wanted: Iterable[str], seeded: Iterable[str], rules: RuleSet) -> list[int]:
        """The states that depend on `wanted` in some step, and that `seeded` depends on in a later one."""
        moving, needed = set(wanted), set(seeded)
        while True:
            _, active = path(self.sub.graph, self.sub.outputs, moving, rules)
            read = self.behind(needed)
            moved = {start for start, end in zip(self.starts, self.ends, strict=True) if end in active}
            asked = {end for start, end in zip(self.starts, self.ends, strict=True) if start in read}
            if moved <= moving and asked <= needed:
                return [i for i, start in enumerate(self.starts) if start in moving and self.ends[i] in needed]
            moving |= moved
            needed |= asked

    def feeding(self, names: Iterable[str]) -> list[int]:
        """The states that some values depend on, in whatever step."""
        needed = set(names)
        while True:
            read = self.behind(needed)
            found = [i for i, start in enumerate(self.starts) if start in read]
            if needed.issuperset(self.ends[i] for i in found):
                return found
            needed.update(self.ends[i] for i in found)

    def behind(self, names: Iterable[str]) -> set[str]:
        """Some values, and everything that they depend on within a step."""
        nodes = [self.sub.graph.nodes[i] for i in self.sub.graph.ancestors(names)]
        return set(names).union(*(reads(node) for node in nodes))

    def again(self, g: Emitter) -> tuple[Body, Emitter]:
        """The same under other names, and written inside a loop to come."""
        body = replace(self, sub=opened(g, self.proto, self.types, self.values))
        k = g.inside()
        k.nodes += body.sub.graph.nodes
        k.initializers += body.sub.initializers
        return body, k


def settled(g: Emitter, n: Node, types: Sequence[ValueType], before: tuple[int, int], count: int) -> Body:
    """The body with the shapes that its states have in every step."""
    if any(not found.elem_type for found in types):
        raise RuleError("it carries a sequence or an optional value from step to step")
    proto, types, growing, placeholders = n.attr("body"), list(types), set[int](), set[int]()
    free = {i for i in unread(proto, before[0], count) if not n.wants(before[0] + i)}
    values = ["", "", *n.proto.input[2:]] if before[0] else list(n.proto.input)
    while True:
        held = frozenset(growing), frozenset(placeholders)
        body = Body(proto, types, values, opened(g, proto, types, values), before, count, *held)
        shapes = [body.sub.graph.shape(end) for end in body.ends]
        for i in free - placeholders:
            if is_placeholder(types[before[0] + i].shape, shapes[i]):
                types[before[0] + i] = ValueType(types[before[0] + i].elem_type, shapes[i])
                placeholders.add(i)
        wider = [common(types[before[0] + i].shape, shape, body.starts[i]) for i, shape in enumerate(shapes)]
        changed = [i for i, (shape, _) in enumerate(wider) if shape != types[before[0] + i].shape]
        if not changed and body.placeholders == placeholders:
            return body
        for i in changed:
            types[before[0] + i] = ValueType(types[before[0] + i].elem_type, wider[i][0])
            growing |= {i} if wider[i][1] else set()


def unread(proto: onnx.GraphProto, first: int, count: int) -> set[int]:
    """The states that no step reads."""
    read = {name for node in proto.node for name in reads(node)} | {port.name for port in proto.output}
    return {i for i, port in enumerate(proto.input[first : first + count]) if port.name not in read}


def common(before: Shape | None, behind: Shape | None, name: str) -> tuple[Shape | None, bool]:
    """A shape for a state before and behind a step, and whether it is known to change."""
    if before is None or behind is None:
        return None, False
    if len(before) != len(behind):
        return None, True
    alike = [
        was == now or (isinstance(was, str) and was.endswith(OPEN)) for was, now in zip(before, behind, strict=True)
    ]
    grows = any(not same and now is not None and not made_up(now) for same, now in zip(alike, behind, strict=True))
    shape = tuple(was if same else f"{name}.{i}{OPEN}" for i, (was, same) in enumerate(zip(before, alike, strict=True)))
    return shape, grows


OPEN = "?"  # ends the symbol of a size that may be another in every step


class Carry(NamedTuple):
    """A cotangent that goes from step to step on the way back: of a state, or summed for a value from outside.

    Attributes:
        of: a state before its step, or a value from outside.
        port, end: its names in the body, before and behind a step.
        initial: its value in front of the loop.
    """

    of: str
    port: str
    end: str
    initial: str


def way_back(
    g: Emitter, b: Emitter, n: Node, body: Body, finals: Sequence[str | None], scans: Found, wanted: Sequence[str]
) -> tuple[list[Carry], Found]:
    """Write one step backwards into `b`; the cotangents that it carries, and those of `wanted` that it gives out.

    Args:
        finals: cotangents of the last states; scans: those of what the step gave to the scanned outputs.
    """
    graph = body.sub.graph
    seeded = [end for end, ct in zip(body.ends, finals, strict=True) if ct] + list(scans)
    carried = body.carried(wanted, seeded, n.rules)
    ports = {i: b.fresh("state") for i in carried}
    seeds = summed(b, [*((body.ends[i], ports[i]) for i in carried), *scans.items()])
    wrt = list(dict.fromkeys([*(body.starts[i] for i in carried), *(w for w in wanted if w not in body.starts)]))
    b.initializers += body.sub.initializers
    found = pull_back(b, graph, {}, seeds, wrt, n.rules)
    first = body.before[0]
    carries = []
    for i in carried:
        start = body.starts[i]
        end = found[start] or nothing(b, body, i, ports[i])
        initial = finals[i] or g.zeros_like(n.output[i] or n.input[first + i], kind(graph, start).elem_type)
        carries.append(Carry(start, ports[i], end, initial))
    for name in wrt:
        ct = found[name]
        if ct and name not in body.sub.inputs:
            port = b.fresh("total")
            carries.append(Carry(name, port, b.add([port, ct]), zeros(g, name)))
    return carries, found


def nothing(b: Emitter, body: Body, i: int, port: str) -> str:
    """The cotangent of a state that no step reads, in front of a step. What replaced a placeholder keeps its shape."""
    start = body.starts[i]
    if i in body.placeholders and i not in body.growing:
        return b.zeros_like(port, kind(body.sub.graph, start).elem_type)
    return zeros(b.reading(body.sub.graph), start)


def outside(n: Node) -> list[str]:
    """What a body reads from outside, of what cotangents are asked for."""
    own = len(n.proto.input)
    return [name for i, name in enumerate(n.input) if i >= own and n.wants(i)]


def answers(n: Node, body: Body, first: int, given: Mapping[str, str]) -> Cotangents:
    """Cotangents by input of the node: `first` that have none, the states, the scanned, those from outside."""
    names = [*[""] * first, *body.starts, *body.slices, *n.input[len(n.proto.input) :]]
    return [given.get(name, ZERO) if n.wants(i) else None for i, name in enumerate(names)]


def loose(graph: Graph, name: str) -> ValueType:
    """The type of a value, of whatever shape."""
    return ValueType(graph.type(name).elem_type, None)


def ranked(graph: Graph, name: str, of: Callable[[Graph, str], ValueType]) -> ValueType:
    """The same with the rank, which ONNX Runtime wants of all that a Scan's body gives out; RuleError without one."""
    rank = graph.rank(name)
    if rank is None:
        raise RuleError("it reads a value whose rank is not known before the model runs")
    return ValueType(of(graph, name).elem_type, (None,) * rank)


def read_of(b: Emitter, names: Sequence[str]) -> set[str]:
    """Everything that some values read of what was written, and these."""
    return set(names).union(*(reads(node) for node in b.needed(names)[0]))


def check_kept(body: Body, kept: Iterable[int]) -> None:
    """RuleError where a state is to be kept whose shape changes: its values do not stack."""
    for i in kept:
        if i in body.growing:
            name = body.proto.input[body.before[0] + i].name
            raise RuleError(f"its state '{name}' changes its shape from step to step")


# -- Loop -----------------------------------------------------------------------------------------


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


# -- Scan -----------------------------------------------------------------------------------------


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
