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

from onnxcam.graph import doubtful
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, rule
from onnxcam.vjp.rules.activation import is_rectified, where_positive
from onnxcam.vjp.rules.convolution import Window, window
from onnxcam.vjp.rules.indexing import put_back
from onnxcam.vjp.rules.pooling import repeated, tiles

FINITE = frozenset({"Relu", "Clip", "Conv", "BatchNormalization", "Sigmoid"})  # make no minus infinity
KEEP_FINITE = frozenset({"Concat", "MaxPool", "Identity"})  # nor do these, of finite values
MOST_TAPS = 32  # of a window along one axis: each takes some nodes
FEW_TAPS = 4  # of a window along a single axis, up to which they are faster than ranks
LONGEST = 2**30  # pixels along an axis: no image has more
AXIS, RANKS, AXES = 8_000, 20_000, 300_000  # pixels looked at from which a form is worth its nodes


@rule("MaxPool", versions=(12, 22))
def max_pool(g: Emitter, n: Node, ct: str, _indices: str | None = None) -> Cotangents:
    """dX[argmax] += ct; the first maximum of a window in scan order takes it all.

    What a Relu before it would stop is stopped here, where there are fewer pixels: windows of zeros pass nothing on.
    """
    rectified = is_rectified(g, n, n.input[0]) and not n.is_quantized() and not is_misjudged(g, n)
    dx = to_winners(g, n, ct, rectified=rectified)
    if rectified:
        g.stopped.add((dx, n.input[0]))
    return [dx]


def is_misjudged(g: Emitter, n: Node) -> bool:
    """Whether ONNX Runtime may infer another size for the pool's output than it computes, and so refuse its readers."""
    known = None not in [n.size(i + 2) for i in range(len(n.attr("kernel_shape")))]
    return doubtful(n.proto) and (not known or g.graph.producer[n.output[0]] in g.graph.misjudged)


def to_winners(g: Emitter, n: Node, ct: str, *, rectified: bool) -> str:
    """The cotangents of windows, each put where the window's maximum lies; `rectified`: only where that is positive."""
    w = window(n, tuple(n.attr("kernel_shape")))
    sizes = [g.size(value, i + 2) for value in (n.input[0], n.output[0]) for i in w.axes]
    known = all(size is not None and size <= LONGEST for size in sizes)
    pixels = effort(g, n, w) if known and w.begins is not None else 0
    tiled = tiles(n, w) and n.elem_type == TensorProto.FLOAT  # ONNX Runtime resizes no float64
    few = tiled and sum(size > 1 for size in w.kernel) == 1 and max(w.kernel) <= FEW_TAPS
    if tiled and not few and pixels >= RANKS:
        return by_ranks(g, n, ct, w, rectified=rectified)
    ct = where_positive(g, n, n.y(), ct) if rectified else ct
    if pixels >= (AXIS if few else AXES) and all(is_separable(g, n, w, i) for i in w.axes):
        return axis_by_axis(g, n, ct, w)
    _, index = g.op("MaxPool", n.x(), outputs=2, **n.attrs_except("storage_order"))
    if tiled:
        return g.op("MaxUnpool", ct, index, kernel_shape=list(w.kernel), strides=list(w.strides))
    if may_miss(n, w):  # a window without a pixel has the index -1
        ct = g.op("Where", g.op("Less", index, g.const(0, np.int64)), n.array(0), ct)
        index = g.op("Max", index, g.const(0, np.int64))
    return put_back(g, n, ct, index)


def may_miss(n: Node, w: Window) -> bool:
    """Whether the taps of a window may step over all pixels of an axis: those of a dilated one, out of padding."""
    padded = [w.begins is None or w.ends is None or max(w.begins[i], w.ends[i]) > 0 for i in w.axes]
    return any(padded[i] and w.dilations[i] > 1 and (n.size(i + 2) or 0) < w.dilations[i] for i in w.axes)


def is_separable(g: Emitter, n: Node, w: Window, i: int) -> bool:
    """Whether the taps along axis i reach every pixel in turn, and no window ends so far outside that none may."""
    if w.kernel[i] > MOST_TAPS:
        return False
    phases = {first % w.strides[i] for first in taps(g, n, w, i)}
    return len(phases) == w.strides[i] and max(margins(g, n, w, i)) < w.kernel[i]


def margins(g: Emitter, n: Node, w: Window, i: int) -> tuple[int, int]:
    """How far the windows reach beyond the first and the last pixel along axis i."""
    (size, out), begin = extent(g, n, i), (w.begins or ())[i]
    return begin, max((out - 1) * w.strides[i] + w.reach(i) - begin - size, 0)


def effort(g: Emitter, n: Node, w: Window) -> int:
    """How many pixels the windows of one image hold together."""
    channels, looked_at = n.size(1), [extent(g, n, i)[1] * w.kernel[i] for i in w.axes]
    return math.prod(looked_at) * (1 if channels is None else channels)


def no_infinity(g: Emitter, n: Node) -> str:
    """The input with the least number for minus infinity, as the plain pool gives for windows of nothing else."""
    if is_finite(g, n.input[0]):
        return n.x()
    return g.op("Max", n.x(), n.array(n.least()))


def is_finite(g: Emitter, name: str) -> bool:
    """Whether the operators that a value comes from make no infinity."""
    waiting, seen = [name], set[str]()
    while waiting:
        maker = g.graph.maker(waiting.pop())
        if maker is None or maker.op_type not in FINITE | KEEP_FINITE:
            return False
        if maker.op_type in KEEP_FINITE and maker.output[0] not in seen:
            waiting += maker.input
            seen.add(maker.output[0])
    return True


JUST_BELOW = 1 - 2.0**-24  # times a positive float32 is the next smaller one (above 1e-38)


def by_ranks(g: Emitter, n: Node, ct: str, w: Window, *, rectified: bool) -> str:
    """Windows that tile: of the pixels equal to their window's maximum, the one of highest rank is the first.

    Of a rectified image these are the pixels above the number just below the maximum: windows of zeros have none.
    """
    one = n.array(np.arange(math.prod(w.kernel), 0, -1).reshape(1, 1, *w.kernel))
    ranks = g.op("Tile", one, g.ints(1, 1, *(extent(g, n, i)[1] for i in w.axes)))
    x = no_infinity(g, n)
    y = maxima(g, n, x, w)
    if rectified:
        hit = g.op("Greater", x, repeated(g, g.op("Mul", y, n.array(JUST_BELOW)), w.kernel))
    else:
        hit = g.op("Equal", x, repeated(g, y, w.kernel))
    first = pooled(g, n, g.op("Where", hit, ranks, n.array(0)), w, w.axes)
    mine = g.op("Equal", repeated(g, first, w.kernel), ranks)
    return g.op("Where", mine, repeated(g, ct, w.kernel), n.array(0))


def axis_by_axis(g: Emitter, n: Node, ct: str, w: Window) -> str:
    """The pool as one pool an axis, the last axis first; their adjoints in the opposite order."""
    moving = [i for i in w.axes if w.kernel[i] > 1]
    inputs = [no_infinity(g, n)]
    for i in reversed(moving[1:]):
        inputs.append(pooled(g, n, inputs[-1], w, [i]))
    y = maxima(g, n, inputs[0], w)
    for i in moving:
        x = inputs.pop()
        ct, y = along_axis(g, n, x, y, ct, w, i), x
    return ct


def maxima(g: Emitter, n: Node, x: str, w: Window) -> str:
    """The pool of x: the primal output, where that is the very same and ONNX Runtime infers the size it computes."""
    same = x == n.input[0] and not n.is_quantized() and not is_misjudged(g, n)
    return n.output[0] if same else pooled(g, n, x, w, w.axes)


def pooled(g: Emitter, n: Node, x: str, w: Window, axes: Sequence[int]) -> str:
    """The maxima of x along some of the window's axes."""
    kernel, strides, dilations = (
        [v[i] if i in axes else 1 for i in w.axes] for v in (w.kernel, w.strides, w.dilations)
    )
    reach = [margins(g, n, w, i) if i in axes else (0, 0) for i in w.axes]
    return g.op(
        "MaxPool",
        x,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=[*(begin for begin, _ in reach), *(end for _, end in reach)],
    )


def along_axis(g: Emitter, n: Node, x: str, y: str, ct: str, w: Window, i: int) -> str:
    """The adjoint of a pool y along axis i: each tap of the windows takes what the taps before it left."""
    axis, stride, (size, out) = i + 2, w.strides[i], extent(g, n, i)
    swap = [*range(axis - 1), axis, axis - 1] if axis == n.rank() - 1 and stride > 1 else None
    if swap:  # steps along the innermost axis are slow
        x, y, ct = (g.op("Transpose", value, perm=swap) for value in (x, y, ct))
        axis -= 1
    firsts, shares, left = taps(g, n, w, i), [], ct
    for first in firsts[:-1]:
        pixels = stepping(g, n, x, axis, range(first, first + out * stride, stride), size)
        shares.append(g.op("Where", g.op("Equal", pixels, y), left, n.array(0)))
        left = g.op("Sub", left, shares[-1])
    dx = interleaved(g, n, dict(zip(firsts, [*shares, left], strict=True)), axis, stride, size, out)
    return g.op("Transpose", dx, perm=swap) if swap else dx


def taps(g: Emitter, n: Node, w: Window, i: int) -> list[int]:
    """The pixels along axis i that the first window looks at, without taps that see padding in every window."""
    (size, out), stride = extent(g, n, i), w.strides[i]
    firsts = (tap * w.dilations[i] - (w.begins or ())[i] for tap in range(w.kernel[i]))
    return [first for first in firsts if max(-(first // stride), 0) <= min((size - 1 - first) // stride, out - 1)]


def stepping(g: Emitter, n: Node, x: str, axis: int, places: range, size: int) -> str:
    """x at places along an axis, some of which may lie outside: minus infinity there."""
    if places.step == 1:
        return moved(g, n, x, axis, -places.start, places.stop - size, -np.inf)
    first, last = max(-(places.start // places.step), 0), min((size - 1 - places.start) // places.step, len(places) - 1)
    x = g.op("Slice", x, g.ints(places[first]), g.ints(places[last] + 1), g.ints(axis), g.ints(places.step))
    return moved(g, n, x, axis, first, len(places) - 1 - last, -np.inf)


def interleaved(
    g: Emitter, n: Node, shares: dict[int, str], axis: int, stride: int, size: int, out: int
) -> str:  # fmt: skip
    """The sum of shares, by the first window's pixel: the share of window j goes to that pixel + j * stride."""
    rows = -(-size // stride)
    phases: list[list[str]] = [[] for _ in range(stride)]
    for first, share in shares.items():
        before, phase = divmod(first, stride)
        phases[phase].append(moved(g, n, share, axis, before, rows - out - before, 0))
    sums = [g.op("Sum", *parts) if len(parts) > 1 else parts[0] for parts in phases]
    if stride == 1:
        return sums[0]
    dx = g.op("Concat", *sums, axis=axis + 1)
    dx = g.op("Reshape", dx, g.ints(*[0] * axis, rows * stride, -1, *[0] * (n.rank() - axis - 2)))
    return moved(g, n, dx, axis, 0, size - rows * stride, 0)


def moved(g: Emitter, n: Node, value: str, axis: int, before: int, after: int, filling: float) -> str:
    """A value with so many places more (or, negative, fewer) at the ends of an axis."""
    if not before and not after:
        return value
    pads = [[count if place == axis else 0 for place in range(n.rank())] for count in (before, after)]
    return g.op("Pad", value, g.ints(*pads[0], *pads[1]), n.array(filling))


def extent(g: Emitter, n: Node, i: int) -> tuple[int, int]:
    """Pixels and windows along a spatial axis."""
    return n.size(i + 2) or 0, g.size(n.output[0], i + 2) or 0
