"""Quantizers: straight-through estimators.

Their cotangents are those of the integers read as real numbers, so whatever moves the integers on the way (Reshape,
Concat, MaxPool) needs no rule of its own.
"""

from __future__ import annotations

from functools import partial, reduce

import numpy as np
from onnx import TensorProto

from onnxcam.graph import MICROSOFT, MOVING, RANGES, same_constant
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError, rule
from onnxcam.vjp.sign import cuts_at_zero, never_negative

FLOAT8: dict[int, tuple[int, int]] = {
    TensorProto.FLOAT8E4M3FN: (-448, 448), TensorProto.FLOAT8E4M3FNUZ: (-240, 240),
    TensorProto.FLOAT8E5M2: (-57344, 57344), TensorProto.FLOAT8E5M2FNUZ: (-57344, 57344),
}  # fmt: skip
VERSIONS = (13, 19, 21, 23, 24, 25, 28)


@rule("QuantizeLinear", versions=VERSIONS, only=[0])
@rule("QuantizeLinear", only=[0], domain=MICROSOFT)
def quantize_linear(g: Emitter, n: Node, ct: str) -> Cotangents:
    """q = clamp(round(x / s) + z);  dx = ct / s where x lies inside its range, else 0 (straight-through).

    Where x costs nothing to read, an input or a weight, it decides: inside are all x that round into the range, its
    ends too, as in torch's fake_quantize. Elsewhere q decides, whose ends hold both what was cut off and what was not:
    they count as outside where the range took in a Relu, or a Relu6, which cut there.
    """
    if n.output[0] in g.uncut:
        return [unscaled(g, n, ct)]
    (low, high), tests = ends(g, n), list[str]()
    if costs_nothing(g, n.input[0]):
        tests = [g.op("Greater", n.x(), at(g, n, low - 0.5)), g.op("Less", n.x(), at(g, n, high + 0.5))]
    elif took_in_rectifier(g, n):
        tests = [g.op("Greater", n.real(), at(g, n, low + 0.5))]
        tests += [g.op("Less", n.real(), at(g, n, high - 0.5))] if is_six(g, n, high) else []
    dx = unscaled(g, n, ct)
    return [g.op("Where", reduce(partial(g.op, "And"), tests), dx, n.array(0)) if tests else dx]


def costs_nothing(g: Emitter, name: str) -> bool:
    """Whether reading a value keeps no operator from its integer kernel: an input or a weight, perhaps moved about."""
    while (
        (node := g.graph.maker(name)) is not None and node.op_type in MOVING | {"Gather"} and name not in g.graph.fixed
    ):
        name = node.input[0]
    return name in g.graph.inputs or name in g.graph.fixed


def took_in_rectifier(g: Emitter, n: Node) -> bool:
    """Whether a quantizer cuts at zero what may be negative. An input is no unit, and never was."""
    x = n.input[0]
    return x not in g.graph.inputs and cuts_at_zero(g.graph, n.proto) and not never_negative(g, x)


def is_six(g: Emitter, n: Node, high: int) -> bool:
    """Whether the end of a range is where a Relu6 cuts."""
    step, point = n.const(1), n.const(2) if n.has(2) else np.zeros(())
    if step is None or point is None:
        return False
    return bool(np.allclose((high - point.astype(np.float64)) * step.astype(np.float64), 6, rtol=1e-4))


@rule("DequantizeLinear", versions=VERSIONS, only=[0, 1])
@rule("DequantizeLinear", only=[0, 1], domain=MICROSOFT)
def dequantize_linear(g: Emitter, n: Node, ct: str) -> Cotangents:
    """x = (q - z) s;  dq = ct s,  ds = ct (q - z), summed over what shares a scale."""
    dq = g.op("Mul", ct, scale(g, n)) if n.wants(0) else None
    return [dq, of_scale(g, n, ct) if n.wants(1) else None]


def of_scale(g: Emitter, n: Node, ct: str) -> str:
    """ct (q - z), summed over the elements of each scale: all of them, a slice along `axis`, or a block of that."""
    shape, whole, size = n.shape(1), n.shape(), n.attr("block_size", 0)
    if shape is None or whole is None or not all(isinstance(dim, int) for dim in (*shape, *(whole if size else ()))):
        raise RuleError("the shape of its scale is not known")
    axis, points = n.axis(default=1) if shape not in ((), (1,)) else 0, n.input[2:3]
    unit = g.const(np.ones(shape), np.float32)  # by which q is dequantized to q - z
    inputs, along, block = [n.input[0], unit, *points], axis if shape else None, size or None
    integers = g.op("DequantizeLinear", *inputs, domain=n.proto.domain, axis=along, block_size=block)
    product = g.op("Mul", ct, integers)
    if not size:
        gone = [i for i in range(len(whole)) if shape in ((), (1,)) or i != axis]
        total = g.reduce("ReduceSum", product, gone, keepdims=0) if gone else product
        return g.op("Reshape", total, g.const(np.array(shape, np.int64)))
    if whole[axis] != shape[axis] * size:
        raise RuleError("its last block is not full")
    parted = g.op("Reshape", product, g.const([*whole[:axis], shape[axis], size, *whole[axis + 1 :]], np.int64))
    return g.reduce("ReduceSum", parted, [axis + 1], keepdims=0)


@rule("DynamicQuantizeLinear", versions=(11,))
def dynamic_quantize_linear(g: Emitter, n: Node, ct: str | None, ct_scale: str | None, *_: str | None) -> Cotangents:
    """q = round(x / s) + z, s = (max(x, 0) - min(x, 0)) / 255;  dx = ct / s (straight-through).

    If the integers have a cotangent, the scale's is ignored: the scale is differentiated only when it alone is used.
    """
    if ct is not None:
        return [g.op("Div", ct, n.y(1))]
    if ct_scale is None:
        raise RuleError("its zero point is not differentiated")
    step = g.op("Div", ct_scale, n.array(255))
    highest, lowest = (extreme(g, n, *bound) for bound in (("ReduceMax", "Greater"), ("ReduceMin", "Less")))
    return [g.op("Mul", step, g.op("Sub", highest, lowest))]


def extreme(g: Emitter, n: Node, op_type: str, beyond: str) -> str:
    """d max(x, 0) / d x, or of the minimum: elements that are it share it evenly."""
    bound = g.op(op_type, n.x(), keepdims=0)
    hit = g.op("And", g.op("Equal", n.x(), bound), g.op(beyond, bound, n.array(0)))
    share = g.cast(hit, n.elem_type)
    return g.op("Div", share, g.op("Max", g.op("ReduceSum", share, keepdims=0), n.array(1)))


def ends(g: Emitter, n: Node) -> tuple[int, int]:
    """The range of the integers, or numbers of 8 bits, that a node makes."""
    kind = g.graph.type(n.output[0]).elem_type
    found = RANGES.get(kind) or FLOAT8.get(kind)
    if found is None:
        raise RuleError("it quantizes to a type of unknown range")
    return found


def at(g: Emitter, n: Node, q: float) -> str:
    """What a (half) integer stands for: (q - z) s."""
    point, step = n.const(2) if n.has(2) else np.zeros(()), n.const(1)
    if point is not None and step is not None:
        real = (q - point.astype(np.float64)) * step.astype(np.float64)
        return along_axis(g, n, n.array(real), real.shape)
    steps = g.op("Sub", n.array(q), along_axis(g, n, n.x(2), n.shape(2))) if n.has(2) else n.array(q)
    return g.op("Mul", steps, scale(g, n))


def unscaled(g: Emitter, n: Node, ct: str) -> str:
    """ct / s; the very cotangent that a DequantizeLinear of the same scale multiplied with it."""
    made = g.made(ct)
    if made is not None and made.op_type == "Mul" and same_constant(g.graph, made.input[1], n.input[1]):
        return str(made.input[0])
    return g.op("Div", ct, scale(g, n))


def scale(g: Emitter, n: Node) -> str:
    """The scale, ready to broadcast; in blocks the operator itself spreads it."""
    size = n.attr("block_size", 0)
    if n.proto.op_type == "DequantizeLinear" and n.shape(1) is not None and size:
        ones = g.op("Expand", g.const(1, np.int8), g.shape_of(n.input[0]))
        return g.op("DequantizeLinear", ones, n.input[1], axis=n.attr("axis", 1), block_size=size)
    return along_axis(g, n, n.x(1), n.shape(1))


def along_axis(g: Emitter, n: Node, value: str, shape: tuple[int | str | None, ...] | None) -> str:
    """A scale or zero point, ready to broadcast: one for all or one for each slice along `axis`."""
    if shape is None or len(shape) > 1 or n.attr("block_size", 0):
        raise RuleError("its scale is neither one number nor one for each slice")
    if shape in ((), (1,)):
        return value
    return g.op("Reshape", value, g.ints(-1, *[1] * (n.rank() - n.axis(default=1) - 1)))
