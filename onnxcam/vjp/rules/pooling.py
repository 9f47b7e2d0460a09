"""Pools that average; max pools over windows have a file of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxcam.graph import attributes
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError, rule
from onnxcam.vjp.rules.convolution import NEGATIVE, Window, same_begins, same_totals, spatial_size, spread, window

COUNTS_WHAT_IS_THERE = 19  # the opset of the first AveragePool of which ONNX Runtime counts no more than that


@rule("GlobalMaxPool", versions=(1, 22))
def global_max_pool(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dX[argmax] = ct; the first maximum takes it all."""
    flat = g.op("Reshape", n.x(), g.ints(0, 0, -1))
    index = g.op("ArgMax", flat, axis=2, keepdims=1)
    zeros = g.op("Expand", n.array(0), g.op("Shape", flat))
    one = g.op("Reshape", ct, g.ints(0, 0, -1))
    return [g.reshape_to(g.op("ScatterElements", zeros, index, one, axis=2), n.input[0])]


@rule("GlobalAveragePool", versions=(1, 22))
def global_average_pool(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = mean over positions;  dX = ct / Z everywhere."""
    return [spread_mean(g, n, ct, range(2, n.rank()))]


def spread_mean(g: Emitter, n: Node, ct: str, axes: Sequence[int]) -> str:
    """The adjoint of a mean over axes (kept in `ct` with size 1): ct / count, in the input's shape."""
    shape = n.shape() or ()
    sizes = [shape[axis] for axis in axes]
    known = [size for size in sizes if isinstance(size, int) and size > 0]
    if len(known) == len(sizes):
        count = math.prod(known)
        tile = [shape[axis] if axis in axes else 1 for axis in range(len(shape))]
        if count <= 65536:  # one multiplication that broadcasts
            return g.op("Mul", ct, n.array(np.full(tile, 1 / count)))
        return g.op("Expand", g.op("Mul", ct, n.array(1 / count)), g.shape_of(n.input[0]))
    dims = g.op("Gather", g.op("Shape", n.input[0]), g.ints(*axes))
    count_now = g.cast(g.op("ReduceProd", dims, keepdims=0), n.elem_type)
    return g.op("Expand", g.op("Div", ct, count_now), g.shape_of(n.input[0]))


@rule("AveragePool", versions=(11, 19, 22))
def average_pool(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = sum over a window / count;  dX = the sum over windows of ct / count."""
    w = window(n, tuple(n.attr("kernel_shape")))
    if n.attr("auto_pad", "NOTSET").startswith("SAME") and leaves_out(n, w):
        raise RuleError(NEGATIVE)
    share = g.op("Mul", ct, per_window(g, n, ct, w))
    if tiles(n, w):
        return [repeated(g, share, w.kernel)]
    return [over_windows(g, n, share, w)]


def leaves_out(n: Node, w: Window) -> bool:
    """Whether SAME padding may be negative where windows are dilated: ONNX Runtime averages less than they see."""
    return any(total < 0 and apart > 1 for total, apart in zip(same_totals(n, w), w.dilations, strict=True))


def tiles(n: Node, w: Window) -> bool:
    """Whether every pixel lies in exactly one window."""
    unpadded = w.begins is not None and w.ends is not None and not any((*w.begins, *w.ends))
    divides = all((size := n.size(i + 2)) is not None and size % w.kernel[i] == 0 for i in w.axes)
    return unpadded and divides and w.kernel == w.strides and set(w.dilations) == {1}


def repeated(g: Emitter, value: str, kernel: Sequence[int]) -> str:
    """A value for each window, as one for each pixel of windows that tile."""
    return g.op(
        "Resize", value, "", g.const([1, 1, *kernel], np.float32),
        mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip


def over_windows(g: Emitter, n: Node, share: str, w: Window) -> str:
    """The adjoint of summing over windows: to every pixel the shares of all windows that hold it."""
    planes = g.op("Reshape", share, g.dims(share, -1, 1, spatial_size(g, share, w)))  # every channel alike
    return g.reshape_to(spread(g, planes, n.array(np.ones((1, 1, *w.kernel))), n, w, 1), n.input[0])


def per_window(g: Emitter, n: Node, ct: str, w: Window) -> str:
    """One over the number of pixels that each window averages, shape (1, 1, *windows)."""
    counts_padding = bool(n.attr("count_include_pad", 0))
    if counts_padding and counts_whole(g, n, w):
        return n.array(np.full((1, 1) + (1,) * len(w.kernel), 1 / math.prod(w.kernel)))
    sizes, outs = ([g.size(value, i + 2) for i in w.axes] for value in (n.input[0], n.output[0]))
    if w.begins is not None and w.ends is not None and None not in (*sizes, *outs):
        share = np.ones((1, 1) + (1,) * len(sizes))
        for i, (size, out) in enumerate(zip(sizes, outs, strict=True)):
            low, high = (-w.begins[i], (size or 0) + w.ends[i]) if counts_padding else (0, size or 0)
            taps = (np.arange(out or 0) * w.strides[i] - w.begins[i])[:, None] + np.arange(w.kernel[i]) * w.dilations[i]
            count = ((taps >= low) & (taps < high)).sum(1)
            share = share / np.maximum(count, 1).reshape([-1 if axis == i else 1 for axis in range(-2, len(sizes))])
        return n.array(share)
    share_now = n.array(1)
    for i in w.axes:
        share_now = g.op("Div", share_now, taps_at_run_time(g, n, ct, w, i, counts_padding))
    return share_now


def counts_whole(g: Emitter, n: Node, w: Window) -> bool:
    """Whether windows that count padding count all that they reach over, beyond it too.

    SAME pads just that. ONNX Runtime's operator of old does, for a window larger than the padded image.
    """
    if w.begins is None:
        return set(w.dilations) == {1}
    return g.graph.opset < COUNTS_WHAT_IS_THERE and not n.attr("ceil_mode", 0)


def taps_at_run_time(g: Emitter, n: Node, ct: str, w: Window, i: int, counts_padding: bool) -> str:
    """Pixels that windows hold along axis i, where only the running graph knows the sizes."""
    size, out = (g.dims(value, (i + 2, 1)) for value in (n.input[0], ct))
    if w.begins is None or w.ends is None:
        sizes = spatial_size(g, n.input[0], w)
        begin, end = (g.op("Gather", same_begins(g, sizes, side), g.ints(i)) for side in (w, w.mirrored))
    else:
        begin, end = g.ints(w.begins[i]), g.ints(w.ends[i])
    low, high = (g.op("Neg", begin), g.op("Add", size, end)) if counts_padding else (g.ints(0), size)
    windows = g.arange(g.op("Squeeze", out, g.ints(0)))
    first = g.op("Sub", g.op("Mul", windows, g.ints(w.strides[i])), begin)
    taps = g.op(
        "Add", g.op("Unsqueeze", first, g.ints(1)), g.const([np.arange(w.kernel[i]) * w.dilations[i]], np.int64)
    )
    inside = g.op("And", g.op("GreaterOrEqual", taps, low), g.op("Less", taps, high))
    total = g.reduce("ReduceSum", g.cast(inside, n.elem_type), [1], keepdims=0)
    return g.op("Reshape", total, g.ints(*[-1 if axis == i else 1 for axis in range(-2, len(w.kernel))]))


@rule("LpPool", versions=(11, 18, 22))
def lp_pool(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = (sum |X|^p over a window)^(1/p);  dX = sign X |X|^(p-1) times the sum over windows of ct Y^(1-p)."""
    w = window(n, tuple(n.attr("kernel_shape")))
    share, slope = lp_slopes(g, n, ct)
    return [g.op("Mul", slope, over_windows(g, n, share, w))]


@rule("GlobalLpPool", versions=(2, 22))
def global_lp_pool(g: Emitter, n: Node, ct: str) -> Cotangents:
    """As LpPool, with one window."""
    share, slope = lp_slopes(g, n, ct)
    return [g.op("Mul", slope, share)]


def lp_slopes(g: Emitter, n: Node, ct: str) -> tuple[str, str]:
    """ct Y^(1-p) (0 where Y is 0), and sign X |X|^(p-1)."""
    p, zero = int(n.attr("p", 2)), n.array(0)
    if p == 1:
        return ct, g.op("Sign", n.x())
    blank = g.op("Equal", n.y(), zero)
    share = g.op("Where", blank, zero, g.op("Mul", ct, g.op("Pow", n.y(), n.array(1 - p))))
    if p == 2:
        return share, n.x()
    return share, g.op("Mul", g.op("Sign", n.x()), g.op("Pow", g.op("Abs", n.x()), n.array(p - 1)))


@rule("MaxUnpool", versions=(11, 22), only=[0])
def max_unpool(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y[index] = X in zeros;  dX = ct[index], 0 for what another one with the same index replaces.

    Indices are flat over the whole output, whatever its shape.
    """
    index = n.input[1]
    dx = g.op("Gather", g.op("Reshape", ct, g.ints(-1)), index)
    if are_distinct(g, index):
        return [dx]
    flat = g.op("Reshape", index, g.ints(-1))
    numbers = g.arange(g.op("Size", index))
    blank = g.op("Expand", g.const(-1, np.int64), g.count(n.output[0]))
    left = g.op("Equal", g.op("Gather", g.op("ScatterElements", blank, flat, numbers, axis=0), flat), numbers)
    return [g.op("Where", g.reshape_to(left, index), dx, n.array(0))]


def are_distinct(g: Emitter, index: str) -> bool:
    """Whether indices are known to be of windows that do not overlap."""
    maker = g.graph.maker(index)
    if maker is None or maker.op_type != "MaxPool":
        return False
    attrs = attributes(maker)
    size = attrs["kernel_shape"]
    strides, dilations = (attrs.get(name) or [1] * len(size) for name in ("strides", "dilations"))
    return all(d == 1 and s >= k for s, k, d in zip(strides, size, dilations, strict=True))
