"""Element-wise operators of several values. Cotangents are in the output's shape; the sweep sums them down."""

from __future__ import annotations

import math

import numpy as np
import onnx

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import STANDARD, ZERO, Cotangents, Node, rule


@rule("Add", versions=(14,), broadcasts=True)
@rule("Sum", versions=(13,), broadcasts=True)
def add(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = a + b + ...;  every cotangent is ct."""
    return [ct] * len(n.input)


@rule("Mean", versions=(13,), broadcasts=True)
def mean(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = (a + b + ...) / k;  every cotangent is ct / k."""
    return [g.op("Mul", ct, n.array(1 / len(n.input)))] * len(n.input)


@rule("Sub", versions=(14,), broadcasts=True)
def subtract(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = a - b;  da = ct, db = -ct."""
    return [ct, g.op("Neg", ct)]


@rule("Mul", versions=(14,), broadcasts=True)
def multiply(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = a b;  da = ct b, db = ct a. Where b is s(a), the sigmoid, da = ct (s + y (1 - s)) is all of it."""
    if (gate := sigmoid_of_other(g, n)) is not None:
        s = n.x(gate)
        slope = g.op("Add", s, g.op("Mul", n.y(), g.op("Sub", n.array(1), s)))
        dx = g.op("Mul", ct, slope)
        return [ZERO, dx] if gate == 0 else [dx, ZERO]
    return [g.op("Mul", ct, n.x(1)), g.op("Mul", ct, n.x(0))]


def sigmoid_of_other(g: Emitter, n: Node) -> int | None:
    """Which factor is the sigmoid of the other one, on the way to which the sweep need not stop; None: neither."""
    for i in (0, 1):
        maker = g.graph.maker(n.input[i])
        if maker is not None and is_sigmoid(n, maker) and maker.input[0] == n.input[1 - i]:
            free = n.wants(1 - i) and n.input[i] not in n.ends and not n.is_quantized()  # y would be rounded
            return i if free else None
    return None


def is_sigmoid(n: Node, maker: onnx.NodeProto) -> bool:
    """Whether a node is a sigmoid that the rule set leaves as it is."""
    key = (maker.domain, maker.op_type)
    return key == ("", "Sigmoid") and n.rules.rules.get(key) is STANDARD.rules[key]


@rule("Div", versions=(14,), broadcasts=True)
def divide(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = a / b;  da = ct / b, db = -ct y / b.

    What a quantizer makes of a division by zero is cut off: it lets nothing through, and 0 / 0 shall not be NaN. So too
    where the zero is a quantizer's, and infinity is cut off later.
    """
    b, y = n.x(1), n.y()
    divisor = g.graph.maker(n.input[1])
    rounded = divisor is not None and divisor.op_type == "DequantizeLinear"
    if n.const(1) is None and (n.is_quantized() or rounded):
        by_zero = g.op("Equal", b, n.array(0))
        b = g.op("Where", by_zero, n.array(math.inf), b)
        y = y if n.is_quantized() else g.op("Where", by_zero, n.array(0), y)
    da = g.op("Div", ct, b)
    return [da, g.op("Neg", g.op("Mul", da, y))]


@rule("Pow", versions=(15,), broadcasts=True)
def power(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = a^p;  da = ct p a^(p-1), 0 where p = 0;  dp = ct y log a where a > 0, else 0."""
    return [_base(g, n, ct), _exponent(g, n, ct)]


def _base(g: Emitter, n: Node, ct: str) -> str:
    exponent = n.const(1)
    if exponent is not None and exponent.size == 1 and float(exponent.item()) == 2:
        return g.op("Mul", ct, g.op("Add", n.x(), n.x()))
    if exponent is not None and np.all(exponent != 0):
        p = exponent.astype(np.float64)
        return g.op("Mul", ct, g.op("Mul", n.array(p), g.op("Pow", n.x(), n.array(p - 1))))
    p_now, zero = n.x(1), n.array(0)
    slope = g.op("Mul", p_now, g.op("Pow", n.x(), g.op("Sub", p_now, n.array(1))))
    return g.op("Mul", ct, g.op("Where", g.op("Equal", p_now, zero), zero, slope))


def _exponent(g: Emitter, n: Node, ct: str) -> str:
    positive = g.op("Greater", n.x(), n.array(0))
    log = g.op("Log", g.op("Where", positive, n.x(), n.array(1)))
    return g.op("Mul", ct, g.op("Mul", n.y(), log))


@rule("Mod", versions=(13, 28), broadcasts=True)
def modulo(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = a - k b with a whole k;  da = ct, db = -k ct."""
    return [ct, g.op("Mul", ct, g.op("Round", g.op("Div", g.op("Sub", n.y(), n.x()), n.x(1))))]


@rule("Max", "Min", versions=(13,), broadcasts=True)
def extremum(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = the largest (smallest) input;  ct goes there, ties share it evenly.

    Inputs are held against each other: y may have been rounded (float16, a quantizer) and equal none of them.
    """
    if len(n.input) == 1:
        return [ct]
    hits = [g.cast(wins(g, n, i), n.elem_type) for i in range(len(n.input))]
    share = g.op("Div", ct, g.add(hits))
    return [g.op("Mul", share, hit) for hit in hits]


def wins(g: Emitter, n: Node, i: int) -> str:
    """Where no other input of a Max (Min) beats input i."""
    others = [n.x(j) for j in range(len(n.input)) if j != i]
    best = others[0] if len(others) == 1 else g.op(n.proto.op_type, *others)
    return g.op("GreaterOrEqual" if n.proto.op_type == "Max" else "LessOrEqual", n.x(i), best)


@rule("Where", versions=(16,), broadcasts=True)
def where(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = a where c, else b;  da = ct where c, else 0;  db the rest."""
    condition, zero = n.input[0], n.array(0)
    return [None, g.op("Where", condition, ct, zero), g.op("Where", condition, zero, ct)]
