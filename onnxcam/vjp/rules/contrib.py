"""Fused and renamed operators of ONNX Runtime: what they do, in standard operators."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from onnxcam.graph import ACTIVATION, MICROSOFT, activation_of, operand_order
from onnxcam.vjp.body import Outputs, lowering
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Node, RuleError

# -- normalizations -------------------------------------------------------------------------------


@lowering("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(w: Emitter, n: Node) -> Outputs:
    """S = X + skip + b, Y = LayerNormalization(S);  outputs Y, mean, 1 / deviation, S."""
    s = w.op("Add", n.x(0), n.x(1))
    s = w.op("Add", s, n.x(4)) if n.has(4) else s
    epsilon = n.attr("epsilon", 1e-12)
    return [*w.op("LayerNormalization", s, n.x(2), n.x(3), epsilon=epsilon, outputs=3), s]


@lowering("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified_layer_normalization(w: Emitter, n: Node) -> Outputs:
    """S = X + skip + b, Y = scale S / root mean square of S;  outputs Y, 0 (a mean), 1 / root mean square, S."""
    s = w.op("Add", n.x(0), n.x(1))
    s = w.op("Add", s, n.x(3)) if n.has(3) else s
    epsilon = n.attr("epsilon", 1e-12)
    y, inverse = w.op("SimplifiedLayerNormalization", s, n.x(2), axis=-1, epsilon=epsilon, outputs=2)
    return [y, w.op("Mul", w.reduce("ReduceMean", s, [-1]), n.array(0)), inverse, s]


# -- products with an activation ------------------------------------------------------------------


def activated(w: Emitter, n: Node, x: str) -> str:
    """The activation that a fused node names."""
    name, parameters = activation_of(n.attrs)
    if name == "Clip":
        return w.op("Clip", x, *(n.array(limit) for limit in parameters.values()))
    return w.op(name, x, **parameters) if name else x


@lowering("FusedConv", domain=MICROSOFT)
def fused_conv(w: Emitter, n: Node) -> Outputs:
    """Y = activation(Conv(X, W, B) + Z)."""
    y = w.op("Conv", n.x(0), n.x(1), n.x(2), **n.attrs_except(*ACTIVATION))
    y = w.op("Add", y, n.x(3)) if n.has(3) else y
    return [activated(w, n, y)]


@lowering("FusedGemm", domain=MICROSOFT)
def fused_gemm(w: Emitter, n: Node) -> Outputs:
    """Y = activation(Gemm(A, B, C))."""
    return [activated(w, n, w.op("Gemm", n.x(0), n.x(1), n.x(2), **n.attrs_except(*ACTIVATION)))]


@lowering("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def fused_matmul(w: Emitter, n: Node) -> Outputs:
    """Y = alpha A' B', A' and B' transposed as their attributes say."""
    if n.attr("transA", 0) and n.rank(1) == 1:
        raise RuleError("it turns a matrix in front of a vector, which ONNX Runtime reads as it is")
    y = w.op("MatMul", *(operand(w, n, i, side) for i, side in enumerate("AB")))
    return [y if n.attr("alpha", 1.0) == 1 else w.op("Mul", y, n.array(n.attr("alpha")))]


def operand(w: Emitter, n: Node, i: int, side: str) -> str:
    """One side of a FusedMatMul, turned."""
    return w.op("Transpose", n.x(i), perm=operand_order(n.attrs, side, n.rank(i)))


@lowering("MatMulNBits", domain=MICROSOFT)
def matmul_of_bits(w: Emitter, n: Node) -> Outputs:
    """Y = A W^T + b, W = (B - z) s, the rows of B packed into bytes, z and s one a block of columns."""
    if n.attr("weight_prepacked", 0):
        raise RuleError("its weight is packed for one machine; quantize the model without weight_prepacked")
    bits, columns, size = n.attr("bits", 4), n.attr("K"), n.attr("block_size")
    if n.has(4) and (n.has(3) or bits == 2):  # ONNX Runtime 1.31 leaves the zero points out then, or computes others
        raise RuleError(
            "it has an order of its columns (g_idx) and zero points, or 2 bits, which kernels do not agree on"
        )
    blocks = -(-columns // size)
    rows = w.ints(n.attr("N"), -1)

    def columns_of(values: str, count: int) -> str:
        return w.op("Slice", w.op("Reshape", values, rows), w.ints(0), w.ints(count), w.ints(1))

    block = n.input[4] if n.has(4) else w.const(np.arange(columns) // size, np.int64)
    scale = w.op("Gather", w.op("Reshape", n.x(2), rows), block, axis=1)
    if not n.has(3):
        zero = n.array(2 ** (bits - 1))
    else:
        packed = w.graph.type(n.input[3]).elem_type == TensorProto.UINT8
        points = unpacked(w, n, w.op("Reshape", n.input[3], rows), bits) if packed else n.x(3)
        zero = w.op("Gather", columns_of(points, blocks), block, axis=1)
    weight = w.op("Mul", w.op("Sub", columns_of(unpacked(w, n, n.input[1], bits), columns), zero), scale)
    y = w.op("MatMul", n.x(0), w.op("Transpose", weight, perm=[1, 0]))
    return [w.op("Add", y, n.x(5)) if n.has(5) else y]


def unpacked(w: Emitter, n: Node, packed: str, bits: int) -> str:
    """Whole numbers out of bytes, the lowest bits first, along a new last axis."""
    left, parts = w.cast(packed, n.elem_type), list[str]()
    for _ in range(8 // bits):
        rest = w.op("Floor", w.op("Div", left, n.array(2**bits)))
        parts.append(w.op("Unsqueeze", w.op("Sub", left, w.op("Mul", rest, n.array(2**bits))), w.ints(-1)))
        left = rest
    return w.op("Concat", *parts, axis=-1)


# -- standard operators under another name --------------------------------------------------------


@lowering("NhwcMaxPool", domain=MICROSOFT)
def nhwc_max_pool(w: Emitter, n: Node) -> Outputs:
    """MaxPool with the channels last."""
    rank = n.rank()
    x = w.op("Transpose", n.x(), perm=[0, rank - 1, *range(1, rank - 1)])
    return [w.op("Transpose", w.op("MaxPool", x, **n.attrs), perm=[0, *range(2, rank), 1])]


@lowering("Pad", domain=MICROSOFT, only=[0, 2])
def pad(w: Emitter, n: Node) -> Outputs:
    """Pad."""
    return [w.op("Pad", n.x(0), *n.input[1:2], n.x(2), **n.attrs)]


@lowering("Trilu", domain=MICROSOFT, only=[0])
def trilu(w: Emitter, n: Node) -> Outputs:
    """Trilu."""
    return [w.op("Trilu", n.x(), *n.input[1:], **n.attrs)]


@lowering("ExpandDims", domain=MICROSOFT, only=[0])
def expand_dims(w: Emitter, n: Node) -> Outputs:
    """Unsqueeze along one axis."""
    axis = n.number(1)
    if axis is None:
        raise RuleError("its axis is computed")
    return [w.op("Unsqueeze", n.x(), w.ints(int(axis)))]


@lowering("GatherND", domain=MICROSOFT, only=[0])
def gather_nd(w: Emitter, n: Node) -> Outputs:
    """GatherND."""
    return [w.op("GatherND", n.x(), w.cast(n.input[1], TensorProto.INT64))]


# -- sampling and rotation ------------------------------------------------------------------------


@lowering("CropAndResize", domain=MICROSOFT, only=[0, 1])
def crop_and_resize(w: Emitter, n: Node) -> Outputs:
    """Y_r = A X A'^T where both positions lie inside X, A and A' the weights of rows and columns for region r."""
    size = n.const(3)
    if size is None:
        raise RuleError("its size is computed")
    x = w.op("Gather", n.x(0), n.input[2], axis=0)
    rows, inside_rows = sampled(w, n, int(size[0]), (0, 2), 2)
    columns, inside_columns = sampled(w, n, int(size[1]), (1, 3), 3)
    y = w.op("MatMul", w.op("Unsqueeze", rows, w.ints(1)), x)
    y = w.op("MatMul", y, w.op("Unsqueeze", w.op("Transpose", columns, perm=[0, 2, 1]), w.ints(1)))
    inside = w.op("And", w.op("Unsqueeze", inside_rows, w.ints(1, 3)), w.op("Unsqueeze", inside_columns, w.ints(1, 2)))
    return [w.op("Where", inside, y, n.array(n.attr("extrapolation_value", 0.0)))]


def sampled(w: Emitter, n: Node, count: int, ends: tuple[int, int], axis: int) -> tuple[str, str]:
    """Weights [regions, count, size] of `count` positions along an axis, and which of these lie inside."""
    last = w.op("Sub", w.cast(w.dims(n.input[0], (axis, 1)), n.elem_type), n.array([1]))
    start, end = (w.op("Gather", n.x(1), w.ints(i), axis=1) for i in ends)
    steps = np.linspace(0, 1, count)[None] if count > 1 else np.full((1, 1), 0.5)
    part = w.op("Add", start, w.op("Mul", w.op("Sub", end, start), n.array(steps)))
    position = w.op("Mul", part, last)
    inside = w.op("And", w.op("GreaterOrEqual", position, n.array(0)), w.op("LessOrEqual", position, last))
    if n.attr("mode", "bilinear") == "nearest":
        position = w.op("Floor", w.op("Add", position, n.array(0.5)))
    places = w.op("Range", n.array(0), w.op("Add", w.op("Squeeze", last), n.array(1)), n.array(1))
    distance = w.op("Abs", w.op("Sub", w.op("Unsqueeze", position, w.ints(2)), places))
    return w.op("Relu", w.op("Sub", n.array(1), distance)), inside
