"""Sampling at the points of a grid."""

from __future__ import annotations

import numpy as np

from onnxcam.graph import MICROSOFT
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError, rule
from onnxcam.vjp.rules.sampling import (
    KERNELS,
    LINEAR,
    NEAREST,
    Samples,
    Taps,
    along_axes,
    bounded,
    number,
    pixels_of,
    plus,
    sizes_of,
    strides_of,
    taps_along,
)

MOST_AXES = 3  # of an image that is sampled


@rule("GridSample", versions=(16, 20, 22))
@rule("GridSample", domain=MICROSOFT)
def grid_sample(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = X sampled at the grid's points;  dX = ct by the samples' weights, d grid = ct X by their slopes.

    The taps that lie outside are folded back, not the position: that is the same, since all kernels are symmetric.
    """
    rank = n.rank() - 2
    kernel, aligned = KERNELS.get(mode := n.attr("mode", "linear")), bool(n.attr("align_corners", 0))
    if kernel is None:
        raise RuleError(f"its mode '{mode}' is none of {', '.join(KERNELS)}")
    if not 1 <= rank <= MOST_AXES:
        raise RuleError(f"its images have {rank} axes")
    padding, sizes = n.attr("padding_mode", "zeros"), sizes_of(g, n.input[0], rank)
    size = along_axes(g, sizes[::-1])  # a point is x, y, ...: the last axis first
    span = g.cast(plus(g, size, -1) if aligned else size, n.elem_type)  # the pixels that -1 .. 1 stands for
    place = position(g, n, axes_in_front(g, n.x(1), rank), span, aligned)
    if kernel is NEAREST:
        place = g.op("Round", place)
    taps = bounded(g, taps_along(g, n, place, kernel.around(rank)), size, padding, aligned)
    samples = Samples(g, n, n.x(), taps, strides_of(g, sizes)[::-1], pixels_of(g, n.output[0], rank))
    ct = g.op("Reshape", ct, g.ints(0, 0, -1))
    dx = samples.image_cotangent(ct) if n.wants(0) else None
    if not n.wants(1):
        return [dx]
    if kernel is NEAREST:
        return [dx, g.zeros_like(n.input[1], n.elem_type)]
    moved = g.op("Mul", samples.position_cotangents(samples.agreement(ct)), g.op("Mul", span, n.array(0.5)))
    if kernel is LINEAR and padding != "zeros":
        moved = g.op("Where", at_an_end(g, n, taps, size), n.array(0), moved)
    return [dx, g.reshape_to(g.op("Transpose", moved, perm=[0, 2, 3, 1]), n.input[1])]


def axes_in_front(g: Emitter, points: str, rank: int) -> str:
    """Points (N, ..., axes) as (N, axes, 1, P).

    ONNX Runtime would move a Transpose behind all that is worked out of the points, and do that bit by bit.
    """
    parts = g.op("Split", points, g.ints(*[1] * rank), axis=-1, outputs=rank)
    return g.op("Concat", *(g.op("Reshape", part, g.ints(0, 1, 1, -1)) for part in parts), axis=1)


def position(g: Emitter, n: Node, points: str, span: str, aligned: bool) -> str:
    """Pixels from -1 .. 1 across the image: across its pixels' centres when `aligned`; rounded as ONNX Runtime does."""
    one, half = n.array(1), n.array(0.5)
    shifted = g.op("Add", points, one)
    if aligned:
        return g.op("Mul", g.op("Mul", shifted, half), span)
    return g.op("Mul", g.op("Sub", g.op("Mul", shifted, span), one), half)


def at_an_end(g: Emitter, n: Node, taps: Taps, size: str) -> str:
    """Where a position is just the first or the last pixel: there, torch says, the sample does not move."""
    first = g.op("Gather", taps.index, g.ints(0), axis=2)
    end = g.op("Or", g.op("Equal", first, number(g, 0)), g.op("Equal", first, plus(g, size, -1)))
    return g.op("And", end, g.op("Equal", taps.fraction, n.array(0)))


@rule("AffineGrid", versions=(20,), only=[0])
def affine_grid(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = theta times the points (x, y, 1);  d theta = ct^T times the points, which the identity's grid is."""
    length = n.size(0, 1)
    if length is None:
        raise RuleError("the number of its dimensions is computed")
    rank = length - 2
    identity = g.op("Expand", n.array(np.eye(rank, rank + 1)[None]), g.op("Shape", n.input[0]))
    grid = g.op("AffineGrid", identity, n.input[1], **n.attrs)
    points, rows = (g.op("Reshape", value, g.ints(0, -1, rank)) for value in (grid, ct))
    with_one = g.op("Pad", points, g.ints(0, 0, 0, 0, 0, 1), n.array(1))
    return [g.op("MatMul", g.op("Transpose", rows, perm=[0, 2, 1]), with_one)]
