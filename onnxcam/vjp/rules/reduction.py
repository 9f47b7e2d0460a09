"""Reductions along axes."""

from __future__ import annotations

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, rule
from onnxcam.vjp.rules.pooling import spread_mean

BOTH = (13, 18)  # the axes are an attribute, or an input
Axes = list[int] | str


def axes_or_name(n: Node) -> Axes:
    """The axes a reduction runs over, counted from the front; the name of their value where it is computed."""
    if n.has(1):
        given = n.const(1)
        if given is None:
            return n.input[1]
        axes = [int(axis) for axis in given.ravel()]
    else:
        axes = list(n.attr("axes") or [])
    if not axes and n.attr("noop_with_empty_axes", 0):
        return []
    return sorted({axis % n.rank() for axis in axes}) if axes else list(range(n.rank()))


def reduced(g: Emitter, n: Node, op_type: str, x: str, axes: Axes) -> str:
    """A reduction along a node's axes, which stay as size 1. Where they are computed, none may mean none or all."""
    if not isinstance(axes, str):
        return g.reduce(op_type, x, axes)
    return g.op(op_type, x, axes, keepdims=1, noop_with_empty_axes=n.attr("noop_with_empty_axes", 0) or None)


def kept(g: Emitter, n: Node, value: str, axes: Axes) -> str:
    """A value in the output's shape with the reduced axes back as size 1."""
    if n.attr("keepdims", 1) or not axes:
        return value
    if isinstance(axes, str):
        return g.op("Reshape", value, g.op("Shape", reduced(g, n, "ReduceSum", n.x(), axes)))
    return g.op("Unsqueeze", value, g.ints(*axes))


@rule("ReduceSum", versions=(13,))
def reduce_sum(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct everywhere."""
    axes = axes_or_name(n)
    return [g.op("Expand", kept(g, n, ct, axes), g.shape_of(n.input[0])) if axes else ct]


@rule("ReduceMean", versions=BOTH)
def reduce_mean(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct / count everywhere."""
    axes = axes_or_name(n)
    if isinstance(axes, str):
        count = g.op("Div", g.op("Size", n.input[0]), g.op("Size", ct))
        share = g.op("Div", kept(g, n, ct, axes), g.cast(count, n.elem_type))
        return [g.op("Expand", share, g.shape_of(n.input[0]))]
    return [spread_mean(g, n, kept(g, n, ct, axes), axes) if axes else ct]


@rule("ReduceMax", "ReduceMin", versions=(13, 18, 20))
def reduce_extremum(g: Emitter, n: Node, ct: str) -> Cotangents:
    """ct goes to the extremum, ties share it evenly. It is found again: y may be rounded (float16, a quantizer)."""
    axes = axes_or_name(n)
    if not axes:
        return [ct]
    hit = g.cast(g.op("Equal", n.x(), reduced(g, n, n.proto.op_type, n.x(), axes)), n.elem_type)
    share = g.op("Div", kept(g, n, ct, axes), reduced(g, n, "ReduceSum", hit, axes))
    return [g.op("Mul", hit, share)]


@rule("ReduceL1", versions=BOTH)
def reduce_l1(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = sum |x|;  dx = ct sign x."""
    return [g.op("Mul", kept(g, n, ct, axes_or_name(n)), g.op("Sign", n.x()))]


@rule("ReduceL2", versions=BOTH)
def reduce_l2(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = |x|;  dx = ct x / y, 0 where y = 0."""
    axes = axes_or_name(n)
    y, zero = kept(g, n, n.y(), axes), n.array(0)
    safe = g.op("Where", g.op("Equal", y, zero), n.array(1), y)
    return [g.op("Mul", n.x(), g.op("Div", kept(g, n, ct, axes), safe))]


@rule("ReduceSumSquare", versions=BOTH)
def reduce_sum_square(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = 2 ct x."""
    return [g.op("Mul", kept(g, n, ct, axes_or_name(n)), g.op("Add", n.x(), n.x()))]


@rule("ReduceLogSum", versions=(*BOTH, 28))
def reduce_log_sum(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = log sum x;  dx = ct e^-y everywhere."""
    axes = axes_or_name(n)
    slope = g.op("Mul", ct, g.op("Exp", g.op("Neg", n.y())))
    return [g.op("Expand", kept(g, n, slope, axes), g.shape_of(n.input[0]))]


@rule("ReduceLogSumExp", versions=(*BOTH, 28))
def reduce_log_sum_exp(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = log sum e^x;  dx = ct e^(x - y)."""
    axes = axes_or_name(n)
    share = g.op("Exp", g.op("Sub", n.x(), kept(g, n, n.y(), axes)))
    return [g.op("Mul", kept(g, n, ct, axes), share)]


@rule("ReduceProd", versions=BOTH)
def reduce_prod(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct times the product of the others, right also where one of them, or x itself, is 0."""
    axes, x = axes_or_name(n), n.x()
    if not axes:
        return [ct]
    is_zero = g.op("Equal", x, n.array(0))
    zeros = reduced(g, n, "ReduceSum", g.cast(is_zero, n.elem_type), axes)
    filled = g.op("Where", is_zero, n.array(1), x)
    rest = reduced(g, n, "ReduceProd", filled, axes)  # of all that are not 0
    return [g.op("Mul", kept(g, n, ct, axes), product_of_others(g, n, is_zero, zeros, rest, filled))]


def product_of_others(g: Emitter, n: Node, is_zero: str, zeros: str, rest: str, filled: str) -> str:
    """The product without each factor, from the number of zeros, the product of the rest, and factors with 1 for 0."""
    zero, one = n.array(0), n.array(1)
    alone = g.op("Where", g.op("Equal", zeros, one), rest, zero)
    among = g.op("Where", g.op("Equal", zeros, zero), g.op("Div", rest, filled), zero)
    return g.op("Where", is_zero, alone, among)
