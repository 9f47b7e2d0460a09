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
    as_float,
    as_rows,
    bounded,
    plane,
    plus,
    taps_along,
)


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
    padding = n.attr("padding_mode", "zeros")
    sizes = [g.dims(n.input[0], (axis, 1)) for axis in range(2, rank + 2)]
    points = g.op("Transpose", g.op("Reshape", n.x(1), g.ints(0, -1, rank)), perm=[0, 2, 1])
    alone = g.op("Unsqueeze", points, g.ints(*range(2, rank + 1)))  # (N, rank, 1..., P)
    coordinates = g.op("Split", alone, g.ints(*[1] * rank), axis=1, outputs=rank)[::-1]  # x comes first
    places = [position(g, n, p, size, aligned) for p, size in zip(coordinates, sizes, strict=True)]
    if kernel is NEAREST:
        places = [g.op("Round", place) for place in places]
    axes = [
        bounded(g, taps_along(g, place, kernel, rank - i), sizes[i], padding, aligned) for i, place in enumerate(places)
    ]
    samples = Samples(g, n, n.x(), plane(g, axes, sizes))
    dx = samples.image_cotangent(g.op("Reshape", ct, g.ints(0, 0, -1))) if n.wants(0) else None
    if not n.wants(1):
        return [dx]
    if kernel is NEAREST:
        return [dx, g.zeros_like(n.input[1], n.elem_type)]
    moved = samples.position_cotangents(as_rows(g, ct))
    if kernel is LINEAR and padding != "zeros":
        moved = [g.op("Where", at_an_end(g, n, axes[i], sizes[i]), n.array(0), d) for i, d in enumerate(moved)]
    scaled = [g.op("Mul", d, half(g, n, span(g, size, aligned))) for d, size in zip(moved, sizes, strict=True)]
    each = g.op("Reshape", g.op("Concat", *scaled[::-1], axis=1), g.ints(0, rank, -1))
    return [dx, g.reshape_to(g.op("Transpose", each, perm=[0, 2, 1]), n.input[1])]


def position(g: Emitter, n: Node, p: str, size: str, aligned: bool) -> str:
    """Pixels from -1 .. 1 across the image: across its pixels' centres when `aligned`; rounded as ONNX Runtime does."""
    one, shifted = n.array(1), g.op("Add", p, n.array(1))
    if aligned:
        return g.op("Mul", g.op("Mul", shifted, n.array(0.5)), as_float(g, n, span(g, size, True)))
    return g.op("Mul", g.op("Sub", g.op("Mul", shifted, as_float(g, n, size)), one), n.array(0.5))


def span(g: Emitter, size: str, aligned: bool) -> str:
    """The pixels that -1 .. 1 stands for."""
    return plus(g, size, -1) if aligned else size


def half(g: Emitter, n: Node, size: str) -> str:
    """Half a size, in the cotangents' type."""
    return g.op("Mul", as_float(g, n, size), n.array(0.5))


def at_an_end(g: Emitter, n: Node, taps: Taps, size: str) -> str:
    """Whether a position is just the first or the last pixel, where torch says the sample does not move."""
    first = g.op("Gather", taps.index, g.ints(0), axis=-1 - taps.after)
    end = g.op("Or", g.op("Equal", first, g.ints(0)), g.op("Equal", first, plus(g, size, -1)))
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
