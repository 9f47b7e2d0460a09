"""Convolutions over computed positions."""

from __future__ import annotations

import numpy as np

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError, rule
from onnxcam.vjp.rules.convolution import Window, kernel_of, window
from onnxcam.vjp.rules.sampling import (
    LINEAR,
    Samples,
    Taps,
    along_axes,
    bounded,
    pixels_of,
    sizes_of,
    strides_of,
    taps_along,
)


@rule("DeformConv", versions=(19, 22))
def deform_conv(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = W (mask * X sampled at offset positions) + B: the adjoints of a product and those of sampling.

    An offset moves one tap of the kernel, at one output pixel, for a group of channels: G = batch x such groups are the
    images that are sampled, K taps x P pixels the samples of each.
    """
    w, groups = window(n, kernel_of(n)), n.attr("offset_group", 1)
    if len(w.kernel) != 2 or groups < 1:
        raise RuleError(f"its kernel is {list(w.kernel)}, its offset groups are {groups}")
    image, sizes = n.x(), sizes_of(g, n.input[0], 2)
    if groups > 1:
        image = g.op("Reshape", image, g.dims(n.input[0], -1, per_group(g, n, groups), (2, 1), (3, 1)))
    taps = bounded(g, taps_of_kernel(g, n, w, groups), along_axes(g, sizes), "zeros")
    samples = Samples(g, n, image, taps, strides_of(g, sizes), taps_and_pixels(g, n))
    columns = column_cotangents(g, n, ct, groups)  # (G, C, K P)
    mask = g.op("Reshape", n.x(4), g.dims(n.output[0], -1, 1, taps_and_pixels(g, n))) if n.has(4) else ""
    found: list[str | None] = [None] * 5
    if n.wants(0):
        found[0] = g.reshape_to(samples.image_cotangent(g.op("Mul", columns, mask) if mask else columns), n.input[0])
    if n.wants(1):
        sampled = samples.values()
        found[1] = weight_cotangent(g, n, ct, g.op("Mul", sampled, mask) if mask else sampled, groups)
    if n.wants(2):
        agreed = samples.agreement(columns)
        moved = samples.position_cotangents(g.op("Mul", agreed, g.op("Unsqueeze", mask, g.ints(2))) if mask else agreed)
        found[2] = offset_cotangent(g, n, moved, w)
    if n.wants(3):
        found[3] = g.reduce("ReduceSum", ct, [0, 2, 3], keepdims=0)
    if n.wants(4):
        found[4] = g.reshape_to(samples.factor_cotangents(samples.agreement(columns)), n.input[4])
    return found


def per_group(g: Emitter, n: Node, groups: int) -> str:
    """Channels that share their offsets, as a vector of one."""
    return g.op("Div", g.dims(n.input[1], (1, n.attr("group", 1))), g.ints(groups))


def taps_of_kernel(g: Emitter, n: Node, w: Window, groups: int) -> Taps:
    """Where each tap of the kernel reads, at every output pixel: (G, 2, 4, K P)."""
    count = int(np.prod(w.kernel))
    offset = g.op("Reshape", n.x(2), g.ints(0, groups * count, 2, -1))
    if groups > 1:
        offset = g.op("Reshape", offset, g.ints(-1, count, 2, 0))  # (G, K, 2, P)
    within = np.indices(w.kernel).reshape(2, count).T[..., None] * np.reshape(w.dilations, (2, 1))  # (K, 2, 1)
    position = g.op("Add", offset, g.op("Add", n.array(within), starts(g, n, w)))
    turned = g.op("Transpose", position, perm=[0, 2, 1, 3])
    return taps_along(g, n, g.op("Reshape", turned, g.ints(0, 2, 1, -1)), LINEAR.around(2))


def starts(g: Emitter, n: Node, w: Window) -> str:
    """Where the window of each output pixel begins, (2, P)."""
    numbers = g.op("Unsqueeze", g.arange(g.op("Squeeze", pixels_of(g, n.output[0], 2), g.ints(0))), g.ints(0))
    width = g.dims(n.output[0], (3, 1))
    places = g.op("Concat", g.op("Div", numbers, width), g.op("Mod", numbers, width), axis=0)
    moved = g.op("Mul", places, g.const(np.reshape(w.strides, (2, 1)), np.int64))
    return g.cast(g.op("Sub", moved, g.const(np.reshape(w.begins or (0, 0), (2, 1)), np.int64)), n.elem_type)


def taps_and_pixels(g: Emitter, n: Node) -> str:
    """K P, as a vector of one."""
    return g.op("Mul", pixels_of(g, n.output[0], 2), g.ints(int(np.prod(kernel_of(n)))))


def column_cotangents(g: Emitter, n: Node, ct: str, groups: int) -> str:
    """W^T ct: the cotangents of what was sampled, (G, C, K P)."""
    group, weight = n.attr("group", 1), g.op("Flatten", n.x(1), axis=1)  # (O, C / group K)
    matrix = g.op("Reshape", weight, g.dims(weight, group, -1, (1, 1)))
    product = g.op("MatMul", g.op("Transpose", matrix, perm=[0, 2, 1]), outputs_by_group(g, n, ct))
    return g.op("Reshape", product, g.dims(product, -1, per_group(g, n, groups), taps_and_pixels(g, n)))


def outputs_by_group(g: Emitter, n: Node, ct: str) -> str:
    """ct as (N, group, O / group, P)."""
    return g.op("Reshape", ct, g.dims(ct, 0, n.attr("group", 1), -1, pixels_of(g, n.output[0], 2)))


def weight_cotangent(g: Emitter, n: Node, ct: str, columns: str, groups: int) -> str:
    """dW: ct times what it was multiplied with, summed over images."""
    pixels = pixels_of(g, n.output[0], 2)
    matrix = g.op(
        "Reshape", columns, g.dims(n.output[0], (0, 1), n.attr("group", 1), -1, pixels)
    )  # (N, group, C / group K, P)
    product = g.op("MatMul", outputs_by_group(g, n, ct), g.op("Transpose", matrix, perm=[0, 1, 3, 2]))
    return g.reshape_to(g.reduce("ReduceSum", product, [0], keepdims=0), n.input[1])


def offset_cotangent(g: Emitter, n: Node, moved: str, w: Window) -> str:
    """d offset: y and x of every tap in turn, given (G, 2, K P)."""
    by_tap = g.op("Reshape", moved, g.ints(0, 2, int(np.prod(w.kernel)), -1))
    return g.reshape_to(g.op("Transpose", by_tap, perm=[0, 2, 1, 3]), n.input[2])
