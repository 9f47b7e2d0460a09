"""Rule sets that replace the adjoint of the rectifier.

Guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806) lets a cotangent through a Relu only where it is
positive and the unit fired; the deconvolution of Zeiler and Fergus (2014, arXiv 1311.2901) only where it is positive.
A rectifier is whatever computes max(x, 0), or cuts that off above (Relu6), however it is spelled; and a quantizer whose
integers stand for nothing below 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from onnxcam.graph import MICROSOFT
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import STANDARD, Cotangents, Key, Node, Rule
from onnxcam.vjp.rules.quantization import took_in_rectifier, unscaled

Rectified = Callable[[Emitter, Node], int | None]  # the input that a node rectifies, None: it does something else


def is_zero(g: Emitter, name: str) -> bool:
    """Whether a value is zero throughout, whatever the input."""
    value = g.constant(name)
    return value is not None and value.size > 0 and not np.any(value)


def where_it_holds(value: float | bool) -> int | None:
    """Input 0 under a condition."""
    return 0 if value else None


def rectified_by_max(g: Emitter, n: Node) -> int | None:
    """Max(x, 0) in either order."""
    if len(n.input) != 2 or is_zero(g, n.input[0]) == is_zero(g, n.input[1]):
        return None
    return int(is_zero(g, n.input[0]))


def rectified_by_where(g: Emitter, n: Node) -> int | None:
    """Where(x > 0, x, 0), or Where(x < 0, 0, x)."""
    for i, fires in ((1, True), (2, False)):
        if is_zero(g, n.input[3 - i]) and is_positive(g, n.input[0], n.input[i], fires=fires):
            return i
    return None


def rectified_by_mask(g: Emitter, n: Node) -> int | None:
    """x times Cast(x > 0), in either order."""
    for i in (0, 1):
        cast = g.graph.maker(n.input[1 - i])
        if cast is not None and cast.op_type == "Cast" and is_positive(g, cast.input[0], n.input[i], fires=True):
            return i
    return None


def is_positive(g: Emitter, mask: str, x: str, *, fires: bool) -> bool:
    """Whether a mask says where x is positive (not `fires`: negative), zero on either side."""
    test = g.graph.maker(mask)
    if test is None or test.op_type not in ("Not", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
        return False
    if test.op_type == "Not":
        return is_positive(g, test.input[0], x, fires=not fires)
    larger = test.op_type.startswith("Greater")
    left, right = test.input if larger == fires else reversed(test.input)
    return bool(left == x and is_zero(g, right))


def absorbed(g: Emitter, n: Node) -> int | None:
    """A quantizer that took in a Relu."""
    return where_it_holds(took_in_rectifier(g, n))


RECTIFIERS: dict[Key, Rectified] = {
    ("", "Relu"): lambda g, n: 0,
    ("", "Clip"): lambda g, n: where_it_holds(n.has(1) and is_zero(g, n.input[1])),
    ("", "LeakyRelu"): lambda g, n: where_it_holds(n.attr("alpha", 0.01) == 0),
    ("", "ThresholdedRelu"): lambda g, n: where_it_holds(n.attr("alpha", 1.0) == 0),
    ("", "PRelu"): lambda g, n: where_it_holds(is_zero(g, n.input[1])),
    ("", "Max"): rectified_by_max,
    ("", "Where"): rectified_by_where,
    ("", "Mul"): rectified_by_mask,
    ("", "QuantizeLinear"): absorbed,
    (MICROSOFT, "QuantizeLinear"): absorbed,
}


def guided(rule: Rule, rectified: Rectified) -> Rule:
    """A rule that, of a rectifier, passes the positive part of the cotangent alone: dx = ct where ct > 0 and y > 0."""

    def function(g: Emitter, n: Node, ct: str) -> Cotangents:
        return rule.function(g, n, ct if rectified(g, n) is None else g.op("Relu", ct))

    return replace(rule, function=function)


def deconvolved(rule: Rule, rectified: Rectified) -> Rule:
    """A rule that passes the positive part of the cotangent through a rectifier, fired or not: dx = ct where ct > 0."""

    def function(g: Emitter, n: Node, ct: str) -> Cotangents:
        i = rectified(g, n)
        if i is None:
            return rule.function(g, n, ct)
        found: list[str | None] = [None] * len(n.input)
        found[i] = g.op("Relu", unscaled(g, n, ct) if n.proto.op_type == "QuantizeLinear" else ct)
        return found

    return replace(rule, function=function)


def adjusted(change: Callable[[Rule, Rectified], Rule]) -> dict[Key, Rule]:
    """The standard rules of all that may rectify, changed."""
    return {key: change(STANDARD.rules[key], rectified) for key, rectified in RECTIFIERS.items()}


GUIDED = STANDARD.replace("guided", adjusted(guided))
DECONVNET = STANDARD.replace("deconvnet", adjusted(deconvolved))
