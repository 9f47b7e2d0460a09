"""Convolutions.

The adjoint of a convolution is a transposed convolution. Where the stride is 1 it is also a plain convolution with the
kernel flipped, which ONNX Runtime runs faster when the channels fill its blocks (docs/gradients.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from onnxcam.graph import same_in_front, same_padding
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError, rule

LARGEST_WINDOW = 2**22  # elements of a kernel in one channel
LARGEST_PLANE = 2**30  # pixels
BLOCK = 16  # channels of one block of ONNX Runtime's convolution layout

NEGATIVE = "its windows lie so far apart that SAME padding is negative: write its pads out"


@dataclass(frozen=True)
class Window:
    """How a sliding window moves, one entry a spatial axis. `begins` and `ends`: None where the running graph tells."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...] | None
    ends: tuple[int, ...] | None
    lower: bool = False  # SAME_LOWER: the odd pixel of padding goes in front

    @property
    def axes(self) -> range:
        """Spatial axes, counted within the window."""
        return range(len(self.kernel))

    @property
    def pads(self) -> list[int]:
        """All begins, then all ends; empty when only the running graph knows them."""
        return [*(self.begins or ()), *(self.ends or ())]

    @property
    def mirrored(self) -> Window:
        """With the odd pixel of SAME padding at the other end: it begins with what this one ends with."""
        return replace(self, lower=not self.lower)

    def reach(self, i: int) -> int:
        """Pixels from a window's first to its last, inclusive."""
        return self.dilations[i] * (self.kernel[i] - 1) + 1


def window(n: Node, kernel: tuple[int, ...]) -> Window:
    """The window of a Conv or a pool, auto_pad resolved where the sizes are known."""
    rank = len(kernel)
    if not 0 < math.prod(kernel) <= LARGEST_WINDOW:
        raise RuleError(f"its window is {list(kernel)}")
    strides = tuple(n.attr("strides", [1] * rank))
    dilations = tuple(n.attr("dilations", [1] * rank))
    auto = n.attr("auto_pad", "NOTSET")
    pads = n.attr("pads") if auto == "NOTSET" else None
    begins, ends = (tuple(pads[:rank]), tuple(pads[rank:])) if pads else ((0,) * rank, (0,) * rank)
    found = Window(kernel, strides, dilations, begins, ends, auto == "SAME_LOWER")
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        return found
    totals = same_totals(n, found)
    if min(totals) < -1:  # only dilated windows see the pixel that -1 cuts off: see AveragePool
        raise RuleError(NEGATIVE)
    if any(n.size(axis + 2) is None for axis in found.axes):
        return Window(kernel, strides, dilations, None, None, found.lower)
    totals = [max(total, 0) for total in totals]
    begins = tuple(same_in_front(auto, totals))
    ends = tuple(total - begin for total, begin in zip(totals, begins, strict=True))
    return Window(kernel, strides, dilations, begins, ends, found.lower)


def same_totals(n: Node, w: Window) -> list[int]:
    """The SAME padding of each axis; of a size that only the running graph knows, the least that it may be."""
    return same_padding([n.size(i + 2) or 0 for i in w.axes], w.strides, w.kernel)  # 0: as any multiple of the strides


def kernel_of(n: Node) -> tuple[int, ...]:
    """The spatial size of a convolution's weight."""
    sizes = n.attr("kernel_shape") or (n.shape(1) or (None,) * 3)[2:]
    if not all(isinstance(size, int) for size in sizes):
        raise RuleError("the size of its kernel is not known before it runs")
    return tuple(int(size or 0) for size in sizes)


@rule("Conv", versions=(11, 22))
def conv(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = X * W + B;  dX = ct transposed-convolved with W, dW = X convolved with ct, dB = ct summed."""
    w = window(n, kernel_of(n))
    dx = dw = db = None
    if n.wants(0):
        unit = in_single_steps(g, n, w)
        if prefers_flip(n, w):
            dx = flipped_conv(g, n, ct, w)
        elif unit is not None and is_depthwise(n) and prefers_flip(n, unit):
            dx = flipped_conv(g, n, set_apart(g, n, ct, w), unit)
        else:
            dx = spread(g, ct, n.x(1), n, w, n.attr("group", 1))
    if n.wants(1):
        dw = weight_cotangent(g, n, n.x(0), ct, w)
    if n.wants(2):
        db = g.reduce("ReduceSum", ct, [0, *range(2, n.rank())], keepdims=0)
    return [dx, dw, db]


def prefers_flip(n: Node, w: Window) -> bool:
    """Whether the flipped convolution is possible and the faster form."""
    if w.begins is None or w.ends is None or any(stride != 1 for stride in w.strides):
        return False
    if any(max(w.begins[i], w.ends[i]) > w.reach(i) - 1 for i in w.axes):
        return False
    per_group, group = n.size(1, 1), n.attr("group", 1)
    if n.size(0, 1) is None or per_group is None:
        return False
    total = per_group * group
    return bool(1 < group == total or (total % BLOCK == 0 and group == 1))


def is_depthwise(n: Node) -> bool:
    """Whether each channel of images has a float32 kernel of its own, and makes one channel."""
    shape = n.shape(1) or ()
    return len(shape) == 4 and shape[:2] == (n.attr("group", 1), 1) and n.elem_type == TensorProto.FLOAT


def in_single_steps(g: Emitter, n: Node, w: Window) -> Window | None:
    """The window with which a cotangent that is set apart gives dX at stride 1; None where sizes are not known."""
    rows = [leftover(g, n, w, i) for i in w.axes]
    if w.begins is None or w.ends is None or None in rows:
        return None
    ends = [w.ends[i] + w.strides[i] - 1 - (rest or 0) for i, rest in enumerate(rows)]
    return replace(w, strides=(1,) * len(w.kernel), ends=tuple(ends))


def set_apart(g: Emitter, n: Node, ct: str, w: Window) -> str:
    """A cotangent with strides - 1 zeros after each pixel: repeated, and all but the first of the copies masked.

    ONNX Runtime does this and a depthwise convolution in a third of the time that its transposed one takes.
    """
    scales = g.const([1, 1, *w.strides], np.float32)
    copies = g.op("Resize", ct, "", scales, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    rows, columns = ((g.size(n.output[0], i + 2) or 0) * w.strides[i] for i in w.axes)
    if rows * columns > LARGEST_PLANE:
        raise RuleError("it makes planes larger than any image")
    first = np.zeros((1, 1, rows, columns), bool)
    first[..., :: w.strides[0], :: w.strides[1]] = True
    return g.op("Where", g.const(first), copies, n.array(0))


def flipped_conv(g: Emitter, n: Node, ct: str, w: Window) -> str:
    """Stride 1: dX is ct convolved with W, input and output channels swapped and the kernel turned around."""
    if len(n.shape(1) or ()) != len(w.kernel) + 2:
        raise RuleError("its weight is of another rank than its input")
    out, per_group, *_ = (int(dim or 0) for dim in n.shape(1) or ())
    group = n.attr("group", 1)
    weight = n.x(1)
    if group > 1 and out != group:
        split = g.op("Reshape", weight, g.ints(group, out // group, per_group, *w.kernel))
        swapped = g.op("Transpose", split, perm=[0, 2, 1, *range(3, 3 + len(w.kernel))])
        weight = g.op("Reshape", swapped, g.ints(group * per_group, out // group, *w.kernel))
    elif group == 1:
        weight = g.op("Transpose", weight, perm=[1, 0, *range(2, 2 + len(w.kernel))])
    axes = [i + 2 for i in w.axes if w.kernel[i] > 1]
    if axes:
        back, least = [-1] * len(axes), [-(2**62)] * len(axes)
        weight = g.op("Slice", weight, g.ints(*back), g.ints(*least), g.ints(*axes), g.ints(*back))
    pads = [w.reach(i % len(w.kernel)) - 1 - pad for i, pad in enumerate(w.pads)]
    return g.op("Conv", ct, weight, group=group, dilations=list(w.dilations), pads=pads)


def spread(g: Emitter, ct: str, weight: str, n: Node, w: Window, group: int) -> str:
    """dX by a transposed convolution of `ct`, in the spatial size of the node's input."""
    x = n.input[0]
    strides, dilations = list(w.strides), list(w.dilations)
    left = [leftover(g, n, w, i) for i in w.axes]
    if (
        w.begins is not None
        and w.ends is not None
        and all(rest is not None and 0 <= rest < w.strides[i] for i, rest in enumerate(left))
    ):
        return g.op(
            "ConvTranspose", ct, weight, group=group, strides=strides, dilations=dilations,
            pads=[*w.begins, *w.ends], output_padding=[rest or 0 for rest in left],
        )  # fmt: skip
    whole = g.op(
        "ConvTranspose", ct, weight, group=group, strides=strides, dilations=dilations,
        output_padding=[stride - 1 for stride in strides],
    )  # fmt: skip
    axes = g.ints(*(i + 2 for i in w.axes))
    size_now = spatial_size(g, x, w)
    starts = g.ints(*w.begins) if w.begins is not None else same_begins(g, size_now, w)
    ends = g.op("Add", starts, size_now)
    grown = g.op("Pad", whole, g.dims(x, 0, 0, *[0] * len(w.kernel), 0, 0, shortage(g, whole, ends, w)))
    return g.op("Slice", grown, starts, ends, axes)


def shortage(g: Emitter, whole: str, ends: str, w: Window) -> str:
    """How many pixels a spread cotangent lacks at its end (padding beyond what any window reads), per axis."""
    return g.op("Max", g.op("Sub", ends, spatial_size(g, whole, w)), g.ints(0))


def spatial_size(g: Emitter, value: str, w: Window) -> str:
    """The size of a value along the window's axes, as a vector."""
    return g.op("Slice", g.op("Shape", value), g.ints(2), g.ints(2 + len(w.kernel)))


def leftover(g: Emitter, n: Node, w: Window, i: int) -> int | None:
    """Pixels at the end of an axis that no window reads; negative where a window reaches beyond; None: not known."""
    size, out = n.size(i + 2), g.size(n.output[0], i + 2)
    if size is None or out is None or w.begins is None or w.ends is None:
        return None
    return size + w.begins[i] + w.ends[i] - w.reach(i) - w.strides[i] * (out - 1)


def same_begins(g: Emitter, size: str, w: Window) -> str:
    """The padding in front that SAME_UPPER or SAME_LOWER gives, worked out in the graph; see `window`."""
    strides, kernel = np.array(w.strides), np.array(w.kernel)
    count = g.op("Div", g.op("Add", size, g.ints(*(strides - 1))), g.ints(*strides))
    covered = g.op("Add", g.op("Mul", count, g.ints(*strides)), g.ints(*(kernel - strides)))
    total = g.op("Max", g.op("Sub", covered, size), g.ints(0))
    return g.op("Div", g.op("Add", total, g.ints(1)) if w.lower else total, g.ints(2))


def padded(g: Emitter, image: str, w: Window) -> str:
    """An image with the padding that SAME_UPPER or SAME_LOWER gives."""
    size = spatial_size(g, image, w)
    begins, ends = same_begins(g, size, w), same_begins(g, size, w.mirrored)
    return g.op("Pad", image, g.dims(image, 0, 0, begins, 0, 0, ends))


def weight_cotangent(g: Emitter, n: Node, image: str, kernel: str, w: Window) -> str:
    """The image convolved with the other as its kernel, batch and channels swapped, strides and dilations swapped.

    dW of Conv: x with ct;  of ConvTranspose: ct with x.
    """
    if w.begins is None:
        image = padded(g, image, w)
    group, spatial = n.attr("group", 1), list(range(2, n.rank()))
    swap = [1, 0, *spatial]
    turned = g.op("Transpose", image, perm=swap)
    if group > 1:  # [C, N, ...] -> [C / g, g N, ...]: a group's images become its input channels
        sizes = spatial_size(g, turned, w)
        split = g.op("Reshape", turned, g.dims(image, group, -1, (0, 1), sizes))
        merged = g.dims(image, -1, (0, group), sizes)
        turned = g.op("Reshape", g.op("Transpose", split, perm=[1, 0, 2, *(axis + 1 for axis in spatial)]), merged)
    dw = g.op(
        "Conv", turned, g.op("Transpose", kernel, perm=swap), group=group,
        strides=list(w.dilations), dilations=list(w.strides), pads=w.pads or None,
    )  # fmt: skip
    dw = g.op("Slice", dw, g.ints(*[0] * len(spatial)), g.ints(*w.kernel), g.ints(*spatial))
    return g.op("Transpose", dw, perm=swap)


@rule("ConvTranspose", versions=(11, 22))
def conv_transpose(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = X transposed-convolved with W, + B;  dX = ct convolved with W, dW = ct convolved with X, dB = ct summed."""
    w = transposed_window(n, kernel_of(n))
    dx = dw = db = None
    if w.begins is None:  # the cotangent is padded by itself
        zeros = (0,) * len(w.kernel)
        ct, w = padded_to_shape(g, n, ct, w), replace(w, begins=zeros, ends=zeros)
    if n.wants(0):
        dx = g.op(
            "Conv", ct, n.x(1), group=n.attr("group", 1), strides=list(w.strides), dilations=list(w.dilations),
            pads=w.pads,
        )  # fmt: skip
    if n.wants(1):
        dw = weight_cotangent(g, n, ct, n.x(0), w)
    if n.wants(2):
        db = g.reduce("ReduceSum", ct, [0, *range(2, n.rank())], keepdims=0)
    return [dx, dw, db]


def transposed_window(n: Node, kernel: tuple[int, ...]) -> Window:
    """The window of a ConvTranspose; output_shape and auto_pad give the pads, where sizes are known."""
    rank = len(kernel)
    strides, dilations = tuple(n.attr("strides", [1] * rank)), tuple(n.attr("dilations", [1] * rank))
    auto, shape = n.attr("auto_pad", "NOTSET"), n.attr("output_shape")
    plain = Window(kernel, strides, dilations, (0,) * rank, (0,) * rank)
    if shape is None and auto not in ("SAME_UPPER", "SAME_LOWER"):
        pads = n.attr("pads", [0] * 2 * rank) if auto == "NOTSET" else [0] * 2 * rank
        return Window(kernel, strides, dilations, tuple(pads[:rank]), tuple(pads[rank:]))
    sizes, extra = [n.size(i + 2) for i in plain.axes], n.attr("output_padding", [0] * rank)
    if shape is None:  # strides times the input's size, so that this drops out
        totals = [max(extra[i] + plain.reach(i) - strides[i], 0) for i in plain.axes]
    elif None not in sizes:
        totals = [
            max(strides[i] * ((size or 0) - 1) + extra[i] + plain.reach(i) - shape[-rank:][i], 0)
            for i, size in enumerate(sizes)
        ]
    else:
        return Window(kernel, strides, dilations, None, None, auto != "SAME_UPPER")
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    begins, ends = (small, large) if auto == "SAME_UPPER" else (large, small)
    return Window(kernel, strides, dilations, begins, ends)


def padded_to_shape(g: Emitter, n: Node, ct: str, w: Window) -> str:
    """The cotangent of a ConvTranspose with the padding that its output_shape cut off, worked out in the graph."""
    shape, extra = n.attr("output_shape")[-len(w.kernel) :], n.attr("output_padding", [0] * len(w.kernel))
    fixed = g.ints(*(extra[i] + w.reach(i) - w.strides[i] - shape[i] for i in w.axes))
    whole = g.op("Add", g.op("Mul", spatial_size(g, n.input[0], w), g.ints(*w.strides)), fixed)
    total = g.op("Max", whole, g.ints(0))
    small = g.op("Div", total, g.ints(2))
    large = g.op("Sub", total, small)
    begins, ends = (large, small) if w.lower else (small, large)
    return g.op("Pad", ct, g.op("Concat", g.ints(0, 0), begins, g.ints(0, 0), ends, axis=0))


@rule("Col2Im", versions=(18,), only=[0])
def col2im(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = windows, one a column, added up in an image;  dX = the windows of ct, by kernels that pick one pixel each."""
    taps = g.op("ReduceProd", n.input[2], keepdims=1)
    square = g.op("Expand", n.array(0), g.op("Concat", taps, taps, axis=0))
    kernels = g.op("Reshape", g.op("EyeLike", square), g.dims(ct, -1, 1, n.input[2]))
    size = g.op("Slice", g.op("Shape", ct), g.ints(2), g.ints(2**31 - 1))
    planes = g.op("Reshape", ct, g.dims(ct, -1, 1, size))
    return [g.reshape_to(g.op("Conv", planes, kernels, **n.attrs), n.input[0])]
