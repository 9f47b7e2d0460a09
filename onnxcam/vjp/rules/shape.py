"""Operators that move elements without changing them."""

from __future__ import annotations

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, rule
from onnxcam.vjp.rules.activation import is_rectified, where_positive


@rule("Reshape", versions=(14, 19, 21, 23, 24, 25))
@rule("Flatten", versions=(13, 21, 23, 24, 25))
@rule("Squeeze", "Unsqueeze", versions=(13, 21, 23, 24, 25))
def reshape(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct in x's shape."""
    return [g.reshape_to(ct, n.input[0])]


@rule("Transpose", versions=(13, 21, 23, 24, 25))
def transpose(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct under the inverse permutation."""
    perm = n.attr("perm") or list(range(n.rank()))[::-1]
    return [g.op("Transpose", ct, perm=[perm.index(axis) for axis in range(len(perm))] or None)]


@rule("Expand", versions=(13,), broadcasts=True)
def expand(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct summed over the axes that were spread."""
    return [ct]


@rule("Tile", versions=(13,))
def tile(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct summed over the repeats."""
    repeats = g.op("Unsqueeze", n.input[1], g.ints(1))
    sizes = g.op("Unsqueeze", g.shape_of(n.input[0]), g.ints(1))
    pairs = g.op("Reshape", g.op("Concat", repeats, sizes, axis=1), g.ints(-1))
    return [g.reduce("ReduceSum", g.op("Reshape", ct, pairs), range(0, 2 * n.rank(), 2), keepdims=0)]


@rule("Concat", versions=(13,))
def concat(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx_i = its part of ct. What Relus before it would stop is stopped here, all at once."""
    if len(n.input) == 1:
        return [ct]
    stopped = (ct, n.output[0]) in g.stopped
    if not stopped and not n.is_quantized() and all(is_rectified(g, n, name) for name in n.input):
        ct, stopped = where_positive(g, n, n.y(), ct), True
    axis = n.axis()
    sizes = g.dims_of(axis, n.input)
    parts = g.op("Split", ct, sizes, axis=axis, outputs=len(n.input))
    g.stopped.update(zip(parts, n.input, strict=True) if stopped else ())
    return parts


@rule("Split", versions=(13, 18))
def split(g: Emitter, n: Node, *cts: str | None) -> Cotangents:
    """dx = the parts put together, zeros for parts that nobody used."""
    parts = [ct or g.zeros_like(name, n.elem_type) for ct, name in zip(cts, n.output, strict=True)]
    return [g.op("Concat", *parts, axis=n.axis(0)) if len(parts) > 1 else parts[0]]


@rule("CenterCropPad", versions=(18,), only=[0])
def center_crop_pad(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct padded where x was cropped, cropped where it was padded: the same operator, back to x's shape."""
    axes = n.attr("axes")
    shape = g.shape_of(n.input[0]) if axes is None else g.dims(n.input[0], *((axis % n.rank(), 1) for axis in axes))
    return [g.op("CenterCropPad", ct, shape, axes=axes)]


@rule("DepthToSpace", versions=(13, 28))
def depth_to_space(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct, each block of pixels back into channels."""
    b = n.attr("blocksize")
    if n.attr("mode", "DCR") == "DCR":
        return [g.op("SpaceToDepth", ct, blocksize=b)]
    blocks = g.op("Reshape", ct, g.dims(n.input[0], (0, 1), -1, (2, 1), b, (3, 1), b))
    return [g.reshape_to(g.op("Transpose", blocks, perm=[0, 1, 3, 5, 2, 4]), n.input[0])]


@rule("SpaceToDepth", versions=(13, 28))
def space_to_depth(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct, channels back into blocks of pixels."""
    return [g.op("DepthToSpace", ct, blocksize=n.attr("blocksize"), mode="DCR")]


@rule("CumSum", versions=(14,))
def cumulative_sum(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct summed from the other end."""
    return [g.op("CumSum", ct, n.input[1], exclusive=n.attr("exclusive", 0), reverse=1 - n.attr("reverse", 0))]


@rule("CumProd", versions=(26,))
def cumulative_product(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = products times ct summed from the other end, over x; right also where x, or others, are 0.

    A product that has a 0 moves only with that 0, and only if it is the only one.
    """
    axis, attrs = n.input[1], {name: n.attr(name, 0) for name in ("exclusive", "reverse")}
    is_zero, zero = g.op("Equal", n.x(), n.array(0)), n.array(0)
    zeros = g.op("CumSum", g.cast(is_zero, n.elem_type), axis, **attrs)
    filled = g.op("Where", is_zero, n.array(1), n.x())
    each = g.op("Mul", ct, g.op("CumProd", filled, axis, **attrs))
    back = {**attrs, "reverse": 1 - attrs["reverse"]}
    without, alone = (
        g.op("CumSum", g.op("Where", g.op("Equal", zeros, n.array(count)), each, zero), axis, **back)
        for count in (0, 1)
    )
    return [g.op("Where", is_zero, alone, g.op("Div", without, filled))]


@rule("Trilu", versions=(14,))
def triangle(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = the same triangle of ct."""
    return [g.op("Trilu", ct, *n.input[1:], upper=n.attr("upper", 1))]
