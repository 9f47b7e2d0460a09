"""Adjoints of recurrent networks in their usual form: gates of sigmoid and tanh, all sequences of one length.

The states before all steps are the deployed node's own outputs, so what a step's adjoint multiplies with is worked
out for all steps at once. What is left to a Scan is short: the products that lead from one step to the one before. Both
directions go together: a value of all steps is (T, D, N, *), in the order in which each direction makes its steps; a
state (D, N, H).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from onnxcam.graph import ValueType
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError
from onnxcam.vjp.rules.scan import Along, scan_node
from onnxcam.vjp.subgraph import closed

Names = Sequence[str]
Size = int | tuple[int, int]  # a number, or (axis, times) of the input
INPUT: Size = (2, 1)
Step = Callable[[Emitter, Names, Names], tuple[Names, str]]  # states, slices -> the next states, what is given out


@dataclass(frozen=True)
class Course:
    """A node's way through its steps.

    Attributes:
        x: the input.
        after: the states after all steps.
        ct: their cotangents; None where there are none.
        finals: cotangents of the last states; None likewise.
    """

    g: Emitter
    n: Node
    x: str
    after: str
    ct: str | None
    finals: Sequence[str | None]

    @property
    def width(self) -> int:
        """H; RuleError where it is not said."""
        size = self.n.attr("hidden_size")
        if not size:
            raise RuleError("it does not say its hidden_size")
        return int(size)

    @cached_property
    def before(self) -> str:
        """The states before all steps."""
        return self.earlier(self.after, 5)

    def gates(self, value: str, *counts: int, axis: int = -1) -> tuple[str, ...]:
        """So many gates each."""
        sizes = self.g.ints(*(count * self.width for count in counts))
        return self.g.op("Split", value, sizes, axis=axis, outputs=len(counts))

    def biases(self, count: int) -> tuple[str, str]:
        """Of the input's and of the state's product, (1, D, 1, gates); "" where there are none."""
        if not self.n.has(3):
            return "", ""
        both = self.g.op("Unsqueeze", self.n.x(3), self.g.ints(0, 2))
        first, second = self.gates(both, count, count)
        return first, second

    def together(self, value: str, size: Size | str) -> str:
        """(T, D, N, size) as (D, T N, size)."""
        return self.g.op("Reshape", turned(self.g, value), self.g.dims(self.n.input[0], 0, -1, size))

    def product(self, columns: str, weights: str) -> str:
        """Values of all steps, `together`, times W: one product a direction, in steps again."""
        y = self.g.op("MatMul", columns, weights)
        each = self.g.dims(self.n.input[0], directions(self.n), (0, 1), (1, 1), -1)
        return turned(self.g, self.g.op("Reshape", y, each))

    def affine(self, weights: str, bias: str, *fed: tuple[str, Size]) -> str:
        """[x, h..] W^T + b of what is fed in, each with its size."""
        size = self.g.add([self.g.dims(self.n.input[0], size) for _, size in fed])
        columns = self.together(joined(self.g, [value for value, _ in fed]), size)
        y = self.product(columns, self.g.op("Transpose", weights, perm=[0, 2, 1]))
        return self.g.op("Add", y, bias) if bias else y

    def to_input(self, ct: str) -> str:
        """To the input: ct W, summed over directions by one product of all their gates."""
        by_time = self.g.op("Transpose", in_order(self.g, self.n, ct), perm=[0, 2, 1, 3])
        weights = self.g.op("Reshape", self.n.x(1), self.g.dims(self.n.input[0], -1, INPUT))
        return self.g.op("MatMul", self.g.op("Reshape", by_time, self.g.ints(0, 0, -1)), weights)

    def outer(self, ct: str, gates: int, factor: str, size: Size) -> str:
        """sum over steps and rows of ct^T factor: (D, gates, size)."""
        columns = self.g.op("Transpose", self.together(ct, gates * self.width), perm=[0, 2, 1])
        return self.g.op("MatMul", columns, self.together(factor, size))

    def earlier(self, states: str, initial: int) -> str:
        """Of the states after all steps those before them; `initial`: the input that holds the first."""
        if self.start(initial) == self.zeros:
            return self.g.op("Pad", states, self.g.ints(1, 0, 0, 0, -1, 0, 0, 0), self.n.array(0))
        first = self.g.op("Unsqueeze", self.n.x(initial), self.g.ints(0))
        rest = self.g.op("Slice", states, self.g.ints(0), self.g.ints(-1), self.g.ints(0))
        return self.g.op("Concat", first, rest, axis=0)

    def start(self, initial: int) -> str:
        """The state before the first step: an input, or zeros."""
        known = self.n.const(initial)
        return self.n.x(initial) if self.n.has(initial) and (known is None or known.any()) else self.zeros

    @cached_property
    def zeros(self) -> str:
        """A state of zeros."""
        shape = self.g.dims(self.n.input[0], directions(self.n), (1, 1), self.width)
        return self.g.op("Expand", self.n.array(0), shape)

    def scan(self, step: Step, initial: Names, series: Names, *, back: bool = False) -> tuple[str, Names]:
        """What the steps give out, and the last states; `back`: from the last step to the first."""
        b = self.g.inside()
        states, slices = (
            [self.g.fresh(hint) for _ in names] for hint, names in (("state", initial), ("slice", series))
        )
        moved, given = step(b, states, slices)
        one = ValueType(self.n.elem_type, (None, None, None))  # ONNX Runtime may not know the rank of the input
        types = dict.fromkeys([*states, *slices], one)
        body = closed(b, [*moved, given], types, [one] * (len(moved) + 1))
        *last, found = scan_node(
            self.g, body, initial, [Along(s, 0, int(back)) for s in series], [Along("", 0, int(back))]
        )
        return found, last

    def scan_back(self, step: Step, series: Names) -> tuple[str, Names]:
        """The same back, from the cotangents of the last states; to the first one every step's own is added."""

        def arriving(b: Emitter, states: Names, slices: Names) -> tuple[Names, str]:
            if self.ct is None:
                return step(b, states, slices)
            return step(b, [b.op("Add", states[0], slices[0]), *states[1:]], slices[1:])

        given = [] if self.ct is None else [self.ct]
        return self.scan(arriving, [ct or self.zeros for ct in self.finals], [*given, *series], back=True)


@dataclass(frozen=True)
class Passed:
    """What is passed back.

    Attributes:
        inputs: to what the gates get from the input.
        products: to their products with a state, of how many gates, and what is multiplied there.
        initial: to the states before the first step.
    """

    inputs: str
    products: Sequence[tuple[str, int, str]]
    initial: Names


def directions(n: Node) -> int:
    """How many there are."""
    return 2 if n.attr("direction", "forward") == "bidirectional" else 1


def is_usual(n: Node, activations: Names) -> bool:
    """Whether a node is what this module is for: default activations, no limit, no lengths, no peepholes."""
    usual = [name.lower() for name in activations] * directions(n)
    named = [name.lower() for name in n.attr("activations", usual)]
    special = any(n.attr(name, 0) for name in ("layout", "clip", "input_forget"))
    return named == usual and not special and not n.has(4) and not n.has(7)


def adjoint(g: Emitter, n: Node, cts: Sequence[str | None], back: Callable[[Course], Passed]) -> Cotangents:
    """Cotangents of the node's inputs, of what `back` finds."""
    each = g.op("Unsqueeze", n.x(0), g.ints(1))
    x = in_order(g, n, g.op("Expand", each, g.ints(1, 2, 1, 1)) if directions(n) == 2 else each)
    y = in_order(g, n, n.own_y() if n.output[0] else again(g, n))
    ct = cts[0] and in_order(g, n, cts[0])
    finals = [*cts[1:], None, None][: 2 if n.proto.op_type == "LSTM" else 1]
    course = Course(g, n, x, y, ct, finals)
    passed = back(course)
    parts = [part for part, _, _ in passed.products]
    gates = sum(count for _, count, _ in passed.products)
    found = [
        course.to_input(passed.inputs),
        course.outer(passed.inputs, gates, x, INPUT),
        joined(g, [course.outer(part, count, fed, course.width) for part, count, fed in passed.products], 1),
        joined(g, [g.reduce("ReduceSum", part, [0, 2], keepdims=0) for part in (passed.inputs, *parts)]),
        None,
        *passed.initial,
    ]
    return [ct if n.wants(i) else None for i, ct in enumerate(found)]


def again(g: Emitter, n: Node) -> str:
    """The states after all steps, where nobody wants them of the node itself."""
    y = g.op(n.proto.op_type, *n.input, **n.attrs)
    return y if g.graph.type(n.input[0]).elem_type == n.elem_type else g.cast(y, n.elem_type)


def turned(g: Emitter, value: str) -> str:
    """(T, D, N, *) as (D, T, N, *), or back."""
    return g.op("Transpose", value, perm=[1, 0, 2, 3])


def in_order(g: Emitter, n: Node, value: str) -> str:
    """A value of all steps in the order in which each direction makes them, from that of time; or back."""
    direction = n.attr("direction", "forward")
    if direction == "forward":
        return value
    steps = g.dims(n.input[0], *[1] * (direction == "bidirectional"), (0, 1))
    return g.op("ReverseSequence", value, steps, batch_axis=1, time_axis=0)


def joined(g: Emitter, values: Names, axis: int = -1) -> str:
    """Values one after the other."""
    return values[0] if len(values) == 1 else g.op("Concat", *values, axis=axis)


def falling(g: Emitter, n: Node, squashed: str, by: str) -> str:
    """by * (1 - tanh^2), from the tanh."""
    return g.op("Mul", by, g.op("Sub", n.array(1), g.op("Mul", squashed, squashed)))


def closing(g: Emitter, n: Node, gate: str, by: str) -> str:
    """by * gate * (1 - gate), of a sigmoid."""
    return g.op("Mul", by, g.op("Mul", gate, g.op("Sub", n.array(1), gate)))


# -- what each of them does -------------------------------------------------------------------------


def rnn_back(c: Course) -> Passed:
    """H = tanh(p);  dp = (1 - H^2) dH, dH' = dp R."""
    r = c.n.x(2)

    def step(b: Emitter, states: Names, slices: Names) -> tuple[Names, str]:
        dp = b.op("Mul", states[0], slices[0])
        return [b.op("MatMul", dp, r)], dp

    dp, initial = c.scan_back(step, [falling(c.g, c.n, c.after, c.n.array(1))])
    return Passed(dp, [(dp, 1, c.before)], initial)


def lstm_back(c: Course) -> Passed:
    """C = f C' + i c, H = o tanh(C);  dC = dC_next f_next + o (1 - tanh^2 C) dH, and each gate's from dC or dH."""
    g, n, r = c.g, c.n, c.n.x(2)
    bias, own = c.biases(4)
    weights = g.op("Concat", n.x(1), r, axis=2)
    fed = (c.x, INPUT), (c.before, c.width)
    closed_gates, new = c.gates(c.affine(weights, bias and g.op("Add", bias, own), *fed), 3, 1)
    squashed, new = g.op("Sigmoid", closed_gates), g.op("Tanh", new)
    i, o, f = c.gates(squashed, 1, 1, 1)
    entered = g.op("Mul", i, new)

    def cell(b: Emitter, states: Names, slices: Names) -> tuple[Names, str]:
        kept = b.op("Mul", slices[0], states[0])
        return [b.op("Add", kept, slices[1])], kept

    kept, _ = c.scan(cell, [c.start(6)], [f, entered])
    shown = g.op("Tanh", g.op("Add", kept, entered))
    slopes = g.op("Sub", n.array(1), joined(g, [squashed, g.op("Mul", new, new)]))  # of each sigmoid and tanh
    each = g.op("Mul", joined(g, [entered, c.after, kept, i]), slopes)

    def step(b: Emitter, states: Names, slices: Names) -> tuple[Names, str]:
        (dh, later), (opened, each, kept) = states, slices
        dc = b.op("Add", b.op("Mul", dh, opened), later)
        dp = b.op("Mul", b.op("Concat", dc, dh, dc, dc, axis=-1), each)
        return [b.op("MatMul", dp, r), b.op("Mul", dc, kept)], dp

    opened = g.op("Sub", o, g.op("Mul", c.after, shown))
    dp, initial = c.scan_back(step, [opened, each, f])
    return Passed(dp, [(dp, 4, c.before)], initial)


def gru_back(c: Course) -> Passed:
    """H = (1 - z) n + z H', n = tanh(x + q);  dn = (1 - z)(1 - n^2) dH, dz = (H' - n) z (1 - z) dH.

    With linear_before_reset q is r times a product with H', else the product with r H', and the way back to r leads
    over it.
    """
    g, n, before = c.g, c.n, c.before
    bias, own = c.biases(3)
    linear = bool(n.attr("linear_before_reset", 0))
    x_gates, x_new = c.gates(c.affine(n.x(1), bias, (c.x, INPUT)), 2, 1)
    r_gates, r_new = c.gates(n.x(2), 2, 1, axis=1)
    b_gates, b_new = c.gates(own, 2, 1) if own else ("", "")
    if linear:  # one product for all gates
        h_gates, product = c.gates(c.affine(n.x(2), own, (before, c.width)), 2, 1)
    else:
        h_gates, product = c.affine(r_gates, b_gates, (before, c.width)), ""
    z, r = c.gates(g.op("Sigmoid", g.op("Add", x_gates, h_gates)), 1, 1)
    fed = before if linear else g.op("Mul", r, before)
    product = product or c.affine(r_new, b_new, (fed, c.width))
    new = g.op("Tanh", g.op("Add", x_new, g.op("Mul", r, product) if linear else product))
    to_z = closing(g, n, z, g.op("Sub", before, new))
    to_n = falling(g, n, new, g.op("Sub", n.array(1), z))

    def linear_step(b: Emitter, states: Names, slices: Names) -> tuple[Names, str]:
        (dh,), (each, kept) = states, slices
        dp = b.op("Mul", b.op("Concat", dh, dh, dh, axis=-1), each)
        return [b.op("Add", b.op("MatMul", dp, n.x(2)), b.op("Mul", dh, kept))], dh

    def step(b: Emitter, states: Names, slices: Names) -> tuple[Names, str]:
        (dh,), (in_z, in_n, in_r, kept, reset) = states, slices
        dn = b.op("Mul", dh, in_n)
        dfed = b.op("MatMul", dn, r_new)
        gates = b.op("Concat", b.op("Mul", dh, in_z), b.op("Mul", dfed, in_r), axis=-1)
        parts = b.op("MatMul", gates, r_gates), b.op("Mul", dh, kept), b.op("Mul", dfed, reset)
        return [b.op("Sum", *parts)], b.op("Concat", gates, dn, axis=-1)

    if linear:
        to_r = closing(g, n, r, g.op("Mul", to_n, product))
        to_products = joined(g, [to_z, to_r, g.op("Mul", to_n, r)])
        dh, initial = c.scan_back(linear_step, [to_products, z])
        each = joined(g, [dh] * 3)
        inputs = g.op("Mul", each, joined(g, [to_z, to_r, to_n]))
        return Passed(inputs, [(g.op("Mul", each, to_products), 3, before)], initial)
    dp, initial = c.scan_back(step, [to_z, to_n, closing(g, n, r, before), z, r])
    gates, dn = c.gates(dp, 2, 1)
    return Passed(dp, [(gates, 2, before), (dn, 1, fed)], initial)
