"""Max pools: the first maximum of a window, in scan order, takes its whole cotangent.

ONNX Runtime can say which pixel that is, but only in a kernel some twenty times slower than the plain pool. Where the
sizes are known it is found with plain kernels instead: by ranks where the windows tile the image, otherwise axis by
axis. (The maximum of a window is the maximum of its rows' maxima, and the first one lies in the first row that has it.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, rule
from onnxcam.vjp.rules.convolution import Window, window
from onnxcam.vjp.rules.pooling import repeated, tiles

FINITE = frozenset({"Relu", "Clip", "Conv", "BatchNormalization", "Sigmoid"})  # make no minus infinity
RANKS, AXES = 2**13, 2**16  # pixels looked at from which a form is worth its nodes: below, the slow kernel is not


@rule("MaxPool", versions=(12, 22))
def max_pool(g: Emitter, n: Node, ct: str, _indices: str | None = None) -> Cotangents:
    """dX[argmax] += ct; the first maximum of a window in scan order takes it all."""
    w = window(n, tuple(n.attr("kernel_shape")))
    sizes, outs = (n.shape() or ())[2:], (g.graph.shape(n.output[0]) or ())[2:]
    known = bool(sizes) and all(isinstance(size, int) for size in (*sizes, *outs))
    pixels = effort(n, w, outs) if known and w.begins is not None else 0
    if pixels >= RANKS and tiles(n, w) and n.elem_type == TensorProto.FLOAT:  # ONNX Runtime resizes no float64
        return [by_ranks(g, n, ct, w)]
    if pixels >= AXES and all(w.strides[i] <= w.kernel[i] and w.dilations[i] == 1 for i in w.axes):
        return [axis_by_axis(g, n, ct, w)]
    return [by_indices(g, n, ct)]


def effort(n: Node, w: Window, outs: tuple[int | str | None, ...]) -> int:
    """How many pixels the windows of one image hold together."""
    channels = (n.shape() or (0, 1))[1]
    looked_at = [int(out or 0) * size for out, size in zip(outs, w.kernel, strict=True)]
    return math.prod(looked_at) * (channels if isinstance(channels, int) else 1)


def by_indices(g: Emitter, n: Node, ct: str) -> str:
    """Any sizes: the indices come from a twin, since asking the forward pool for them would slow it down."""
    kept = {key: value for key, value in n.attrs.items() if key != "storage_order"}
    _, index = g.op("MaxPool", n.x(), outputs=2, **kept)
    flat = g.ints(-1)
    zeros = g.op("Expand", n.scalar(0), g.op("Reshape", g.op("Size", n.input[0]), flat))
    dx = g.op(
        "ScatterElements", zeros, g.op("Reshape", index, flat), g.op("Reshape", ct, flat), axis=0, reduction="add"
    )
    return g.reshape_to(dx, n.input[0])


def no_infinity(g: Emitter, n: Node) -> str:
    """The input with the least number for minus infinity, as the plain pool gives for windows of nothing else."""
    maker = g.graph.producer.get(n.input[0])
    if maker is not None and g.graph.nodes[maker].op_type in FINITE:
        return n.x()
    return g.op("Max", n.x(), n.scalar(n.least()))


def by_ranks(g: Emitter, n: Node, ct: str, w: Window) -> str:
    """Windows that tile: of the pixels equal to their window's maximum, the one of highest rank is the first."""
    one = n.array(np.arange(math.prod(w.kernel), 0, -1).reshape(1, 1, *w.kernel))
    ranks = g.op("Tile", one, g.ints(1, 1, *(extent(g, n, i)[1] for i in w.axes)))
    x = no_infinity(g, n)
    hit = g.op("Equal", x, repeated(g, pooled(g, x, w, w.axes), w.kernel))
    first = pooled(g, g.op("Mul", g.cast(hit, n.elem_type), ranks), w, w.axes)
    mine = g.op("Equal", repeated(g, first, w.kernel), ranks)
    return g.op("Where", mine, repeated(g, ct, w.kernel), n.scalar(0))


def axis_by_axis(g: Emitter, n: Node, ct: str, w: Window) -> str:
    """The pool as one pool an axis, the last axis first; their adjoints in the opposite order."""
    pools: list[tuple[int, str, str]] = []
    x = no_infinity(g, n)
    for i in reversed(w.axes):
        if w.kernel[i] > 1:
            x = reaching(g, n, x, w, i)
            pools.append((i, x, pooled(g, x, w, [i])))
            x = pools[-1][2]
    for i, inputs, maxima in reversed(pools):
        ct = along_axis(g, n, inputs, maxima, ct, w, i)
    return ct


def pooled(g: Emitter, x: str, w: Window, axes: Sequence[int]) -> str:
    """The maxima of x along some of the window's axes."""
    kernel, strides = ([v[i] if i in axes else 1 for i in w.axes] for v in (w.kernel, w.strides))
    return g.op("MaxPool", x, kernel_shape=kernel, strides=strides)


def reaching(g: Emitter, n: Node, x: str, w: Window, i: int) -> str:
    """x, filled up along axis i with minus infinity as far as the windows reach."""
    (size, out), before = extent(g, n, i), (w.begins or ())[i]
    behind = max((out - 1) * w.strides[i] + w.kernel[i] - before - size, 0)
    return g.op("Pad", x, pads(g, n, i, before, behind), n.scalar(-np.inf)) if before or behind else x


def along_axis(g: Emitter, n: Node, x: str, maxima: str, ct: str, w: Window, i: int) -> str:
    """The adjoint of a pool along axis i: each tap of the windows takes what the taps before it left."""
    axis, out = i + 2, extent(g, n, i)[1]
    swap = [*range(axis - 1), axis, axis - 1] if axis == n.rank() - 1 else None
    if swap:  # steps along the innermost axis are slow
        x, maxima, ct = (g.op("Transpose", value, perm=swap) for value in (x, maxima, ct))
        axis -= 1
    shares, left = [], ct
    for tap in range(w.kernel[i] - 1):
        end = tap + (out - 1) * w.strides[i] + 1
        pixels = g.op("Slice", x, g.ints(tap), g.ints(end), g.ints(axis), g.ints(w.strides[i]))
        shares.append(g.op("Where", g.op("Equal", pixels, maxima), left, n.scalar(0)))
        left = g.op("Sub", left, shares[-1])
    dx = interleaved(g, n, [*shares, left], w, i, axis)
    return g.op("Transpose", dx, perm=swap) if swap else dx


def interleaved(g: Emitter, n: Node, shares: list[str], w: Window, i: int, axis: int) -> str:
    """Share t of window j at pixel j * stride + t, summed where windows overlap, cut to the size of the input."""
    stride, (size, out) = w.strides[i], extent(g, n, i)
    longest = (len(shares) - 1) // stride
    phases = []
    for phase in range(stride):
        parts = [
            g.op("Pad", share, pads(g, n, axis - 2, t // stride, longest - t // stride)) if longest else share
            for t, share in enumerate(shares)
            if t % stride == phase
        ]
        phases.append(g.op("Sum", *parts) if len(parts) > 1 else parts[0])
    dx, length = phases[0], (out + longest) * stride
    if stride > 1:
        dx = g.op("Concat", *phases, axis=axis + 1)
        dx = g.op("Reshape", dx, g.ints(*[0] * axis, length, -1, *[0] * (n.rank() - axis - 2)))
    before = (w.begins or ())[i]
    rest = size + before - length
    return g.op("Pad", dx, pads(g, n, axis - 2, -before, rest)) if before or rest else dx


def pads(g: Emitter, n: Node, i: int, before: int, behind: int) -> str:
    """The pads of a Pad along one spatial axis; negative ones cut."""
    both = [[count if axis == i + 2 else 0 for axis in range(n.rank())] for count in (before, behind)]
    return g.ints(*both[0], *both[1])


def extent(g: Emitter, n: Node, i: int) -> tuple[int, int]:
    """Pixels and windows along a spatial axis."""
    return int((n.shape() or ())[i + 2] or 0), int((g.graph.shape(n.output[0]) or ())[i + 2] or 0)
