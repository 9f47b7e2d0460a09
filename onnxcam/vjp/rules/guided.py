"""Rule sets that replace the adjoint of the rectifier.

Guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806) lets a cotangent through a Relu only where it is
positive and the unit fired; the deconvolution of Zeiler and Fergus (2014, arXiv 1311.2901) only where it is positive.
Relu also hides in Clip with a lower bound of 0 (Relu6), and in a quantizer whose integers stand for nothing below 0.
"""

from __future__ import annotations

import numpy as np

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import STANDARD, Cotangents, Key, Node, Rule, rule
from onnxcam.vjp.rules.activation import clip, relu
from onnxcam.vjp.rules.quantization import VERSIONS, quantize_linear, unscaled
from onnxcam.vjp.sign import cuts_at_zero, never_negative

_GUIDED: dict[Key, Rule] = {}
_DECONVNET: dict[Key, Rule] = {}


def positive(g: Emitter, n: Node, ct: str) -> str:
    """The positive part of a cotangent."""
    return g.op("Relu", ct)


def rectifies(n: Node) -> bool:
    """Whether a Clip cuts at zero from below, as Relu6 does."""
    low = n.const(1)
    return low is not None and bool(np.all(low == 0))


def absorbed(g: Emitter, n: Node) -> bool:
    """Whether a quantizer took in a Relu: it cuts at zero what may be negative. An input is no unit, and never was."""
    x = n.input[0]
    return x not in g.graph.inputs and cuts_at_zero(g.graph, n.proto) and not never_negative(g.graph, x)


@rule("Relu", versions=(14,), into=_GUIDED)
def guided_relu(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct where ct > 0 and y > 0, else 0."""
    return relu(g, n, positive(g, n, ct))


@rule("Clip", versions=(13,), into=_GUIDED)
def guided_clip(g: Emitter, n: Node, ct: str) -> Cotangents:
    """As Relu where the lower bound is 0."""
    return clip(g, n, positive(g, n, ct) if rectifies(n) else ct)


@rule("QuantizeLinear", versions=VERSIONS, only=[0], into=_GUIDED)
@rule("QuantizeLinear", versions=(1,), only=[0], domain="com.microsoft", into=_GUIDED)
def guided_quantize(g: Emitter, n: Node, ct: str) -> Cotangents:
    """As Relu where the quantizer absorbed one."""
    return quantize_linear(g, n, positive(g, n, ct) if absorbed(g, n) else ct)


@rule("Relu", versions=(14,), into=_DECONVNET)
def deconvnet_relu(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct where ct > 0, else 0."""
    return [positive(g, n, ct)]


@rule("Clip", versions=(13,), into=_DECONVNET)
def deconvnet_clip(g: Emitter, n: Node, ct: str) -> Cotangents:
    """As Relu where the lower bound is 0."""
    return [positive(g, n, ct)] if rectifies(n) else clip(g, n, ct)


@rule("QuantizeLinear", versions=VERSIONS, only=[0], into=_DECONVNET)
@rule("QuantizeLinear", versions=(1,), only=[0], domain="com.microsoft", into=_DECONVNET)
def deconvnet_quantize(g: Emitter, n: Node, ct: str) -> Cotangents:
    """As Relu where the quantizer absorbed one."""
    return [positive(g, n, unscaled(g, n, ct))] if absorbed(g, n) else quantize_linear(g, n, ct)


GUIDED = STANDARD.replace("guided", _GUIDED)
DECONVNET = STANDARD.replace("deconvnet", _DECONVNET)
