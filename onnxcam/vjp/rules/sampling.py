"""Sampling at computed positions.

A sample is a weighted sum of the pixels around its position: y[m] = sum over t of weight[m, t] x[index[m, t]]. The
weights are piecewise polynomials of the position, so one table of taps gives all adjoints: that of the image (shares of
ct, added up where samples meet) and that of the positions (through the slopes of the weights).

What is said of samples has them along the last axis, so that whatever is worked out runs over many numbers at a time.
Images are read by Gather, a row per pixel, a column per channel; they are added to as they are by ScatterElements
along their pixels. (ScatterND(reduction="add") loses updates when ONNX Runtime runs it on several threads.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Node
from onnxcam.vjp.rules.indexing import as_int64

Rows = Sequence[Sequence[float]]
SMALL, WIDE = 128, 4  # pixels, per tap and per tap and channel, up to which a product is faster and holds no more


# -- taps -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kernel:
    """How pixels are weighted: the taps beside floor(position), and their weights by power of the fraction."""

    taps: tuple[int, ...]
    weights: Rows

    @property
    def slopes(self) -> Rows:
        """The derivative of the weights, in the same form; the nearest pixel's has none."""
        return [[power * w for w in row] for power, row in enumerate(self.weights)][1:]


_A = -0.75  # of Keys' cubic convolution, in ONNX Runtime as in torch
NEAREST = Kernel((0,), [[1]])
LINEAR = Kernel((0, 1), [[1, 0], [-1, 1]])
CUBIC = Kernel(
    (-1, 0, 1, 2), [[0, 1, 0, 0], [_A, 0, -_A, 0], [-2 * _A, -_A - 3, 2 * _A + 3, _A], [_A, _A + 2, -_A - 2, -_A]]
)
KERNELS = {"nearest": NEAREST, "bilinear": LINEAR, "linear": LINEAR, "bicubic": CUBIC, "cubic": CUBIC}


@dataclass(frozen=True)
class Taps:
    """The pixels that samples read along one axis.

    The shapes of all values have an axis of taps for each spatial axis; this axis' is the one before `after` others.

    Attributes:
        index: int64, which pixels.
        fraction: how far beyond the tap 0 the position lies, 0 <= fraction < 1.
        there: which taps count; "": all.
    """

    kernel: Kernel
    index: str
    fraction: str
    after: int
    there: str = ""

    def weight(self, g: Emitter, n: Node) -> str:
        """How much of each pixel is read."""
        return self._polynomial(g, n, self.kernel.weights)

    def slope(self, g: Emitter, n: Node) -> str:
        """The derivative of the weights by the position."""
        return self._polynomial(g, n, self.kernel.slopes)

    def _polynomial(self, g: Emitter, n: Node, rows: Rows) -> str:
        value, *lower = [n.array(np.reshape(row, (-1, *[1] * self.after))) for row in reversed(rows)]
        for row in lower:
            value = g.op("Add", g.op("Mul", value, self.fraction), row)
        return g.op("Where", self.there, value, n.array(0)) if self.there else value


def taps_along(g: Emitter, position: str, kernel: Kernel, after: int = 0) -> Taps:
    """The taps of samples at `position` along an axis that has no end; its shape has ones for the axes of taps."""
    floor = g.op("Floor", position)
    offsets = g.const(np.reshape(kernel.taps, (-1, *[1] * after)), np.int64)
    return Taps(kernel, g.op("Add", as_int64(g, floor), offsets), g.op("Sub", position, floor), after)


def bounded(g: Emitter, taps: Taps, size: str, padding: str = "border", aligned: bool = False) -> Taps:
    """The same on an axis of `size` pixels (a vector of one); `aligned`: reflected at the last pixel's centre."""
    index = mirrored(g, taps.index, size, aligned) if padding == "reflection" else taps.index
    inside = g.op("Max", g.op("Min", index, plus(g, size, -1)), g.ints(0))
    there = g.op("Equal", index, inside) if padding == "zeros" else taps.there
    return replace(taps, index=inside, there=there)


def mirrored(g: Emitter, index: str, size: str, aligned: bool) -> str:
    """Indices reflected at both ends of an axis, as often as it takes."""
    turn = plus(g, size, -1) if aligned else size
    period = g.op("Max", g.op("Add", turn, turn), g.ints(1))
    ahead = g.op("Mod", index, period)
    back = g.op("Sub", period if aligned else plus(g, period, -1), ahead)
    return g.op("Min", ahead, back)


def plus(g: Emitter, size: str, amount: int) -> str:
    """A size and a number, a constant where it is known."""
    known = g.constant(size)
    return g.op("Add", size, g.ints(amount)) if known is None else g.ints(int(known[0]) + amount)


def as_float(g: Emitter, n: Node, size: str) -> str:
    """A size in the cotangents' type, a constant where it is known."""
    known = g.constant(size)
    return g.cast(size, n.elem_type) if known is None else n.array(known)


@dataclass(frozen=True)
class Plane:
    """The pixels that samples read in an image: those along its axes, combined.

    `index`: (B, taps..., P): P samples of each of B images, into the pixels of that image.
    """

    axes: Sequence[Taps]
    index: str

    @property
    def count(self) -> int:
        """Taps of one sample."""
        return int(np.prod([len(axis.kernel.taps) for axis in self.axes]))

    @property
    def tap_axes(self) -> list[int]:
        """The axes of taps."""
        return list(range(1, len(self.axes) + 1))

    def weight(self, g: Emitter, n: Node) -> str:
        """How much of each pixel is read."""
        return reduce(lambda a, b: g.op("Mul", a, b), (axis.weight(g, n) for axis in self.axes))

    def slope(self, g: Emitter, n: Node, i: int) -> str:
        """The derivative of the weights by the position along axis i."""
        parts = [axis.slope(g, n) if j == i else axis.weight(g, n) for j, axis in enumerate(self.axes)]
        return reduce(lambda a, b: g.op("Mul", a, b), parts)


def plane(g: Emitter, axes: Sequence[Taps], sizes: Sequence[str]) -> Plane:
    """The taps along all axes of an image of these sizes."""
    index = axes[0].index
    for axis, size in zip(axes[1:], sizes[1:], strict=True):
        index = g.op("Add", g.op("Mul", index, size), axis.index)
    return Plane(axes, index)


# -- images ---------------------------------------------------------------------------------------


def extents(g: Emitter, image: str) -> tuple[str, str, str]:
    """Images, channels and pixels of an image (B, C, *S), as vectors of one, constants where they are known."""
    sizes = (g.graph.shape(image) or (None, None, None))[2:]
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) == len(sizes):
        pixels = g.ints(int(np.prod(known)))
    else:
        pixels = g.op("ReduceProd", g.op("Slice", g.op("Shape", image), g.ints(2), g.ints(2**31 - 1)), keepdims=1)
    return g.dims(image, (0, 1)), g.dims(image, (1, 1)), pixels


def as_rows(g: Emitter, image: str) -> str:
    """(B, C, *S) as (B S, C)."""
    turned = g.op("Transpose", g.op("Reshape", image, g.ints(0, 0, -1)), perm=[0, 2, 1])
    return g.op("Flatten", turned, axis=2)


class Samples:
    """P samples of each of B images.

    Args:
        image: (B, C, *S), in the cotangents' type.
        taps: of P samples of each image.
    """

    def __init__(self, g: Emitter, n: Node, image: str, taps: Plane) -> None:
        self.g, self.n, self.image, self.taps = g, n, image, taps

    def _tapped(self, value: str, *shape: int) -> str:
        """A number for every tap, from what broadcasts to (B, taps.., P)."""
        whole = self.g.op("Expand", value, self.g.op("Shape", self.taps.index))
        return self.g.op("Reshape", whole, self.g.ints(*shape))

    def _weight(self, *shape: int) -> str:
        """The weight of every tap."""
        return self._tapped(self.taps.weight(self.g, self.n), *shape)

    def _read(self) -> str:
        """Every tap, as rows: (B, taps, P, C)."""
        g, taps = self.g, self.taps
        batch, _, pixels = (g.op("Squeeze", extent, g.ints(0)) for extent in extents(g, self.image))
        firsts = g.op("Range", g.const(0, np.int64), g.op("Mul", batch, pixels), pixels)
        own = g.op("Add", taps.index, g.op("Reshape", firsts, g.ints(-1, 1, *[1] * len(taps.axes))))
        return g.op("Gather", as_rows(g, self.image), g.op("Reshape", own, g.ints(0, taps.count, -1)))

    def values(self) -> str:
        """What was sampled, as rows: (B P, C)."""
        g = self.g
        weighted = g.op("Mul", self._weight(0, self.taps.count, -1, 1), self._read())
        return g.op("Flatten", g.reduce("ReduceSum", weighted, [1], keepdims=0), axis=2)

    def image_cotangent(self, ct: str) -> str:
        """d image, given ct (B, C, P): shares of ct, added up where samples meet."""
        g = self.g
        batch, channels, pixels = extents(g, self.image)
        if self._is_small():
            rows = g.op("MatMul", self._shares(), g.op("Transpose", ct, perm=[0, 2, 1]))
            added = g.op("Transpose", rows, perm=[0, 2, 1])
        else:
            weighted = g.op("Mul", g.op("Unsqueeze", ct, g.ints(2)), self._weight(0, 1, self.taps.count, -1))
            shares = g.op("Reshape", weighted, g.ints(0, 0, -1))
            index = g.op("Expand", g.op("Reshape", self.taps.index, g.ints(0, 1, -1)), g.op("Shape", shares))
            zeros = g.op("Expand", self.n.array(0), g.op("Concat", batch, channels, pixels, axis=0))
            added = g.op("ScatterElements", zeros, index, shares, axis=2, reduction="add")
        return g.reshape_to(added, self.image)

    def _is_small(self) -> bool:
        """Whether images are so small that a product is worth it; ONNX Runtime makes none over no samples."""
        _, channels, pixels = (self.g.constant(extent) for extent in extents(self.g, self.image))
        sizes = self.g.graph.shape(self.n.output[0])
        if channels is None or pixels is None or sizes is None:
            return False
        if not all(isinstance(size, int) and size for size in sizes[2:]):
            return False
        return int(pixels[0]) <= self.taps.count * min(SMALL, WIDE * int(channels[0]))

    def _shares(self) -> str:
        """How much of each pixel is in each sample: (B, pixels, P)."""
        g = self.g
        batch, _, pixels = extents(g, self.image)
        index, weight = self._tapped(self.taps.index, 0, self.taps.count, -1), self._weight(0, self.taps.count, -1)
        samples = g.op("Gather", g.op("Shape", self.taps.index), g.ints(-1))
        zeros = g.op("Expand", self.n.array(0), g.op("Concat", batch, pixels, samples, axis=0))
        return g.op("ScatterElements", zeros, index, weight, axis=1, reduction="add")

    def position_cotangents(self, ct: str) -> list[str]:
        """d position along each axis, (B, P) with ones for the axes of taps, given the rows of ct (B P, C)."""
        g, n, taps = self.g, self.n, self.taps
        batch, channels, _ = extents(g, self.image)
        by_sample = g.op("Reshape", ct, g.op("Concat", batch, g.ints(1, -1), channels, axis=0))
        each = g.reduce("ReduceSum", g.op("Mul", self._read(), by_sample), [3])
        agreed = g.op("Reshape", each, g.op("Shape", taps.index))
        moved = [g.op("Mul", agreed, taps.slope(g, n, i)) for i in range(len(taps.axes))]
        return [g.reduce("ReduceSum", value, taps.tap_axes) for value in moved]
