"""Resampling.

Every mode is linear and separable: along one axis it is a matrix, and ONNX Runtime's own Resize of an identity is that
matrix. The adjoint is its transpose, exact for every mode, coordinate convention and rounding rule.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError, rule


@rule("Resize", versions=(13, 18, 19), only=[0])
def resize(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = A_h X A_w^T;  dX = A_h^T ct A_w, one axis after the other."""
    rank = n.rank()
    axes = [axis % rank for axis in n.attr("axes") or range(rank)]
    in_proportion = n.attr("keep_aspect_ratio_policy", "stretch") != "stretch"
    if in_proportion and min(n.attr("axes") or [0]) < 0:
        raise RuleError("it keeps the aspect ratio of negative axes, which ONNX Runtime leaves as they are")
    if in_proportion and crops(n):
        raise RuleError("it keeps the aspect ratio of a region that it crops")
    amounts = n.const(3 if n.has(3) else 2)
    if amounts is not None and amounts.shape != (len(axes),):
        raise RuleError(f"it says how large {amounts.size} axes become, not {len(axes)}")
    dx = ct
    for i, axis in enumerate(axes):
        if not in_proportion and unchanged(g, n, axis, i):
            continue
        a = matrix_in_proportion(g, n, axis, axes) if in_proportion else matrix(g, n, axis, entries(g, n, i, len(axes)))
        if may_vanish(g, n, axis, i):
            dx, a = with_zeros(g, dx, axis, rank), with_zeros(g, a, 1, 2)
        dx = contract(g, dx, a, axis, rank)
    return [dx]


def may_vanish(g: Emitter, n: Node, axis: int, i: int) -> bool:
    """Whether scales may leave nothing along an axis of what is there: half of a row. Sizes of 0 are refused."""
    if n.has(3) or g.size(n.output[0], axis):
        return False
    scales = n.const(2)
    return scales is None or bool(scales[i] < 1)


def with_zeros(g: Emitter, value: str, axis: int, rank: int) -> str:
    """A value with zeros after its last slice along an axis: a product over none is not zero in ONNX Runtime."""
    return g.op("Pad", value, g.ints(*(int(i == rank + axis) for i in range(2 * rank))))


def crops(n: Node) -> bool:
    """Whether it reads a region of interest."""
    return bool(n.attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize")


def unchanged(g: Emitter, n: Node, axis: int, i: int) -> bool:
    """Whether an axis is known to stay as it is."""
    if crops(n):
        return False
    if n.has(3):
        before, after = n.shape(), g.graph.shape(n.output[0])
        return before is not None and after is not None and before[axis] is not None and before[axis] == after[axis]
    scales = n.const(2)
    return scales is not None and float(scales[i]) == 1


def entries(g: Emitter, n: Node, i: int, count: int) -> list[str]:
    """What is said of the i-th resized axis: where its region starts and ends (if it has one), its scale or size."""
    region = [g.op("Gather", n.x(1), g.ints(i + end * count)) for end in (0, 1)] if crops(n) else []
    return [*region, g.op("Gather", n.input[3 if n.has(3) else 2], g.ints(i))]


def matrix(g: Emitter, n: Node, axis: int, said: list[str]) -> str:
    """What resampling does along one axis, as (in, out): a batch of unit vectors, resized.

    Their second axis has one element and becomes two, which are alike: an image that keeps its size is copied by ONNX
    Runtime, and so must the unit vectors be, but only when the whole value keeps its size.
    """
    *region, amount = said
    units = g.op("Unsqueeze", g.eye(n.input[0], axis, n.elem_type), g.ints(1, 3))
    roi = ""
    if region:
        start, end = region
        zeros, ones = n.array([0, 0]), n.array([0, 1, 1])
        roi = g.op("Concat", zeros, start, ones, end, n.array([1]), axis=0)
    if n.has(3):
        given = ["", g.op("Concat", g.dims(n.input[0], (axis, 1)), g.ints(1), amount, g.ints(2), axis=0)]
    else:
        given = [g.op("Concat", g.const([1, 1], np.float32), amount, second_scale(g, n), axis=0)]
    resized = g.op("Resize", units, roi, *given, **n.attrs_except("axes", "extrapolation_value"))
    return g.op("Squeeze", g.op("Slice", resized, g.ints(0), g.ints(1), g.ints(3)), g.ints(1, 3))


def matrix_in_proportion(g: Emitter, n: Node, axis: int, axes: list[int]) -> str:
    """As `matrix`, where the sizes of all resized axes together make one scale: the unit vectors have all those axes.

    They are alike along the others. Their number takes the place of the first axis, or is put in front where that is
    resized itself.
    """
    moved, rank, others = int(0 in axes), n.rank(), [i for i in axes if i != axis]
    later, count = range(1 - moved, rank), (axis, 1)
    single = g.dims(n.input[0], count, *(count if i == axis else 1 for i in later))
    alike = g.dims(n.input[0], count, *((i, 1) if i in axes else 1 for i in later))
    units = g.op("Expand", g.op("Reshape", g.eye(n.input[0], axis, n.elem_type), single), alike)
    kept = n.attrs | {"axes": [i + moved for i in n.attr("axes") or range(rank)]}
    resized = g.op("Resize", units, "", "", n.input[3], **kept)
    if others:
        starts, ends = g.ints(*[0] * len(others)), g.ints(*[1] * len(others))
        resized = g.op("Slice", resized, starts, ends, g.ints(*(i + moved for i in others)))
    return g.op("Reshape", resized, g.dims(n.input[0], count, -1))


def second_scale(g: Emitter, n: Node) -> str:
    """The scale of the unit vectors' second axis: 1 when the whole value keeps its size, else 2."""
    pairs = list(zip(n.shape() or (), g.graph.shape(n.output[0]) or (), strict=False))
    if any(isinstance(before, int) and isinstance(after, int) and before != after for before, after in pairs):
        return g.const([2], np.float32)
    same = g.op("Equal", g.op("Shape", n.input[0]), g.op("Shape", n.output[0]))
    every = g.op("ReduceMin", g.cast(same, TensorProto.FLOAT), keepdims=1)
    return g.op("Sub", g.const([2], np.float32), g.op("Reshape", every, g.ints(1)))


def contract(g: Emitter, ct: str, a: str, axis: int, rank: int) -> str:
    """ct times the matrix along one axis: sum_o a[i, o] ct[.., o, ..]."""
    if axis == rank - 2:
        return g.op("MatMul", a, ct)
    turned = g.op("Transpose", a, perm=[1, 0])
    if axis == rank - 1:
        return g.op("MatMul", ct, turned)
    perm = [*(i for i in range(rank) if i != axis), axis]
    last = g.op("MatMul", g.op("Transpose", ct, perm=perm), turned)
    return g.op("Transpose", last, perm=[perm.index(i) for i in range(rank)])
