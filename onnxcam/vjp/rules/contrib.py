"""Fused operators of ONNX Runtime (com.microsoft): what they do, in standard operators."""

from __future__ import annotations

from onnxcam.vjp.body import lowering
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Node

DOMAIN = "com.microsoft"
EPSILON = 1e-12  # where a node names none


def layer_normalized(w: Emitter, n: Node, x: str, scale: str, shift: str = "") -> str:
    """X normalized over its last axis, by the standard operator where the opset has it."""
    epsilon = n.attr("epsilon", EPSILON)
    if w.graph.opset >= 17:
        return w.op("LayerNormalization", x, scale, *([shift] if shift else []), epsilon=epsilon)
    centred = w.op("Sub", x, w.reduce("ReduceMean", x, [-1]))
    y = root_mean_square_normalized(w, n, centred, scale)
    return w.op("Add", y, shift) if shift else y


def root_mean_square_normalized(w: Emitter, n: Node, x: str, scale: str) -> str:
    """s X / root mean square of X along the last axis."""
    mean = w.reduce("ReduceMean", w.op("Mul", x, x), [-1])
    root = w.op("Sqrt", w.op("Add", mean, n.scalar(n.attr("epsilon", EPSILON))))
    return w.op("Mul", w.op("Div", x, root), scale)


@lowering("SkipLayerNormalization", domain=DOMAIN)
def skip_layer_normalization(w: Emitter, n: Node) -> list[str | None]:
    """S = X + skip + b, Y = LayerNormalization(S);  outputs Y, mean, deviation, S."""
    s = w.op("Add", n.x(0), n.x(1))
    s = w.op("Add", s, n.x(4)) if n.has(4) else s
    return [layer_normalized(w, n, s, n.x(2), n.x(3) if n.has(3) else ""), None, None, s]


@lowering("SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_simplified_layer_normalization(w: Emitter, n: Node) -> list[str | None]:
    """S = X + skip + b, Y = scale S / root mean square of S;  outputs Y, mean, deviation, S."""
    s = w.op("Add", n.x(0), n.x(1))
    s = w.op("Add", s, n.x(3)) if n.has(3) else s
    return [root_mean_square_normalized(w, n, s, n.x(2)), None, None, s]


ACTIVATIONS = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"),
}  # fmt: skip


@lowering("FusedConv", domain=DOMAIN)
def fused_conv(w: Emitter, n: Node) -> list[str | None]:
    """Y = activation(Conv(X, W, B) + Z)."""
    convolution = {key: value for key, value in n.attrs.items() if not key.startswith("activation")}
    y = w.op("Conv", n.x(0), n.x(1), *([n.x(2)] if n.has(2) else []), **convolution)
    y = w.op("Add", y, n.x(3)) if n.has(3) else y
    return [activated(w, n, y)]


def activated(w: Emitter, n: Node, x: str) -> str:
    """The activation that a fused node names, with its parameters."""
    name, given = n.attr("activation", ""), n.attr("activation_params", [])
    if name == "Clip":
        return w.op("Clip", x, *(n.scalar(limit) for limit in given))
    return w.op(name, x, **dict(zip(ACTIVATIONS[name], given, strict=False))) if name else x
