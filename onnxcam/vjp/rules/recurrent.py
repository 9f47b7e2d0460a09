"""Recurrent networks, as scans over their steps.

A step is written in standard operators and put into a Scan, whose rule does the rest. What every step makes of its
input alone is one product before it. X is (T, N, I), a state (N, H); weights have a leading axis of directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxcam.graph import ValueType
from onnxcam.vjp.body import Outputs, lowered
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError, rule
from onnxcam.vjp.rules.recurrent_adjoint import Course, Passed, adjoint, gru_back, is_usual, lstm_back, rnn_back
from onnxcam.vjp.rules.scan import Along, scan_node
from onnxcam.vjp.subgraph import closed

States = list[str]
Step = Callable[[Emitter, str, States], States]  # what the gates get from the input, the states -> the next states

PARAMETERS = {
    "Relu": (), "Tanh": (), "Sigmoid": (), "Softsign": (), "Softplus": (), "LeakyRelu": (0.01,), "Elu": (1.0,),
    "ThresholdedRelu": (0.0,), "HardSigmoid": (0.2, 0.5), "Affine": (0.0, 0.0), "ScaledTanh": (0.0, 0.0),
}  # fmt: skip


@dataclass(frozen=True)
class Direction:
    """One direction of a recurrent node.

    Attributes:
        number: its place on the axis of directions.
        backwards: whether it begins at the end.
        activations: its functions, with their parameters.
        clip: the largest magnitude of their inputs; None: no limit.
    """

    number: int
    backwards: bool
    activations: Sequence[tuple[str, Sequence[float]]]
    clip: float | None

    def of(self, w: Emitter, value: str) -> str:
        """Its part of a value that has the axis of directions in front."""
        return w.op("Gather", value, w.const(self.number, np.int64), axis=0)

    def activated(self, b: Emitter, n: Node, which: int, x: str) -> str:
        """The activation of that number."""
        name, given = self.activations[which]
        if self.clip is not None:
            x = b.op("Clip", x, n.array(-self.clip), n.array(self.clip))
        if name == "Affine":
            return b.op("Add", b.op("Mul", x, n.array(given[0])), n.array(given[1]))
        if name == "ScaledTanh":
            return b.op("Mul", b.op("Tanh", b.op("Mul", x, n.array(given[1]))), n.array(given[0]))
        parameters: dict[str, Any] = dict(zip(("alpha", "beta"), given, strict=False))
        return str(b.op(name, x, **parameters))


Run = tuple[str, States, Step]  # what the gates get from the input at every step, the first states, a step
Written = Callable[[Emitter, Node, Direction], Run]


WAYS = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}


def directions(n: Node, defaults: Sequence[str]) -> list[Direction]:
    """The directions of a node whose activations are `defaults` where it names none."""
    if n.attr("layout", 0):
        raise RuleError("its batch comes first (layout 1)")
    ways = WAYS.get(n.attr("direction", "forward"))
    if ways is None or not n.attr("hidden_size"):
        raise RuleError("it does not say its direction or hidden_size as ONNX does")
    spelled = {name.lower(): name for name in PARAMETERS}
    names = [spelled.get(name.lower(), "") for name in n.attr("activations", list(defaults) * len(ways))]
    if len(names) != len(defaults) * len(ways) or not all(names):
        raise RuleError("it names other activations than ONNX knows")
    given = [list(n.attr(f"activation_{parameter}", [])) for parameter in ("alpha", "beta")]
    functions = [
        (name, [left.pop(0) if left else usual for left, usual in zip(given, PARAMETERS[name], strict=False)])
        for name in names
    ]
    per = len(defaults)
    return [Direction(i, way, functions[i * per : (i + 1) * per], n.attr("clip")) for i, way in enumerate(ways)]


def biases(w: Emitter, n: Node, one: Direction, gates: int) -> tuple[str, str]:
    """The biases of the input's and of the state's products, a vector each; "" where there are none."""
    if not n.has(3):
        return "", ""
    width = gates * n.attr("hidden_size")
    first, second = w.op("Split", one.of(w, n.x(3)), w.ints(width, width), axis=0, outputs=2)
    return first, second


def product(w: Emitter, x: str, weight: str, bias: str) -> str:
    """x W^T + b."""
    y = w.op("MatMul", x, w.op("Transpose", weight, perm=[1, 0]))
    return w.op("Add", y, bias) if bias else y


def unrolled(w: Emitter, n: Node, one: Direction, inputs: str, initial: States, step: Step) -> tuple[str, States]:
    """The first state of every step (T, N, H), and the last states; sequences that are over keep theirs and give 0.

    As in ONNX Runtime, those that never begin end in states of 0.
    """
    b = w.inside()
    x, ports = w.fresh("x"), [w.fresh("state") for _ in initial]
    moved = step(b, x, ports)
    given, alive = moved[0], ""
    rows = ValueType(n.elem_type, (None, None))  # ONNX Runtime wants the ranks, and may not know the input's
    types = dict.fromkeys([*ports, x], rows)
    series = [Along(inputs, 0, int(one.backwards))]
    if n.has(4):
        alive, running = w.fresh("alive"), still_running(w, n)
        types[alive] = ValueType(TensorProto.BOOL, (None, None))
        series.append(Along(running, 0, int(one.backwards)))
        begins = w.op("Gather", running, w.const(0, np.int64), axis=0)
        initial = [w.op("Where", begins, state, n.array(0)) for state in initial]
        given = b.op("Where", alive, given, n.array(0))
        moved = [b.op("Where", alive, new, old) for new, old in zip(moved, ports, strict=True)]
    body = closed(b, [*moved, given], types, [rows] * (len(moved) + 1))
    *last, every = scan_node(w, body, initial, series, [Along("", 0, int(one.backwards))])
    return every, last


def still_running(w: Emitter, n: Node) -> str:
    """Whether a sequence of the batch has that step: (T, N, 1)."""
    steps = w.op("Gather", w.op("Shape", n.x(0)), w.const(0, np.int64))
    lengths = w.op("Reshape", w.cast(n.input[4], TensorProto.INT64), w.ints(1, -1, 1))
    return w.op("Less", w.op("Reshape", w.arange(steps), w.ints(-1, 1, 1)), lengths)


def initial_state(w: Emitter, n: Node, one: Direction, i: int) -> str:
    """The state before the first step, (N, H): input i, or zeros."""
    if n.has(i):
        return one.of(w, n.x(i))
    return w.op("Expand", n.array(0), w.dims(n.x(0), (1, 1), n.attr("hidden_size")))


def outputs(w: Emitter, runs: Sequence[tuple[str, States]]) -> Outputs:
    """Y (T, D, N, H), and each last state (D, N, H), of the runs in all directions."""
    every = w.op("Concat", *(w.op("Unsqueeze", y, w.ints(1)) for y, _ in runs), axis=1)
    states = zip(*(last for _, last in runs), strict=True)
    return [every, *(w.op("Concat", *(w.op("Unsqueeze", s, w.ints(0)) for s in same), axis=0) for same in states)]


def recurrent(
    op_type: str, activations: Sequence[str], back: Callable[[Course], Passed], *, only: Sequence[int]
) -> Callable[[Written], Written]:
    """Register an operator: in its usual form by the short adjoint `back`, in any other by what the function writes.

    That is one direction: what its gates get from the input, its first states, and its step. `activations` are those of
    a direction where the node names none.
    """

    def register(function: Written) -> Written:
        def spelled(w: Emitter, n: Node) -> Outputs:
            return outputs(w, [unrolled(w, n, one, *function(w, n, one)) for one in directions(n, activations)])

        scanned = lowered(spelled)

        def either(g: Emitter, n: Node, *cotangents: str | None) -> Cotangents:
            usual = is_usual(n, activations)
            return adjoint(g, n, cotangents, back) if usual else scanned(g, n, *cotangents)

        either.__doc__ = function.__doc__
        rule(op_type, versions=(14, 22), only=only)(either)
        return function

    return register


@recurrent("RNN", ["Tanh"], rnn_back, only=[0, 1, 2, 3, 5])
def rnn(w: Emitter, n: Node, one: Direction) -> Run:
    """H = f(X W^T + H' R^T + b);  outputs Y, the last H."""
    wb, rb = biases(w, n, one, 1)
    r = one.of(w, n.x(2))

    def step(b: Emitter, x: str, states: States) -> States:
        return [one.activated(b, n, 0, b.op("Add", x, product(b, states[0], r, rb)))]

    return product(w, n.x(0), one.of(w, n.x(1)), wb), [initial_state(w, n, one, 5)], step


@recurrent("GRU", ["Sigmoid", "Tanh"], gru_back, only=[0, 1, 2, 3, 5])
def gru(w: Emitter, n: Node, one: Direction) -> Run:
    """z, r = f(X W^T + H' R^T + b), h = g(X W^T + (r H') R^T + b), H = (1 - z) h + z H';  outputs Y, the last H.

    With linear_before_reset h = g(X W^T + r (H' R^T + b)).
    """
    width, before = n.attr("hidden_size"), bool(n.attr("linear_before_reset", 0))
    wb, rb = biases(w, n, one, 3)
    parts = w.ints(2 * width, width)
    r_gates, r_new = w.op("Split", one.of(w, n.x(2)), parts, axis=0, outputs=2)
    b_gates, b_new = w.op("Split", rb, parts, axis=0, outputs=2) if rb else ("", "")

    def step(b: Emitter, x: str, states: States) -> States:
        (h,) = states
        x_gates, x_new = b.op("Split", x, b.ints(2 * width, width), axis=-1, outputs=2)
        gates = one.activated(b, n, 0, b.op("Add", x_gates, product(b, h, r_gates, b_gates)))
        z, r = b.op("Split", gates, b.ints(width, width), axis=-1, outputs=2)
        old = b.op("Mul", r, product(b, h, r_new, b_new)) if before else product(b, b.op("Mul", r, h), r_new, b_new)
        new = one.activated(b, n, 1, b.op("Add", x_new, old))
        return [b.op("Add", new, b.op("Mul", z, b.op("Sub", h, new)))]

    return product(w, n.x(0), one.of(w, n.x(1)), wb), [initial_state(w, n, one, 5)], step


@recurrent("LSTM", ["Sigmoid", "Tanh", "Tanh"], lstm_back, only=[0, 1, 2, 3, 5, 6, 7])
def lstm(w: Emitter, n: Node, one: Direction) -> Run:
    """i, o, f = f(X W^T + H' R^T + b + P C), c = g(...), C = f C' + i c, H = o h(C);  outputs Y, the last H and C.

    The peepholes P read C' for i and f, C for o. With input_forget f = 1 - i.
    """
    width, coupled = n.attr("hidden_size"), bool(n.attr("input_forget", 0))
    wb, rb = biases(w, n, one, 4)
    r = one.of(w, n.x(2))
    p = w.op("Split", one.of(w, n.x(7)), w.ints(width, width, width), axis=0, outputs=3) if n.has(7) else None
    free = replace(one, clip=None)  # the limit is for what the gates get, and the cell's value is no such sum

    def step(b: Emitter, x: str, states: States) -> States:
        h, c = states
        gates = b.op("Add", x, product(b, h, r, rb))
        i, o, f, new = b.op("Split", gates, b.ints(*[width] * 4), axis=-1, outputs=4)

        def peeping(gate: str, which: int, cell: str) -> str:
            seen = b.op("Add", gate, b.op("Mul", p[which], cell)) if p else gate
            return one.activated(b, n, 0, seen)

        i = peeping(i, 0, c)
        f = b.op("Sub", n.array(1), i) if coupled else peeping(f, 2, c)
        c = b.op("Add", b.op("Mul", f, c), b.op("Mul", i, one.activated(b, n, 1, new)))
        return [b.op("Mul", peeping(o, 1, c), free.activated(b, n, 2, c)), c]

    return product(w, n.x(0), one.of(w, n.x(1)), wb), [initial_state(w, n, one, i) for i in (5, 6)], step
