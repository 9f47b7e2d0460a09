"""Element-wise functions of one value.

Masks are read from the kept output y wherever it decides, never from x: reading a pre-activation would un-fuse the
activation from the convolution before it. Conventions at kinks are torch.autograd's (docs/gradients.md).
"""

from __future__ import annotations

import math

import numpy as np

from onnxcam.graph import MICROSOFT, Shape
from onnxcam.vjp.emitter import Emitter, numpy_type
from onnxcam.vjp.masking import without_nan
from onnxcam.vjp.registry import STANDARD, ZERO, Cotangents, Node, RuleError, rule
from onnxcam.vjp.uniform import same_along


@rule("Identity", versions=(16, 19, 21, 23, 24, 25))
@rule("Cast", versions=(13, 19, 21, 23, 24, 25, 28))
def identity(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = x;  dx = ct."""
    return [ct]


@rule("Dropout", versions=(13, 22))
def dropout(g: Emitter, n: Node, ct: str, _mask: str | None = None) -> Cotangents:
    """y = x;  dx = ct. Training: y = x / (1 - ratio) where the mask says, else 0;  dx likewise."""
    if not g.graph.drops_out(n.proto):
        return [ct, ZERO]
    if n.wants(1):
        raise RuleError("its ratio depends on the input")
    ratio = n.x(1) if n.has(1) else n.array(0.5)
    kept = g.op("Div", ct, g.op("Sub", n.array(1), g.op("Where", n.input[2], ratio, n.array(0))))
    return [g.op("Where", n.output[1], kept, n.array(0))]


@rule("CastLike", versions=(15, 19, 21, 23, 24, 25))
def cast_like(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = x in the type of like;  dx = ct, d like = 0."""
    return [ct, ZERO]


@rule("Relu", versions=(14,))
def relu(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = max(x, 0);  dx = ct where y > 0, else 0 (0 at the kink)."""
    return [ct if (ct, n.output[0]) in g.stopped else where_positive(g, n, n.y(), ct)]


def is_rectified(g: Emitter, n: Node, name: str) -> bool:
    """Whether a value that a node reads is a Relu's, or Relus' put together: read by nothing else, asked for by nobody.

    What these would stop may be stopped behind them: where there are fewer elements, or for many of them at once.
    """
    maker = g.graph.maker(name)
    relus = list(maker.input) if maker is not None and maker.op_type == "Concat" else [name]
    makers = [g.graph.maker(relu) for relu in relus]
    alone = all(len(g.graph.consumers[value]) == 1 and value not in n.ends for value in (name, *relus))
    return n.rules is STANDARD and alone and all(one is not None and one.op_type == "Relu" for one in makers)


def where_positive(g: Emitter, n: Node, y: str, ct: str) -> str:
    """A cotangent where y > 0, else 0."""
    zero = n.array(0)
    return g.op("Where", g.op("Greater", y, zero), ct, zero)


@rule("LeakyRelu", versions=(16,))
def leaky_relu(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = x where x > 0, else a x;  dx = ct or a ct (a at the kink)."""
    slope = n.attr("alpha", 0.01)
    decides = n.y() if slope >= 0 else n.x()
    return [g.op("Where", g.op("Greater", decides, n.array(0)), ct, g.op("Mul", ct, n.array(slope)))]


@rule("PRelu", versions=(16,))
def prelu(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = x where x > 0, else s x;  dx = ct or s ct,  ds = 0 or ct x, summed over what s was broadcast along."""
    if not spreads_to(n.shape(1), n.shape(0)):
        raise RuleError("its slope is larger than its input")
    zero, x, slope = n.array(0), n.x(), n.x(1)
    right = g.op("Greater", x, zero)
    dx = g.op("Where", right, ct, g.op("Mul", ct, slope))
    if not n.wants(1):
        return [dx]
    ds = g.op("Where", right, zero, g.op("Mul", ct, x))
    return [dx, g.sum_to(ds, n.shape(0), n.input[1])]


def spreads_to(small: Shape | None, large: Shape | None) -> bool:
    """Whether broadcasting one shape to another is not known to enlarge the other."""
    if small is None or large is None:
        return True
    pairs = zip(small[::-1], large[::-1], strict=False)
    return len(small) <= len(large) and not any(own == 1 and isinstance(size, int) and size > 1 for size, own in pairs)


@rule("ThresholdedRelu", versions=(10, 22))
def thresholded_relu(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = x where x > a, else 0;  dx = ct there."""
    alpha = n.attr("alpha", 1.0)
    inside = g.op("Greater", n.y(), n.array(0)) if alpha >= 0 else g.op("Greater", n.x(), n.array(alpha))
    return [g.op("Where", inside, ct, n.array(0))]


@rule("Elu", versions=(6, 22))
def elu(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = x where x > 0, else a (e^x - 1);  dx = ct or ct (y + a)."""
    alpha = n.attr("alpha", 1.0)
    decides = n.y() if alpha > 0 else n.x()
    left = g.op("Mul", ct, g.op("Add", n.y(), n.array(alpha)))
    return [g.op("Where", g.op("Greater", decides, n.array(0)), ct, left)]


@rule("Celu", versions=(12, 28))
def celu(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = max(0, x) + min(0, a (e^(x/a) - 1));  dx = ct where x > 0, else ct e^(x/a) (1 at the kink)."""
    left = g.op("Exp", g.op("Div", n.x(), n.array(n.attr("alpha", 1.0))))
    return [g.op("Where", g.op("Greater", n.x(), n.array(0)), ct, g.op("Mul", ct, left))]


@rule("Selu", versions=(6, 22))
def selu(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = c x where x > 0, else c a (e^x - 1);  dx = c ct or ct (y + c a)."""
    alpha, gamma = n.attr("alpha", 1.67326319217681884765625), n.attr("gamma", 1.05070102214813232421875)
    right = g.op("Greater", n.y() if alpha > 0 and gamma > 0 else n.x(), n.array(0))
    slope = g.op("Where", right, n.array(gamma), g.op("Add", n.y(), n.array(alpha * gamma)))
    return [g.op("Mul", ct, slope)]


@rule("Clip", versions=(13,))
def clip(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = min(max(x, lo), hi);  dx = ct where lo < y < hi, else 0 (0 at both bounds, as of Relu6)."""
    inside = [g.op(test, n.y(), n.x(i)) for i, test in ((1, "Greater"), (2, "Less")) if n.has(i)]
    if not inside:
        return [ct]
    low, high = (n.number(i) for i in (1, 2))
    if len(inside) == 1:
        mask = inside[0]
    elif low is not None and high is not None:
        mask = between(g, n, low, high)
    else:
        mask = g.op("And", *inside)
    bounds = [bound_cotangent(g, n, ct, inside, i) if n.wants(i) else None for i in (1, 2)]
    return [g.op("Where", mask, ct, n.array(0)), *bounds]


def between(g: Emitter, n: Node, low: float, high: float) -> str:
    """Whether low < y < high: whether the numbers next to these leave y as it is. Faster than two comparisons.

    But not than those of integers, which the emitter makes of such of a dequantized value.
    """
    reading = g.maker(n.y())
    if reading is not None and reading.op_type == "DequantizeLinear":
        return g.op("And", g.op("Greater", n.y(), n.array(low)), g.op("Less", n.y(), n.array(high)))
    inner = (neighbour(n, low, math.inf), neighbour(n, high, -math.inf))
    return g.op("Equal", n.y(), g.op("Clip", n.y(), *map(n.array, inner)))


def neighbour(n: Node, end: float, way: float) -> float:
    """The next number in the cotangents' type; next to 0 none that a session may take for 0."""
    kind = numpy_type(n.elem_type)
    found, least = float(np.nextafter(kind(end), kind(way))), float(np.finfo(kind).tiny)
    return found if abs(found) >= least else math.copysign(least, way)


def bound_cotangent(g: Emitter, n: Node, ct: str, inside: list[str], i: int) -> str:
    """d of a Clip's bound: ct summed where y is at it; at the upper one where both are the same."""
    beyond = g.op("Not", inside[-1] if i == 2 else inside[0])
    if i == 1 and n.has(2):
        beyond = g.op("And", beyond, inside[1])
    return g.reshape_to(g.op("ReduceSum", g.op("Where", beyond, ct, n.array(0)), keepdims=0), n.input[i])


@rule("Sigmoid", versions=(13,))
def sigmoid(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct y (1 - y)."""
    slope = g.op("Mul", n.y(), g.op("Sub", n.array(1), n.y()))
    return [g.op("Mul", ct, slope)]


@rule("HardSigmoid", versions=(6, 22))
def hard_sigmoid(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = max(0, min(1, a x + b));  dx = a ct where 0 < y < 1, else 0."""
    return [g.op("Where", between(g, n, 0, 1), g.op("Mul", ct, n.array(n.attr("alpha", 0.2))), n.array(0))]


@rule("HardSwish", versions=(14, 22))
def hard_swish(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = x max(0, min(1, x/6 + 1/2));  dx = 0, ct or ct (x + 3/2) / 3 below, above and between -3 and 3."""
    x, three = n.x(), n.array(3)
    above_low = g.op("ThresholdedRelu", g.op("Add", x, n.array(1.5)), alpha=-1.5)  # a Where would take twice the time
    slopes = g.op("Where", g.op("GreaterOrEqual", x, three), three, above_low)
    return [g.op("Mul", ct, g.op("Mul", slopes, n.array(1 / 3)))]


@rule("Swish", versions=(24,))
@rule("QuickGelu", domain=MICROSOFT)
def swish(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = x s(a x);  dx = ct (s + a x s (1 - s))."""
    x, one, alpha = n.x(), n.array(1), n.attr("alpha", 1.702 if n.proto.op_type == "QuickGelu" else 1.0)
    scaled = x if alpha == 1 else g.op("Mul", x, n.array(alpha))
    s = g.op("Sigmoid", scaled)
    rest = g.op("Mul", scaled, g.op("Sub", one, s))
    return [g.op("Mul", ct, g.op("Mul", s, g.op("Add", one, rest)))]


@rule("Mish", versions=(18, 22))
def mish(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = x t, t = tanh(softplus x);  dx = ct (t + x (1 - t^2) s(x))."""
    x = n.x()
    t = g.op("Tanh", g.op("Softplus", x))
    slope = g.op("Mul", g.op("Sub", n.array(1), g.op("Mul", t, t)), g.op("Sigmoid", x))
    return [g.op("Mul", ct, g.op("Add", t, g.op("Mul", x, slope)))]


@rule("Gelu", versions=(20,))
@rule("Gelu", domain=MICROSOFT)
def gelu(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = x P(x);  dx = ct (P + x P'), P the normal distribution function or its tanh approximation."""
    slope = gelu_slope_by_tanh if n.attr("approximate", "none") == "tanh" else gelu_slope
    return [g.op("Mul", ct, slope(g, n, n.x()))]


@rule("BiasGelu", "FastGelu", domain=MICROSOFT)
def biased_gelu(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = Gelu(x + b), in FastGelu the tanh approximation;  dx = ct Gelu'(x + b), db its sum to b's shape."""
    slope = gelu_slope_by_tanh if n.proto.op_type == "FastGelu" else gelu_slope
    dx = g.op("Mul", ct, slope(g, n, g.op("Add", n.x(), n.x(1)) if n.has(1) else n.x()))
    return [dx, g.sum_to(dx, n.shape(), n.input[1]) if n.wants(1) else None]


def gelu_slope(g: Emitter, n: Node, x: str) -> str:
    """P + x P' = (1 + erf u) / 2 + u exp(-u^2) / sqrt pi, u = x / sqrt 2."""
    u = g.op("Mul", x, n.array(math.sqrt(0.5)))
    p = halved(g, g.op("Erf", u))
    bell = g.op("Exp", g.op("Sub", n.array(-math.log(math.pi) / 2), g.op("Mul", u, u)))
    return g.op("Add", p, g.op("Mul", u, bell))


def gelu_slope_by_tanh(g: Emitter, n: Node, x: str) -> str:
    """P + x P', P = (1 + tanh(c (x + k x^3))) / 2."""
    c, k, square = math.sqrt(2 / math.pi), 0.044715, g.op("Mul", x, x)
    t = g.op("Tanh", g.op("Mul", x, g.op("Add", n.array(c), g.op("Mul", square, n.array(c * k)))))
    p = halved(g, t)
    inner_slope = g.op("Add", n.array(c / 2), g.op("Mul", square, n.array(1.5 * c * k)))
    density = g.op("Mul", g.op("Sub", n.array(1), g.op("Mul", t, t)), inner_slope)
    return g.op("Add", p, g.op("Mul", x, density))


def halved(g: Emitter, x: str) -> str:
    """(1 + x) / 2 for x from -1 to 1: two operators in one, which cuts nothing off."""
    return g.op("HardSigmoid", x, alpha=0.5, beta=0.5)


@rule("Tanh", versions=(13,))
def tanh(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct (1 - y^2)."""
    return [g.op("Mul", ct, g.op("Sub", n.array(1), g.op("Mul", n.y(), n.y())))]


@rule("Softplus", versions=(1, 22))
def softplus(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = log(1 + e^x);  dx = ct s(x)."""
    return [g.op("Mul", ct, g.op("Sigmoid", n.x()))]


@rule("Softsign", versions=(1, 22))
def softsign(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = x / (1 + |x|);  dx = ct / (1 + |x|)^2."""
    below = g.op("Add", n.array(1), g.op("Abs", n.x()))
    return [g.op("Div", ct, g.op("Mul", below, below))]


@rule("Shrink", versions=(9,))
def shrink(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = x + b, 0 or x - b below -l, between and above l;  dx = ct outside the middle."""
    outside = g.op("Greater", g.op("Abs", n.x()), n.array(n.attr("lambd", 0.5)))
    return [g.op("Where", outside, ct, n.array(0))]


@rule("Abs", versions=(13,))
def absolute(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct sign(x) (0 at 0)."""
    return [g.op("Mul", ct, g.op("Sign", n.x()))]


@rule("Neg", versions=(13,))
def negative(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = -ct."""
    return [g.op("Neg", ct)]


@rule("Reciprocal", versions=(13,))
def reciprocal(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = -ct y^2."""
    return [g.op("Neg", g.op("Mul", ct, g.op("Mul", n.y(), n.y())))]


@rule("Sqrt", versions=(13,))
def square_root(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct / (2 y)."""
    return [g.op("Div", ct, g.op("Add", n.y(), n.y()))]


@rule("Exp", versions=(13,))
def exponential(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct y."""
    return [g.op("Mul", ct, n.y())]


@rule("Log", versions=(13,))
def logarithm(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct / x."""
    return [g.op("Div", ct, n.x())]


@rule("Erf", versions=(13,))
def error_function(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct 2 / sqrt(pi) e^(-x^2)."""
    bell = g.op("Exp", g.op("Sub", n.array(math.log(2 / math.sqrt(math.pi))), g.op("Mul", n.x(), n.x())))
    return [g.op("Mul", ct, bell)]


@rule("Sin", versions=(7, 22))
def sine(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct cos x."""
    return [g.op("Mul", ct, g.op("Cos", n.x()))]


@rule("Cos", versions=(7, 22))
def cosine(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = -ct sin x."""
    return [g.op("Neg", g.op("Mul", ct, g.op("Sin", n.x())))]


@rule("Tan", versions=(7, 22))
def tangent(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct (1 + y^2)."""
    return [g.op("Mul", ct, g.op("Add", n.array(1), g.op("Mul", n.y(), n.y())))]


@rule("Asin", "Acos", versions=(7, 22))
def arc_sine(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct / sqrt(1 - x^2);  Acos: -ct."""
    root = g.op("Sqrt", g.op("Sub", n.array(1), g.op("Mul", n.x(), n.x())))
    dx = g.op("Div", ct, root)
    return [dx if n.proto.op_type == "Asin" else g.op("Neg", dx)]


@rule("Atan", versions=(7, 22))
def arc_tangent(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct / (1 + x^2)."""
    return [g.op("Div", ct, g.op("Add", n.array(1), g.op("Mul", n.x(), n.x())))]


@rule("Sinh", "Cosh", versions=(9, 22))
def hyperbolic(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct cosh x;  Cosh: ct sinh x."""
    return [g.op("Mul", ct, g.op("Cosh" if n.proto.op_type == "Sinh" else "Sinh", n.x()))]


@rule("Asinh", "Acosh", versions=(9, 22))
def inverse_hyperbolic(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct / sqrt(x^2 + 1);  Acosh: x^2 - 1."""
    square = g.op("Mul", n.x(), n.x())
    shifted = g.op("Add" if n.proto.op_type == "Asinh" else "Sub", square, n.array(1))
    return [g.op("Div", ct, g.op("Sqrt", shifted))]


@rule("Atanh", versions=(9, 22))
def inverse_hyperbolic_tangent(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct / (1 - x^2)."""
    return [g.op("Div", ct, g.op("Sub", n.array(1), g.op("Mul", n.x(), n.x())))]


@rule("Softmax", versions=(13,))
def softmax(g: Emitter, n: Node, ct: str) -> Cotangents:
    """t = ct y;  dx = t - y sum t along the axis."""
    if same_along(g.graph, n.input[0], n.axis()):
        return [g.zeros_like(n.input[0], n.elem_type)]
    y = without_nan(g, n)
    t = g.op("Mul", ct, y)
    return [g.op("Sub", t, g.op("Mul", y, g.reduce("ReduceSum", t, [n.axis()])))]


@rule("LogSoftmax", versions=(13,))
def log_softmax(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct - e^y sum ct along the axis."""
    if same_along(g.graph, n.input[0], n.axis()):
        return [g.zeros_like(n.input[0], n.elem_type)]
    total = g.reduce("ReduceSum", ct, [n.axis()])
    return [g.op("Sub", ct, g.op("Mul", g.op("Exp", without_nan(g, n)), total))]
