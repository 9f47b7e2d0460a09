"""Quantizers: straight-through estimators.

Their cotangents are those of the integers read as real numbers, so whatever moves the integers on the way (Reshape,
Concat, MaxPool) needs no rule of its own.
"""

from __future__ import annotations

from onnx import TensorProto

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError, rule

RANGES: dict[int, tuple[int, int]] = {
    TensorProto.UINT4: (0, 15), TensorProto.INT4: (-8, 7), TensorProto.UINT8: (0, 255), TensorProto.INT8: (-128, 127),
    TensorProto.UINT16: (0, 65535), TensorProto.INT16: (-32768, 32767),
}  # fmt: skip


@rule("QuantizeLinear", versions=(13, 19, 21, 23, 24, 25, 28), only=[0])
@rule("QuantizeLinear", versions=(1,), only=[0], domain="com.microsoft")
def quantize_linear(g: Emitter, n: Node, ct: str) -> Cotangents:
    """q = clamp(round(x / s) + z);  dx = ct / s where q lies strictly inside its range, else 0 (straight-through).

    The ends count as outside: what was cut off lies there too, and so does what a folded Relu cut.
    """
    ends = RANGES.get(g.graph.type(n.output[0]).elem_type)
    if ends is None:
        raise RuleError("it quantizes to a type that is no integer")
    low, high = (n.scalar(end) for end in ends)
    inside = g.op("And", g.op("Greater", n.y(), low), g.op("Less", n.y(), high))
    return [g.op("Where", inside, g.op("Div", ct, scale(g, n)), n.scalar(0))]


@rule("DequantizeLinear", versions=(13, 19, 21, 23, 24, 25, 28), only=[0])
@rule("DequantizeLinear", versions=(1,), only=[0], domain="com.microsoft")
def dequantize_linear(g: Emitter, n: Node, ct: str) -> Cotangents:
    """x = (q - z) s;  dq = ct s."""
    return [g.op("Mul", ct, scale(g, n))]


def scale(g: Emitter, n: Node) -> str:
    """The scale, ready to broadcast: one for all or one for each slice along `axis`."""
    shape, rank = n.shape(1), n.rank()
    if shape is None or len(shape) > 1:
        raise RuleError("its scale is neither one number nor one for each slice")
    if shape in ((), (1,)):
        return n.x(1)
    axis = n.axis(default=1)
    return g.op("Reshape", n.x(1), g.ints(-1, *[1] * (rank - axis - 1)))
