"""Resampling.

Every mode is linear and separable: along one axis it is a matrix, and ONNX Runtime's own Resize of an identity is that
matrix. The adjoint is its transpose, exact for every mode, coordinate convention and rounding rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError, rule


@rule("Resize", versions=(13, 18, 19), only=[0])
def resize(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = A_h X A_w^T;  dX = A_h^T ct A_w, one axis after the other."""
    rank = n.rank()
    if n.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise RuleError("keep_aspect_ratio_policy other than stretch")
    if n.attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise RuleError("tf_crop_and_resize")
    by_size = n.has(3)
    given = n.input[3 if by_size else 2]
    axes = [axis % rank for axis in n.attr("axes") or range(rank)]
    dx = ct
    for i, axis in enumerate(axes):
        if unchanged(g, n, axis, i):
            continue
        amount = g.op("Gather", given, g.ints(i))
        dx = contract(g, dx, matrix(g, n, axis, amount, by_size), axis, rank)
    return [dx]


def unchanged(g: Emitter, n: Node, axis: int, i: int) -> bool:
    """Whether an axis is known to keep its size."""
    if n.has(3):
        before, after = (n.shape() or ())[axis], (g.graph.shape(n.output[0]) or ())[axis]
        return (isinstance(before, int) or before is not None) and before == after
    scales = n.const(2)
    return scales is not None and float(scales[i]) == 1


def matrix(g: Emitter, n: Node, axis: int, amount: str, by_size: bool) -> str:
    """What resampling does along one axis, as (1, 1, out, in)."""
    size = (n.shape() or ())[axis]
    if isinstance(size, int):
        eye = n.array(np.eye(size)[None, None])
    else:
        now = g.dims(n.input[0], (axis, 1))
        square = g.op("Expand", n.scalar(0), g.op("Concat", now, now, axis=0))
        eye = g.op("Unsqueeze", g.op("EyeLike", square, dtype=n.elem_type), g.ints(0, 1))
    kept: dict[str, Any] = {
        key: value for key, value in n.attrs.items() if key not in ("axes", "keep_aspect_ratio_policy")
    }
    if by_size:
        given = ["", g.op("Concat", g.ints(1, 1), amount, g.dims(n.input[0], (axis, 1)), axis=0)]
    else:
        ones = [g.const([1] * count, np.float32) for count in (2, 1)]
        given = [g.op("Concat", ones[0], amount, ones[1], axis=0)]
    resized: str = g.op("Resize", eye, "", *given, **kept)
    return resized


def contract(g: Emitter, ct: str, a: str, axis: int, rank: int) -> str:
    """ct times the matrix along one axis: sum_o ct[.., o, ..] a[o, i]."""
    flat = g.op("Squeeze", a, g.ints(0, 1))
    if axis == rank - 1:
        return g.op("MatMul", ct, flat)
    if axis == rank - 2:
        return g.op("MatMul", g.op("Transpose", flat, perm=[1, 0]), ct)
    perm = [*(i for i in range(rank) if i != axis), axis]
    last = g.op("MatMul", g.op("Transpose", ct, perm=perm), flat)
    return g.op("Transpose", last, perm=[perm.index(i) for i in range(rank)])
