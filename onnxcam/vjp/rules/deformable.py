"""Convolutions over computed positions."""

from __future__ import annotations

import numpy as np

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, rule
from onnxcam.vjp.rules.convolution import Window, kernel_of, window
from onnxcam.vjp.rules.sampling import LINEAR, Plane, Samples, as_rows, bounded, plane, taps_along


@rule("DeformConv", versions=(19, 22))
def deform_conv(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = W (mask * X sampled at offset positions) + B: the adjoints of a product and those of sampling.

    An offset moves one tap of the kernel, at one output pixel, for a group of channels: G = batch x such groups are the
    images that are sampled, K taps x P pixels the samples of each.
    """
    w, groups = window(n, kernel_of(n)), n.attr("offset_group", 1)
    image = n.x()
    if groups > 1:
        image = g.op("Reshape", image, g.dims(n.input[0], -1, per_group(g, n, groups), (2, 1), (3, 1)))
    samples = Samples(g, n, image, positions_of_taps(g, n, ct, w, groups))
    columns = column_cotangents(g, n, ct, groups)  # (G, C, K P)
    mask = flat_mask(g, n, ct) if n.has(4) else ""
    masked = g.op("Mul", columns, mask) if mask else columns
    found: list[str | None] = [None] * 5
    if n.wants(0):
        found[0] = g.reshape_to(samples.image_cotangent(masked), n.input[0])
    if n.wants(1):
        found[1] = weight_cotangent(g, n, ct, samples.values(), mask, groups)
    if n.wants(2):
        found[2] = offset_cotangent(g, n, samples.position_cotangents(as_rows(g, masked)), w, groups)
    if n.wants(3):
        found[3] = g.reduce("ReduceSum", ct, [0, 2, 3], keepdims=0)
    if n.wants(4):
        found[4] = g.reshape_to(
            g.reduce("ReduceSum", g.op("Mul", as_rows(g, columns), samples.values()), [1]), n.input[4]
        )
    return found


def per_group(g: Emitter, n: Node, groups: int) -> str:
    """Channels that share their offsets, as a vector of one."""
    return g.op("Div", g.dims(n.input[0], (1, 1)), g.ints(groups))


def positions_of_taps(g: Emitter, n: Node, ct: str, w: Window, groups: int) -> Plane:
    """Where each tap of the kernel reads, at every output pixel: zeros outside the image."""
    taps = int(np.prod(w.kernel))
    split = g.op("Reshape", n.x(2), g.dims(ct, 0, groups, taps, 2, spatial(g, ct)))
    sizes, axes = [g.dims(n.input[0], (axis, 1)) for axis in (2, 3)], []
    for i, offset in enumerate(g.op("Split", split, g.ints(1, 1), axis=3, outputs=2)):
        steps = g.op("Range", n.array(0), g.cast(output_size(g, ct, i), n.elem_type), n.array(1))
        begin = w.begins[i] if w.begins else 0
        starts = g.op("Sub", g.op("Mul", steps, n.array(w.strides[i])), n.array(begin))
        starts = g.op("Reshape", starts, g.ints(-1, *[1] * (1 - i)))
        within = np.indices(w.kernel)[i].reshape(taps, 1, 1, 1) * w.dilations[i]
        position = g.op("Add", offset, g.op("Add", n.array(within), starts))  # (N, groups, K, 1, P...)
        flat = g.op("Unsqueeze", g.op("Flatten", position, axis=2), g.ints(1, 2))
        axes.append(bounded(g, taps_along(g, flat, LINEAR, 2 - i), sizes[i], "zeros"))
    return plane(g, axes, sizes)


def spatial(g: Emitter, ct: str) -> str:
    """The spatial sizes of the output."""
    return g.op("Slice", g.op("Shape", ct), g.ints(2), g.ints(4))


def output_size(g: Emitter, ct: str, i: int) -> str:
    """One of them, as a scalar."""
    return g.op("Gather", spatial(g, ct), g.const(i, np.int64))


def column_cotangents(g: Emitter, n: Node, ct: str, groups: int) -> str:
    """W^T ct: the cotangents of what was sampled, (G, C, K P)."""
    group, weight = n.attr("group", 1), g.op("Flatten", n.x(1), axis=1)  # (O, C / group K)
    matrix = g.op("Reshape", weight, g.dims(weight, group, -1, (1, 1)))
    product = g.op("MatMul", g.op("Transpose", matrix, perm=[0, 2, 1]), outputs_by_group(g, ct, group))
    return g.op("Reshape", product, g.dims(product, -1, per_group(g, n, groups), taps_and_pixels(g, n, ct)))


def taps_and_pixels(g: Emitter, n: Node, ct: str) -> str:
    """K P, as a vector of one."""
    return g.op("Mul", g.op("ReduceProd", spatial(g, ct), keepdims=1), g.ints(int(np.prod(kernel_of(n)))))


def outputs_by_group(g: Emitter, ct: str, group: int) -> str:
    """ct as (N, group, O / group, P)."""
    pixels = g.op("ReduceProd", spatial(g, ct), keepdims=1)
    return g.op("Reshape", ct, g.dims(ct, 0, group, -1, pixels))


def flat_mask(g: Emitter, n: Node, ct: str) -> str:
    """The mask of every sample, (G, 1, K P)."""
    return g.op("Reshape", n.x(4), g.dims(ct, -1, 1, taps_and_pixels(g, n, ct)))


def weight_cotangent(g: Emitter, n: Node, ct: str, sampled: str, mask: str, groups: int) -> str:
    """dW: ct times what it was multiplied with, summed over images."""
    group = n.attr("group", 1)
    columns = g.op("Mul", sampled, g.op("Reshape", mask, g.ints(-1, 1))) if mask else sampled
    split = g.op("Reshape", columns, g.dims(ct, -1, taps_and_pixels(g, n, ct), per_group(g, n, groups)))
    turned = g.op("Transpose", split, perm=[0, 2, 1])  # (G, C, K P)
    pixels = g.op("ReduceProd", spatial(g, ct), keepdims=1)
    matrix = g.op("Reshape", turned, g.dims(ct, (0, 1), group, -1, pixels))  # (N, group, C / group K, P)
    product = g.op("MatMul", outputs_by_group(g, ct, group), g.op("Transpose", matrix, perm=[0, 1, 3, 2]))
    return g.reshape_to(g.reduce("ReduceSum", product, [0], keepdims=0), n.input[1])


def offset_cotangent(g: Emitter, n: Node, moved: list[str], w: Window, groups: int) -> str:
    """d offset: y and x of every tap in turn."""
    shape = g.dims(n.input[2], (0, 1), groups * int(np.prod(w.kernel)), 1, -1)
    parts = [g.op("Reshape", value, shape) for value in moved]
    return g.reshape_to(g.op("Concat", *parts, axis=2), n.input[2])
