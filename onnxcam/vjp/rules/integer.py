"""Operators that compute with integers: what they do, as DequantizeLinear, the operator on floats, QuantizeLinear.

The deployed node stays. The masks are read from what it gives out, so nothing here runs but products with dequantized
weights. A bias moves nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnxcam.graph import MICROSOFT
from onnxcam.vjp.body import Outputs, lowering
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Node, RuleError


def real(w: Emitter, n: Node, i: int, scale: int = -1, zero: int = -1, axis: int = 1) -> str:
    """What the integers of input i stand for; its scale and zero point follow it unless they are given."""
    scale, zero = (i + 1, i + 2) if scale < 0 else (scale, zero)
    shape = n.shape(scale)
    if shape is None or len(shape) > 1:
        raise RuleError("a scale is neither one number nor one for each slice")
    return w.op("DequantizeLinear", n.input[i], n.input[scale], n.optional(zero), axis=axis)


def quantized(w: Emitter, n: Node, value: str, scale: int) -> Outputs:
    """The integers of the node's output; the zero point follows the scale."""
    return [w.op("QuantizeLinear", value, n.input[scale], n.optional(scale + 1))]


def channels_first(w: Emitter, n: Node, x: str, function: Callable[[str], str]) -> str:
    """A function of values with channels second, on one that may have them last (`channels_last`)."""
    if not n.attr("channels_last", 0):
        return function(x)
    rank = n.rank()
    y = function(w.op("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)]))
    return w.op("Transpose", y, perm=[0, *range(2, rank), 1])


# -- convolutions and products --------------------------------------------------------------------


def qlinear_conv(w: Emitter, n: Node) -> Outputs:
    """Y = Q(Conv(dX, dW) + B);  inputs X, W, Y each with scale and zero point, B."""
    weight = real(w, n, 3, axis=0)
    attrs = n.attrs_except("channels_last")
    return quantized(w, n, channels_first(w, n, real(w, n, 0), lambda x: w.op("Conv", x, weight, **attrs)), 6)


lowering("QLinearConv", versions=(10,))(qlinear_conv)
lowering("QLinearConv", domain=MICROSOFT)(qlinear_conv)


@lowering("QLinearMatMul", versions=(10, 21))
def qlinear_matmul(w: Emitter, n: Node) -> Outputs:
    """Y = Q(dA dB)."""
    return quantized(w, n, w.op("MatMul", real(w, n, 0, axis=n.rank(0) - 2), real(w, n, 3, axis=n.rank(3) - 1)), 6)


@lowering("QGemm", domain=MICROSOFT)
def qgemm(w: Emitter, n: Node) -> Outputs:
    """Y = Q(alpha dA dB + C), or that in floats where no scale of Y is given."""
    y = w.op("Gemm", real(w, n, 0), real(w, n, 3, axis=0 if n.attr("transB", 0) else 1), **n.attrs)
    return quantized(w, n, y, 7) if n.has(7) else [y]


@lowering("ConvInteger", versions=(10,))
def conv_integer(w: Emitter, n: Node) -> Outputs:
    """Y = Conv(X - x0, W - w0), in integers; the zero point x0 moves nothing."""
    weight = shifted(w, n, 1, 3, [-1, *[1] * (n.rank(1) - 1)])
    return [w.op("Conv", n.x(0), weight, **n.attrs)]


@lowering("MatMulInteger", versions=(10,))
def matmul_integer(w: Emitter, n: Node) -> Outputs:
    """Y = (A - a0) (B - b0), in integers; a0 may be one for each row, b0 one for each column."""
    return [w.op("MatMul", shifted(w, n, 0, 2, [-1, 1]), shifted(w, n, 1, 3, [1, -1]))]


def shifted(w: Emitter, n: Node, i: int, zero: int, along: Sequence[int]) -> str:
    """Input i less its zero point, as real numbers; several zero points lie along one axis."""
    x = n.x(i) if n.wants(i) else w.cast(n.input[i], n.elem_type)
    if not n.has(zero):
        return x
    point, shape = w.cast(n.input[zero], n.elem_type), n.shape(zero) or ()
    return w.op("Sub", x, w.op("Reshape", point, w.ints(*along)) if len(shape) == 1 and shape != (1,) else point)


@lowering("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(w: Emitter, n: Node) -> Outputs:
    """Y = dA dB + b;  inputs A, B, their scales, their zero points, b."""
    return [w.op("MatMul", real(w, n, 0, 2, 4), real(w, n, 1, 3, 5, axis=n.rank(1) - 1))]


@lowering("DynamicQuantizeMatMul", domain=MICROSOFT, only=[0])
def dynamic_quantize_matmul(w: Emitter, n: Node) -> Outputs:
    """Y = A dB + b, A rounded on the way, its range as it is measured;  inputs A, B, B's scale and zero point, b."""
    return [w.op("MatMul", n.x(0), real(w, n, 1, 2, 3, axis=n.rank(1) - 1))]


@lowering("DynamicQuantizeLSTM", domain=MICROSOFT, only=[0, 5, 6])
def dynamic_quantize_lstm(w: Emitter, n: Node) -> Outputs:
    """LSTM of dW and dR, X and H rounded on the way;  inputs as of LSTM, then scale and zero point of W, of R."""
    weights = gates_first(w, n, 1, 8), gates_first(w, n, 2, 10)
    return w.op("LSTM", n.x(0), *weights, *(n.optional(i) for i in range(3, 8)), outputs=3, **n.attrs)


def gates_first(w: Emitter, n: Node, i: int, scale: int) -> str:
    """A recurrent weight, integers (directions, width, gates), as LSTM takes it: real numbers, gates in front.

    Its scale and zero point are one per direction, or one a gate of each.
    """
    rank = len(n.shape(scale) or ()) if n.has(scale) and n.has(scale + 1) else 0
    if rank not in (1, 2):
        raise RuleError("a scale is neither one number for each direction nor one for each gate")
    factor, point = (
        w.op("Unsqueeze", value, w.ints(*([1] if rank == 2 else [1, 2])))
        for value in (n.input[scale], w.cast(n.input[scale + 1], n.elem_type))
    )
    real = w.op("Mul", w.op("Sub", w.cast(n.input[i], n.elem_type), point), factor)
    return w.op("Transpose", real, perm=[0, 2, 1])


@lowering("QAttention", domain=MICROSOFT)
def qattention(w: Emitter, n: Node) -> Outputs:
    """Y = Attention(dX, dW, b);  inputs X, W, b, scale of X, of W, mask, zero point of X, of W, past."""
    inputs = [real(w, n, 0, 3, 6), real(w, n, 1, 4, 7), n.input[2], n.optional(5), n.optional(8)]
    return [w.op("Attention", *inputs, domain=MICROSOFT, **n.attrs)]


# -- element by element ---------------------------------------------------------------------------


@lowering("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def qlinear_binary(w: Emitter, n: Node) -> Outputs:
    """C = Q(dA + dB), or Q(dA dB)."""
    return quantized(w, n, w.op(n.proto.op_type.removeprefix("QLinear"), real(w, n, 0), real(w, n, 3)), 6)


@lowering("QLinearSigmoid", "QLinearLeakyRelu", domain=MICROSOFT)
def qlinear_unary(w: Emitter, n: Node) -> Outputs:
    """Y = Q(f(dX))."""
    return quantized(w, n, w.op(n.proto.op_type.removeprefix("QLinear"), real(w, n, 0), **n.attrs), 3)


@lowering("QLinearSoftmax", domain=MICROSOFT)
def qlinear_softmax(w: Emitter, n: Node) -> Outputs:
    """Y = Q(Softmax(dX)); below opset 13 over all axes from `axis` on."""
    x, axis = real(w, n, 0), n.axis()
    if n.attr("opset", 13) >= 13:
        return quantized(w, n, w.op("Softmax", x, axis=axis), 3)
    y = w.op("Softmax", w.op("Flatten", x, axis=axis), axis=1)
    return quantized(w, n, w.op("Reshape", y, w.shape_of(n.input[0])), 3)


@lowering("QLinearWhere", domain=MICROSOFT)
def qlinear_where(w: Emitter, n: Node) -> Outputs:
    """Z = Q(dX where the condition holds, else dY)."""
    return quantized(w, n, w.op("Where", n.input[0], real(w, n, 1), real(w, n, 4)), 7)


# -- pools, concatenation -------------------------------------------------------------------------


@lowering("QLinearGlobalAveragePool", "QLinearAveragePool", domain=MICROSOFT)
def qlinear_pool(w: Emitter, n: Node) -> Outputs:
    """Y = Q(pool of dX)."""
    op, attrs = n.proto.op_type.removeprefix("QLinear"), n.attrs_except("channels_last")
    if attrs.get("count_include_pad", 0) and attrs.get("ceil_mode", 0) and may_hang(n):
        raise RuleError("it rounds up to a window that reaches beyond its padding, and counts all of it: pad it before")
    return quantized(w, n, channels_first(w, n, real(w, n, 0), lambda x: w.op(op, x, **attrs)), 3)


def may_hang(n: Node) -> bool:
    """Whether the last window of a pool that rounds up may reach beyond its padding: AveragePool counts less there."""
    kernel = n.attr("kernel_shape")
    space, first = len(kernel), 1 if n.attr("channels_last", 0) else 2
    strides, pads = n.attr("strides") or [1] * space, n.attr("pads") or [0] * 2 * space
    for i, (long, step) in enumerate(zip(kernel, strides, strict=True)):
        size = n.size(first + i)
        if step > 1 and (size is None or (size + pads[i] + pads[space + i] - long) % step):
            return True
    return False


@lowering("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(w: Emitter, n: Node) -> Outputs:
    """Y = Q(dX1, dX2, ...);  inputs scale and zero point of Y, then each X with its own."""
    parts = [real(w, n, i) for i in range(2, len(n.input), 3)]
    return quantized(w, n, w.op("Concat", *parts, axis=n.attr("axis")), 0)
