"""Pooling of regions of interest.

The samples of a region lie on a grid. So an average is a matrix product, Y[r, c] = A[r] X[image of r, c] B[r]^T, with
what each bin reads along one axis as a row of A or B; and so are its adjoints. Of a maximum the winner is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import ZERO, Cotangents, Node, RuleError, rule
from onnxcam.vjp.rules.indexing import as_int64, positions
from onnxcam.vjp.rules.resize import with_zeros
from onnxcam.vjp.rules.sampling import LINEAR, Taps, bounded, pixels_of, plus, taps_along

MOST_BINS = 4096  # along one axis of a region


@dataclass(frozen=True)
class Bins:
    """What the bins of R regions read along one axis: P bins, S samples each, two taps a sample.

    Attributes:
        taps: (R, P, S, 2); `there` where a sample exists and lies in the image.
        exists: (R, P, S, 1), or "" where all samples do.
        count: (R, 1, 1) or a scalar, samples a bin, at least 1.
        share: (R, P, S), how much of a move of the region's high end moves the sample.
        moves: (R, P, S), whether the sample moves with the region at all.
        size: pixels of the image, a vector of one.
    """

    taps: Taps
    exists: str
    count: str
    share: str
    moves: str
    size: str


@rule("RoiAlign", versions=(16, 22), only=[0, 1])
def roi_align(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Avg: Y = A X B^T of a region;  dX = A^T ct B, d rois through the slopes of A and B. Max: dX[winner] = w ct."""
    offset = 0.5 if n.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel" else 0.0
    ct, rois, image = (one_more(g, n, value, rank) for value, rank in ((ct, 4), (n.x(1), 2), (n.input[2], 1)))
    scaled = g.op("Sub", g.op("Mul", rois, n.array(n.attr("spatial_scale", 1.0))), n.array(offset))
    left, top, right, bottom = g.op("Split", scaled, g.ints(1, 1, 1, 1), axis=1, outputs=4)
    down, across = bins(g, n, top, bottom, "output_height", 2), bins(g, n, left, right, "output_width", 3)
    if n.attr("mode", "avg") == "max":
        if n.wants(1):
            raise RuleError("its regions depend on the input, and it takes their maximum")
        return [winners(g, n, ct, image, reads(g, n, down), reads(g, n, across))]
    average = Average(g, n, ct, matrix(g, n, down), matrix(g, n, across), image)
    dx = average.image_cotangent() if n.wants(0) else None
    if not n.wants(1):
        return [dx]
    ends = [*edges(g, n, across, average.columns_cotangent()), *edges(g, n, down, average.rows_cotangent())]
    moved = g.op("Concat", *(ends[i] for i in (0, 2, 1, 3)), axis=1)
    moved = g.op("Slice", moved, g.ints(0), g.dims(n.input[1], (0, 1)))
    return [dx, g.op("Mul", moved, n.array(n.attr("spatial_scale", 1.0)))]


def one_more(g: Emitter, n: Node, value: str, rank: int) -> str:
    """One region of zeros more, where there may be none at all: products over nothing are undefined in ONNX Runtime."""
    return value if n.size(0, 1) else with_zeros(g, value, 0, rank)


def checked(number: int, least: int = 1) -> int:
    """A number of bins or samples along one axis."""
    if not least <= number <= MOST_BINS:
        raise RuleError(f"it asks for {number} bins or samples along an axis")
    return number


def bins(g: Emitter, n: Node, low: str, high: str, name: str, axis: int) -> Bins:
    """The bins along one axis of regions from `low` to `high` (R, 1), in ONNX Runtime's arithmetic."""
    pooled, ratio = checked(n.attr(name, 1)), checked(n.attr("sampling_ratio", 0), least=0)
    half_pixel = n.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    extent = g.op("Sub", high, low)
    length = extent if half_pixel else g.op("Max", extent, n.array(1))
    step = g.op("Unsqueeze", g.op("Div", length, n.array(pooled)), g.ints(2))  # (R, 1, 1)
    if ratio > 0:
        steps, count, exists = n.array(np.arange(ratio)), n.array(ratio), ""
    else:
        each = g.op("Ceil", step)
        most = g.op("ReduceMax", g.op("Concat", n.array([1]), g.op("Reshape", each, g.ints(-1)), axis=0), keepdims=0)
        steps, count = g.op("Range", n.array(0), most, n.array(1)), g.op("Max", each, n.array(1))
        exists = g.op("Unsqueeze", g.op("Less", steps, each), g.ints(3))
    middle, bin_number = g.op("Add", steps, n.array(0.5)), n.array(np.arange(pooled)[:, None])
    first = g.op("Add", g.op("Unsqueeze", low, g.ints(2)), g.op("Mul", bin_number, step))
    place = g.op("Add", first, g.op("Div", g.op("Mul", middle, step), count))
    share = g.op("Mul", g.op("Add", bin_number, g.op("Div", middle, count)), n.array(1 / pooled))
    if not half_pixel:  # a region is never smaller than a pixel
        grows = g.cast(g.op("Greater", extent, n.array(1)), n.elem_type)
        share = g.op("Mul", share, g.op("Unsqueeze", grows, g.ints(2)))
    return clipped(g, n, g.dims(n.input[0], (axis, 1)), place, exists, count, share)


def clipped(g: Emitter, n: Node, size: str, place: str, exists: str, count: str, share: str) -> Bins:
    """Samples up to a pixel outside are moved to the nearest pixel, those beyond count as 0."""
    pixels = g.cast(size, TensorProto.INT32)
    zero, last = n.array(0), g.cast(plus(g, pixels, -1), n.elem_type)
    inside = g.op("Max", g.op("Min", place, last), zero)
    there = g.op(
        "And", g.op("GreaterOrEqual", place, n.array(-1)), g.op("LessOrEqual", place, g.cast(size, n.elem_type))
    )
    there = g.op("Unsqueeze", there, g.ints(3))
    taps = bounded(g, taps_along(g, n, g.op("Unsqueeze", inside, g.ints(3)), LINEAR), pixels)
    taps = replace(taps, there=g.op("And", there, exists) if exists else there)
    moves = g.op("And", g.op("Greater", place, zero), g.op("Less", place, last))
    return Bins(taps, exists, count, share, moves, size)


def merged(g: Emitter, value: str, axes: Bins) -> str:
    """(R, P, S, 2) as (R, P, 2 S), what broadcasts in full."""
    return g.op("Reshape", g.op("Expand", value, g.op("Shape", axes.taps.index)), g.ints(0, 0, -1))


# -- averages -------------------------------------------------------------------------------------


def matrix(g: Emitter, n: Node, axis: Bins) -> str:
    """(R, P, size): what every bin reads of every pixel along one axis."""
    index = merged(g, axis.taps.index, axis)
    shape = g.op("Concat", g.op("Slice", g.op("Shape", index), g.ints(0), g.ints(2)), axis.size, axis=0)
    zeros = g.op("Expand", n.array(0), shape)
    total = g.op("ScatterElements", zeros, index, merged(g, axis.taps.weight(g, n), axis), axis=2, reduction="add")
    return g.op("Div", total, axis.count)


class Average:
    """The adjoints of Y = A X B^T: (R, C, P, Q) from A (R, P, H), X (N, C, H, W) and B (R, Q, W); `image` (R,)."""

    def __init__(self, g: Emitter, n: Node, ct: str, a: str, b: str, image: str) -> None:
        self.g, self.n, self.ct, self.b, self.image = g, n, ct, b, image
        self.half = g.op("MatMul", g.op("Unsqueeze", g.op("Transpose", a, perm=[0, 2, 1]), g.ints(1)), ct)  # A^T ct

    def image_cotangent(self) -> str:
        """dX: A^T ct B, summed over the regions of each image."""
        g = self.g
        b = g.op("Mul", g.op("Unsqueeze", self.b, g.ints(0)), self._of_image())  # (N, R, Q, W)
        left = flattened(g, g.op("Transpose", self.half, perm=[1, 2, 0, 3]))  # (C H, R Q)
        return g.reshape_to(g.op("MatMul", left, stacked(g, b)), self.n.input[0])

    def rows_cotangent(self) -> str:
        """dA: ct B X^T, (R, P, H)."""
        g = self.g
        right = g.op("MatMul", self.ct, g.op("Unsqueeze", self.b, g.ints(1)))  # (R, C, P, W)
        turned = g.op("Transpose", self.n.x(), perm=[0, 1, 3, 2])
        return self._against(g.op("Transpose", right, perm=[0, 2, 1, 3]), turned)

    def columns_cotangent(self) -> str:
        """dB: (A^T ct)^T X, (R, Q, W)."""
        return self._against(self.g.op("Transpose", self.half, perm=[0, 3, 1, 2]), self.n.x())

    def _against(self, value: str, image: str) -> str:
        """(R, P, C, K) times the region's image (N, C, K, L), summed over C and K: (R, P, L)."""
        g = self.g
        product = g.op("MatMul", flattened(g, value), stacked(g, image))  # (N, R P, L)
        sizes = [
            g.op("Slice", g.op("Shape", of), g.ints(start), g.ints(end)) for of, start, end in
            ((image, 0, 1), (value, 0, 2), (image, 3, 4))
        ]  # fmt: skip
        split = g.op("Reshape", product, g.op("Concat", *sizes, axis=0))
        return g.reduce("ReduceSum", g.op("Mul", split, self._of_image()), [0], keepdims=0)

    def _of_image(self) -> str:
        """(N, R, 1, 1): 1 where the region lies in the image."""
        g, n = self.g, self.n
        numbers = g.op("Reshape", positions(g, n, 0), g.ints(-1, 1))
        same = g.op("Equal", numbers, g.op("Unsqueeze", as_int64(g, self.image), g.ints(0)))
        return g.op("Unsqueeze", g.cast(same, n.elem_type), g.ints(2, 3))


def flattened(g: Emitter, value: str) -> str:
    """(K, L, M, N) as (K L, M N)."""
    return g.op("Flatten", value, axis=2)


def stacked(g: Emitter, value: str) -> str:
    """(K, L, M, N) as (K, L M, N)."""
    return g.op("Reshape", value, g.dims(value, 0, -1, (3, 1)))


def edges(g: Emitter, n: Node, axis: Bins, ct: str) -> tuple[str, str]:
    """The cotangents (R, 1) of the regions' low and high ends, given that of their matrix (R, P, size)."""
    of_taps = g.op("GatherElements", ct, merged(g, axis.taps.index, axis), axis=2)
    of_taps = g.op("Reshape", of_taps, g.op("Shape", axis.taps.index))
    each = g.reduce("ReduceSum", g.op("Mul", of_taps, axis.taps.slope(g, n)), [3], keepdims=0)
    each = g.op("Where", axis.moves, g.op("Div", each, axis.count), n.array(0))
    high = g.op("Mul", each, axis.share)
    low = g.op("Sub", each, high)
    low, high = (g.op("Unsqueeze", g.reduce("ReduceSum", end, [1, 2], keepdims=0), g.ints(1)) for end in (low, high))
    return low, high


# -- maxima ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reads:
    """What the bins of R regions read along one axis: K pixels (R, P, K), their weights, and which of them exist."""

    index: str
    weight: str
    exists: str


def reads(g: Emitter, n: Node, axis: Bins) -> Reads:
    """The taps of all samples of a bin in a row."""
    exists = axis.exists or g.const(True)
    return Reads(*(merged(g, value, axis) for value in (as_int64(g, axis.taps.index), axis.taps.weight(g, n), exists)))


def winners(g: Emitter, n: Node, ct: str, image: str, down: Reads, across: Reads) -> str:
    """dX where each bin is the largest of weight x pixel; `image` (R,) is the image of each region."""
    batch, channels = (g.dims(n.input[0], (axis, 1)) for axis in (0, 1))
    pixels = pixels_of(g, n.input[0], 2)
    rows, columns = (
        [g.op("Unsqueeze", part, g.ints(*new)) for part in (reads.index, reads.weight, reads.exists)]
        for reads, new in ((down, (2, 4)), (across, (1, 3)))
    )  # (R, P, 1, K, 1), (R, 1, Q, 1, L)
    index = g.op("Add", g.op("Mul", rows[0], g.dims(n.input[0], (3, 1))), columns[0])
    index = g.op("Add", index, g.op("Unsqueeze", g.op("Mul", as_int64(g, image), pixels), g.ints(1, 2, 3, 4)))
    whole = g.op("Shape", index)
    bins_and_taps = [
        g.op("ReduceProd", g.op("Slice", whole, g.ints(a), g.ints(b)), keepdims=1) for a, b in ((0, 3), (3, 5))
    ]
    flat = g.op("Concat", *bins_and_taps, axis=0)
    index, weight, exists = (
        g.op("Reshape", g.op("Expand", value, whole), flat)
        for value in (index, g.op("Mul", rows[1], columns[1]), g.op("And", rows[2], columns[2]))
    )
    read = g.op("Mul", g.op("Gather", as_rows(g, n.x()), index), g.op("Unsqueeze", weight, g.ints(2)))
    read = g.op("Where", g.op("Unsqueeze", exists, g.ints(2)), read, n.array(-np.inf))
    best = g.op("ArgMax", read, axis=1, keepdims=0)  # (bins, C)
    shares = g.op("Mul", as_rows(g, ct), g.op("GatherElements", weight, best, axis=1))
    zeros = g.op("Expand", n.array(0), g.op("Concat", g.op("Mul", batch, pixels), channels, axis=0))
    added = g.op("ScatterElements", zeros, g.op("GatherElements", index, best, axis=1), shares, axis=0, reduction="add")
    turned = g.op("Transpose", g.op("Reshape", added, g.op("Concat", batch, pixels, channels, axis=0)), perm=[0, 2, 1])
    return g.reshape_to(turned, n.input[0])


def as_rows(g: Emitter, image: str) -> str:
    """(B, C, *S) as (B S, C)."""
    turned = g.op("Transpose", g.op("Reshape", image, g.ints(0, 0, -1)), perm=[0, 2, 1])
    return g.op("Flatten", turned, axis=2)


@rule("MaxRoiPool", versions=(1, 22))
def max_roi_pool(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dX[argmax] += ct, the first maximum of a bin; an empty bin gives nothing. The regions' ends are rounded."""
    ct, rois = one_more(g, n, ct, 4), one_more(g, n, n.x(1), 2)
    image, left, top, right, bottom = g.op("Split", rois, g.ints(1, 1, 1, 1, 1), axis=1, outputs=5)
    pooled = [checked(size) for size in n.attr("pooled_shape")]
    down, across = pixel_bins(g, n, top, bottom, pooled[0], 2), pixel_bins(g, n, left, right, pooled[1], 3)
    return [winners(g, n, ct, g.op("Squeeze", image, g.ints(1)), down, across), ZERO]


def pixel_bins(g: Emitter, n: Node, low: str, high: str, pooled: int, axis: int) -> Reads:
    """The pixels of the bins along one axis of regions from `low` to `high` (R, 1), ends included."""
    size, scale = g.dims(n.input[0], (axis, 1)), n.array(n.attr("spatial_scale", 1.0))
    ends = [g.op("Mul", end, scale) for end in (low, high)]
    away = [g.op("Floor", g.op("Add", g.op("Abs", end), n.array(0.5))) for end in ends]  # halves away from 0
    first, last = (g.op("Mul", g.op("Sign", end), whole) for end, whole in zip(ends, away, strict=True))
    length = g.op("Max", g.op("Add", g.op("Sub", last, first), n.array(1)), n.array(1))
    step = g.op("Div", length, n.array(pooled))
    starts = g.op("Floor", g.op("Mul", step, n.array(np.arange(pooled))))
    stops = g.op("Ceil", g.op("Mul", step, n.array(np.arange(1, pooled + 1))))
    begin, end = (
        g.op("Max", g.op("Min", as_int64(g, g.op("Add", edge, first)), size), g.ints(0)) for edge in (starts, stops)
    )  # (R, P)
    widths = g.op("Reshape", g.op("Sub", end, begin), g.ints(-1))
    most = g.op("ReduceMax", g.op("Concat", g.ints(1), widths, axis=0), keepdims=0)
    steps = g.arange(most)
    index = g.op("Add", g.op("Unsqueeze", begin, g.ints(2)), steps)
    exists = g.op("Less", index, g.op("Unsqueeze", end, g.ints(2)))
    return Reads(g.op("Min", index, g.op("Sub", size, g.ints(1))), g.cast(exists, n.elem_type), exists)
