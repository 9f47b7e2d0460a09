"""What a loop does step by step, and the way back through a step.

On the way back the cotangents of the states go from step to step; those of what every step reads from outside are
summed. What a body reads from outside is an input of its node, after those that the node names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import onnx

from onnxcam.graph import Graph, Shape, ValueType, is_placeholder, made_up, reads
from onnxcam.vjp.body import Found, pull_back, summed
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import ZERO, Cotangents, Node, RuleError, RuleSet
from onnxcam.vjp.rules.control import kind, zeros
from onnxcam.vjp.subgraph import Subgraph, opened
from onnxcam.vjp.sweep import path


@dataclass(frozen=True)
class Body:
    """The body of a loop, open: inputs `before`, states, slices of the scanned inputs; outputs likewise.

    Attributes:
        proto, types, values: the body as the node holds it, the types of its inputs, and what goes into them.
        sub: the body as a graph.
        before: how many inputs and outputs lie before the states.
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
        """The states after it."""
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
            read = self.upstream(needed)
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
            read = self.upstream(needed)
            found = [i for i, start in enumerate(self.starts) if start in read]
            if needed.issuperset(self.ends[i] for i in found):
                return found
            needed.update(self.ends[i] for i in found)

    def upstream(self, names: Iterable[str]) -> set[str]:
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


def common(before: Shape | None, after: Shape | None, name: str) -> tuple[Shape | None, bool]:
    """A shape for a state before and after a step, and whether it is known to change."""
    if before is None or after is None:
        return None, False
    if len(before) != len(after):
        return None, True
    alike = [
        was == now or (isinstance(was, str) and was.endswith(OPEN)) for was, now in zip(before, after, strict=True)
    ]
    grows = any(not same and now is not None and not made_up(now) for same, now in zip(alike, after, strict=True))
    shape = tuple(was if same else f"{name}.{i}{OPEN}" for i, (was, same) in enumerate(zip(before, alike, strict=True)))
    return shape, grows


OPEN = "?"  # ends the symbol of a size that may be another in every step


class Carry(NamedTuple):
    """A cotangent that goes from step to step on the way back: of a state, or summed for a value from outside.

    Attributes:
        of: a state before its step, or a value from outside.
        port, end: its names in the body, before and after a step.
        initial: its value before the loop.
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
    """The cotangent of a state that no step reads, before a step. What replaced a placeholder keeps its shape."""
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
