"""Sampling at computed positions.

A sample is a weighted sum of the pixels around its position: y[m] = sum over t of weight[m, t] x[index[m, t]]. The
weights are piecewise polynomials of the position, so one table of taps gives all adjoints: that of the image (shares of
ct, added up where samples meet) and that of the positions (through the slopes of the weights).

What is said of samples has them along the last axis, so that whatever is worked out runs over many numbers at a time.
Images are read by GatherND, a row per pixel, a column per channel; they are added to as they are by ScatterElements
along their pixels. (ScatterND(reduction="add") loses updates when ONNX Runtime runs it on several threads.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Node
from onnxcam.vjp.rules.indexing import as_int64

FAR = 2.0**30  # pixels; what lies beyond counts as that far
SMALL, WIDE = 128, 4  # pixels, per tap and per tap and channel, up to which a product is faster and holds no more


# -- taps -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Kernel:
    """How pixels are weighted: the taps beside floor(position), their weights for each power of the fraction.

    Both broadcast against positions.
    """

    taps: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]

    @property
    def slopes(self) -> npt.NDArray[np.float64]:
        """The derivative of the weights, in the same form."""
        return np.stack([power * row for power, row in enumerate(self.weights)][1:])

    def around(self, rank: int) -> Kernel:
        """The same along `rank` axes at once: (rank, K, 1), for the K = taps ** rank pixels around a position."""
        along = np.indices([self.taps.size] * rank).reshape(rank, -1, 1)
        return Kernel(self.taps[along], self.weights[:, along])


_A = -0.75  # of Keys' cubic convolution, in ONNX Runtime as in torch
NEAREST = Kernel(np.array([0]), np.array([[1.0], [0.0]]))
LINEAR = Kernel(np.array([0, 1]), np.array([[1.0, 0.0], [-1.0, 1.0]]))
CUBIC = Kernel(
    np.array([-1, 0, 1, 2]),
    np.array([[0, 1, 0, 0], [_A, 0, -_A, 0], [-2 * _A, -_A - 3, 2 * _A + 3, _A], [_A, _A + 2, -_A - 2, -_A]]),
)
KERNELS = {"nearest": NEAREST, "bilinear": LINEAR, "linear": LINEAR, "bicubic": CUBIC, "cubic": CUBIC}


@dataclass(frozen=True)
class Taps:
    """The pixels that samples read along an axis, or along several at once.

    Attributes:
        index: int32, which pixels.
        fraction: how far beyond the tap 0 the position lies, 0 <= fraction < 1; broadcasts to the index.
        there: which taps count; "": all.
    """

    kernel: Kernel
    index: str
    fraction: str
    there: str = ""

    def weight(self, g: Emitter, n: Node) -> str:
        """How much of each pixel is read."""
        return self._polynomial(g, n, self.kernel.weights)

    def slope(self, g: Emitter, n: Node) -> str:
        """The derivative of the weights by the position; may have ones for the axes of samples."""
        return self._polynomial(g, n, self.kernel.slopes)

    def _polynomial(self, g: Emitter, n: Node, rows: npt.NDArray[np.float64]) -> str:
        value, *lower = [n.array(row) for row in reversed(rows)]
        for row in lower:
            value = g.op("Add", g.op("Mul", value, self.fraction), row)
        return g.op("Where", self.there, value, n.array(0)) if self.there else value


def taps_along(g: Emitter, n: Node, position: str, kernel: Kernel) -> Taps:
    """The taps of samples at `position` along axes that have no end; its shape has ones for the axes of taps."""
    position = g.op("Clip", position, n.array(-FAR), n.array(FAR))
    floor = g.op("Floor", position)
    index = g.op("Add", g.cast(floor, TensorProto.INT32), g.const(kernel.taps, np.int32))
    return Taps(kernel, index, g.op("Sub", position, floor))


def bounded(g: Emitter, taps: Taps, size: str, padding: str = "border", aligned: bool = False) -> Taps:
    """The same on axes of `size` pixels (int32, broadcasts); `aligned`: reflected at the last pixel's centre."""
    index = mirrored(g, taps.index, size, aligned) if padding == "reflection" else taps.index
    inside = g.op("Max", g.op("Min", index, plus(g, size, -1)), number(g, 0))
    there = g.op("Equal", index, inside) if padding == "zeros" else taps.there
    return replace(taps, index=inside, there=there)


def mirrored(g: Emitter, index: str, size: str, aligned: bool) -> str:
    """Indices reflected at both ends of an axis, as often as it takes."""
    turn = plus(g, size, -1) if aligned else size
    period = g.op("Max", g.op("Add", turn, turn), number(g, 1))
    ahead = g.op("Mod", index, period)
    back = g.op("Sub", period if aligned else plus(g, period, -1), ahead)
    return g.op("Min", ahead, back)


def number(g: Emitter, value: int) -> str:
    """A number of the type of indices."""
    return g.const(value, np.int32)


def plus(g: Emitter, size: str, amount: int) -> str:
    """Sizes and a number."""
    return g.op("Add", size, number(g, amount))


# -- images ---------------------------------------------------------------------------------------


def sizes_of(g: Emitter, image: str, rank: int) -> list[str]:
    """The pixels of an image (B, C, *S) along each of its `rank` axes, as vectors of one."""
    return [g.dims(image, (axis, 1)) for axis in range(2, rank + 2)]


def pixels_of(g: Emitter, image: str, rank: int) -> str:
    """All pixels of such an image, as a vector of one."""
    return g.op("ReduceProd", g.dims(image, *((axis, 1) for axis in range(2, rank + 2))), keepdims=1)


def strides_of(g: Emitter, sizes: Sequence[str]) -> list[str]:
    """The pixels from one to the next along each axis of an image of these sizes, as vectors of one."""
    found = [g.ints(1)]
    for size in sizes[:0:-1]:
        found.insert(0, g.op("Mul", found[0], size))
    return found


def along_axes(g: Emitter, values: Sequence[str]) -> str:
    """Vectors of one, one an axis, as (axes, 1, 1), in the type of indices."""
    return g.cast(g.op("Reshape", g.op("Concat", *values, axis=0), g.ints(-1, 1, 1)), TensorProto.INT32)


class Samples:
    """P samples of each of B images.

    Args:
        image: (B, C, *S), in the cotangents' type.
        taps: along all axes of the image at once, in any order: (B, axes, K, P), for K pixels around each position.
        strides: the pixels from one to the next along each of these axes, as vectors of one.
        samples: P, as a vector of one.
    """

    def __init__(self, g: Emitter, n: Node, image: str, taps: Taps, strides: Sequence[str], samples: str) -> None:
        self.g, self.n, self.image, self.taps, self.samples, self.rank = g, n, image, taps, samples, len(strides)
        steps = self._by_axis(g.op("Mul", taps.index, along_axes(g, strides)))
        self.index = reduce(lambda a, b: g.op("Add", a, b), steps)  # (B, 1, K, P), into the pixels of an image
        self.count = taps.kernel.taps.shape[-2]
        self.pixels = g.op("Reshape", image, g.ints(0, 0, -1))  # (B, C, pixels)

    def _by_axis(self, value: str) -> list[str]:
        """The part of each axis of what was said of all, (B, 1, K, P)."""
        return list(self.g.op("Split", value, self.g.ints(*[1] * self.rank), axis=1, outputs=self.rank))

    @cached_property
    def _weights(self) -> list[str]:
        """The weights along each axis, (B, 1, K, P)."""
        return self._by_axis(self.taps.weight(self.g, self.n))

    @cached_property
    def _weight(self) -> str:
        """How much of each pixel is read, (B, 1, K, P)."""
        return self._product(self._weights)

    def _product(self, weights: Sequence[str]) -> str:
        return reduce(lambda a, b: self.g.op("Mul", a, b), weights)

    def _read(self) -> str:
        """The pixels at every tap, (B, K, P, C)."""
        g = self.g
        rows = g.op("Transpose", self.pixels, perm=[0, 2, 1])
        index = g.op("Reshape", as_int64(g, self.index), g.ints(0, self.count, -1, 1))
        return g.op("GatherND", rows, index, batch_dims=1)

    def values(self) -> str:
        """What was sampled: (B, C, P)."""
        g = self.g
        weighted = g.op("Mul", self._read(), g.op("Reshape", self._weight, g.ints(0, self.count, -1, 1)))
        return g.op("Transpose", g.reduce("ReduceSum", weighted, [1], keepdims=0), perm=[0, 2, 1])

    # -- the image ---------------------------------------------------------------------------------

    def image_cotangent(self, ct: str) -> str:
        """d image, given ct (B, C, P): shares of ct, added up where samples meet."""
        g = self.g
        if self._is_small():
            added = g.op("MatMul", ct, g.op("Transpose", self._shares(), perm=[0, 2, 1]))
        else:
            weighted = g.op("Mul", g.op("Unsqueeze", ct, g.ints(2)), self._weight)
            shares = g.op("Reshape", weighted, g.ints(0, 0, -1))
            index = g.op("Expand", g.op("Reshape", self.index, g.ints(0, 1, -1)), g.dims(self.image, 1, (1, 1), 1))
            zeros = g.op("Expand", self.n.array(0), g.op("Shape", self.pixels))
            added = g.op("ScatterElements", zeros, index, shares, axis=2, reduction="add")
        return g.reshape_to(added, self.image)

    def _is_small(self) -> bool:
        """Whether images are so small that a product is worth it; ONNX Runtime makes none over no samples."""
        image, sizes = (self.g.graph.shape(value) for value in (self.image, self.n.output[0]))
        if image is None or sizes is None or not all(isinstance(size, int) and size for size in sizes[2:]):
            return False
        channels, *pixels = (size if isinstance(size, int) else math.inf for size in image[1:])
        return bool(math.prod(pixels) <= self.count * min(SMALL, WIDE * channels))

    def _shares(self) -> str:
        """How much of each pixel is in each sample: (B, pixels, P)."""
        g = self.g
        index, weight = (g.op("Squeeze", value, g.ints(1)) for value in (self.index, self._weight))
        shape = g.op("Concat", g.dims(self.image, (0, 1)), pixels_of(g, self.image, self.rank), self.samples, axis=0)
        return g.op("ScatterElements", g.op("Expand", self.n.array(0), shape), index, weight, axis=1, reduction="add")

    # -- the positions -----------------------------------------------------------------------------

    def agreement(self, ct: str) -> str:
        """ct (B, C, P) times the pixels at every tap, summed over channels: (B, 1, K, P)."""
        g = self.g
        rows = g.op("Transpose", g.op("Unsqueeze", ct, g.ints(2)), perm=[0, 2, 3, 1])
        summed = g.reduce("ReduceSum", g.op("Mul", self._read(), rows), [3], keepdims=0)
        return g.op("Unsqueeze", summed, g.ints(1))

    def position_cotangents(self, agreed: str) -> str:
        """d positions, (B, axes, 1, P)."""
        g = self.g
        others = [self._product([*self._weights[:axis], *self._weights[axis + 1 :]]) for axis in range(self.rank)]
        slopes = g.op("Mul", g.op("Concat", *others, axis=1), self.taps.slope(g, self.n))
        return g.reduce("ReduceSum", g.op("Mul", slopes, agreed), [2])

    def factor_cotangents(self, agreed: str) -> str:
        """d factor by which each sample was multiplied, (B, 1, P)."""
        return self.g.reduce("ReduceSum", self.g.op("Mul", self._weight, agreed), [2], keepdims=0)
