"""Convolutions over computed positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.vjp.case import Arg, Array, Case, case, fed, held, normal
from tests.vjp.cases.sampling import grid_of, hat


def deformed(x: Array, w: Array, offset: Array, b: Array | None, mask: Array | None, attrs: dict[str, Any]) -> Array:
    """DeformConv by the specification, one offset group after the other."""
    groups, group, kernel = attrs.get("offset_group", 1), attrs.get("group", 1), w.shape[2:]
    taps, sizes = int(np.prod(kernel)), offset.shape[2:]
    strides, dilations, pads = attrs.get("strides", [1, 1]), attrs.get("dilations", [1, 1]), attrs.get("pads", [0] * 4)
    offset = offset.reshape(len(x), groups, taps, 2, *sizes)
    columns = []
    for i in range(groups):
        reads = []
        for axis in range(2):
            tap = np.indices(kernel)[axis].reshape(taps, 1, 1) * dilations[axis]
            start = np.indices(sizes)[axis] * strides[axis] - pads[axis]
            position = offset[:, i, :, axis] + tap + start  # (N, taps, *sizes)
            reads.append(hat(position[..., None] - np.arange(x.shape[2 + axis])))
        part = np.split(x, groups, 1)[i]
        sampled = np.einsum("nchw,nkijh,nkijw->nckij", part, *reads)
        columns.append(sampled if mask is None else sampled * mask.reshape(len(x), groups, 1, taps, *sizes)[:, i])
    split = np.concatenate(columns, 1).reshape(len(x), group, -1, taps, *sizes)
    weight = w.reshape(group, -1, w.shape[1], taps)
    y = np.einsum("gock,ngckij->ngoij", weight, split).reshape(len(x), -1, *sizes)
    return y if b is None else y + b[:, None, None]


def deform(*args: Arg | None, opset: int = 19, **attrs: Any) -> Case:
    def truth(x: Array, w: Array, offset: Array, b: Array | None = None, mask: Array | None = None) -> Array:
        return deformed(x, w, offset, b, mask, attrs)

    return case("DeformConv", *args, truth=truth, opset=opset, **attrs)


CASES = [
    deform(normal("N", 2, 5, 4), normal(3, 2, 2, 3), grid_of("N", 12, 4, 2)),
    deform(normal("N", 2, 5, 4), normal(3, 2, 2, 3), grid_of("N", 12, 4, 2), normal(3), normal("N", 6, 4, 2)),
    deform(
        normal("N", 4, 6, 5), normal(6, 2, 3, 2), grid_of("N", 24, 3, 5), None, normal("N", 12, 3, 5),
        group=2, offset_group=2, strides=[2, 1], pads=[1, 1, 0, 0], dilations=[1, 1],
    ),
    deform(
        normal("N", 4, 6, 5), held(normal(2, 4, 2, 2)), grid_of("N", 32, 4, 5), group=1, offset_group=4,
        pads=[0, 1, 0, 1], dilations=[2, 2], strides=[1, 1],
    ),
    deform(
        normal("N", 2, "H", "W"), normal(3, 2, 1, 1), grid_of("N", 2, "H", "W"), fed(normal(3)),
        normal("N", 1, "H", "W"),
    ),
]  # fmt: skip
