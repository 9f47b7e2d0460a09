"""Pooling of regions of interest: both modes, both coordinate conventions, given and adaptive sampling."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from tests.vjp.case import Arg, Array, Case, case, distinct, fed, held, index, normal, values
from tests.vjp.cases.sampling import hat


def read_at(x: Array, at: tuple[float, float]) -> Array:
    """weight x pixel of every pixel (C, H, W) for a sample at (y, x); all zero where it lies too far outside."""
    weights = []
    for p, size in zip(at, x.shape[1:], strict=True):
        beyond = p < -1 or p > size
        weights.append(np.zeros(size) if beyond else hat(np.arange(size) - min(max(p, 0), size - 1)))
    return x * weights[0][:, None] * weights[1]


def aligned(x: Array, rois: Array, image: Array, attrs: dict[str, Any]) -> Array:
    """RoiAlign by the specification."""
    half = attrs.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    pooled, ratio = (attrs.get("output_height", 1), attrs.get("output_width", 1)), attrs.get("sampling_ratio", 0)
    y = np.zeros((len(rois), x.shape[1], *pooled))
    for r, roi in enumerate(rois):
        ends = roi * attrs.get("spatial_scale", 1.0) - 0.5 * half
        low, length = ends[1::-1], ends[:1:-1] - ends[1::-1]
        step = (length if half else np.maximum(length, 1)) / pooled
        count = np.maximum([ratio or int(np.ceil(s)) for s in step], 0)
        for at in np.ndindex(*pooled):
            samples = [
                read_at(x[image[r]], tuple(low + (np.array(at) + (np.array(k) + 0.5) / count) * step))
                for k in np.ndindex(*count)
            ]
            if samples and attrs.get("mode", "avg") == "avg":
                y[(r, slice(None), *at)] = np.mean([s.sum((1, 2)) for s in samples], 0)
            elif samples:
                y[(r, slice(None), *at)] = np.max([largest(s) for s in samples], 0)
    return y


def largest(weighted: Array) -> Array:
    """The largest of four weighted taps: of the pixels that count, and of 0 where those are fewer than four."""
    read = np.where(weighted == 0, -np.inf, weighted).max((1, 2))
    return np.where((weighted != 0).sum((1, 2)) < 4, np.maximum(read, 0), read)


def pooled(x: Array, rois: Array, attrs: dict[str, Any]) -> Array:
    """MaxRoiPool by the specification."""
    counts = attrs["pooled_shape"]
    y = np.zeros((len(rois), x.shape[1], *counts))
    for r, roi in enumerate(rois):
        ends = np.floor(roi[1:] * attrs.get("spatial_scale", 1.0) + 0.5).astype(int)
        first, size = ends[1::-1], np.maximum(ends[:1:-1] - ends[1::-1] + 1, 1)
        for at in np.ndindex(*counts):
            spans = [
                slice(
                    *np.clip(
                        (first[i] + at[i] * size[i] // counts[i], first[i] - (-(at[i] + 1) * size[i] // counts[i])),
                        0,
                        x.shape[i + 2],
                    )
                )
                for i in range(2)
            ]
            part = x[int(roi[0])][(slice(None), *spans)]
            y[(r, slice(None), *at)] = part.max((1, 2)) if part.size else 0
    return y


def roi_align(*args: Arg, opset: int = 17, **attrs: Any) -> Case:
    truth = lambda x, rois, image: aligned(x, rois, image, attrs)  # noqa: E731
    return case("RoiAlign", *args, truth=truth, opset=opset, **attrs)


def max_roi_pool(*args: Arg, opset: int = 17, **attrs: Any) -> Case:
    return case("MaxRoiPool", *args, truth=lambda x, rois: pooled(x, rois, attrs), opset=opset, **attrs)


SIZE = {"output_height": 3, "output_width": 2}
ROIS = values(
    [
        [0.313, 0.471, 5.187, 6.291],
        [1.143, 2.377, 3.259, 3.773],
        [-2.637, 1.281, 9.173, 12.461],
        [3.217, 4.119, 3.671, 4.353],
    ]
)
IMAGE = index([0, 1, 1, 0])
CONVENTIONS = ("half_pixel", "output_half_pixel")

CASES = [
    *(
        roi_align(
            normal(2, 3, 8, 7), ROIS, IMAGE, **SIZE, coordinate_transformation_mode=convention, sampling_ratio=ratio
        )
        for convention, ratio in product(CONVENTIONS, (0, 1, 2))
    ),
    *(
        roi_align(
            distinct(2, 3, 8, 7),
            held(ROIS),
            IMAGE,
            **SIZE,
            coordinate_transformation_mode=convention,
            sampling_ratio=ratio,
            mode="max",
        )
        for convention, ratio in product(CONVENTIONS, (0, 2))
    ),
    roi_align(
        normal("N", "C", "H", "W"),
        values([[0.313, 0.471, 5.187, 6.291], [1.143, 2.377, 3.259, 3.773]]),
        fed(index([0, 0])),
        **SIZE,
    ),
    roi_align(
        normal("N", 2, "H", "W"), fed(values([[0.313, 0.471, 9.187, 6.291]])), index([0]), spatial_scale=0.6, **SIZE
    ),
    roi_align(normal(2, 3, 8, 7), values(np.zeros((0, 4))), index([]), **SIZE),
    roi_align(normal(2, 3, 8, 7), held(values(np.zeros((0, 4)))), index([]), **SIZE, mode="max"),
    max_roi_pool(normal(2, 3, 8, 7), held(values(np.zeros((0, 5)))), pooled_shape=[3, 2]),
    max_roi_pool(
        distinct(2, 3, 8, 7),
        held(values([[0, 0, 1, 5, 6], [1, 2, 2, 3, 3], [1, -3, 1, 9, 12], [0, 9, 9, 12, 12]])),
        pooled_shape=[3, 2],
    ),
    max_roi_pool(
        distinct("N", 2, "H", "W"), fed(values([[0, 1, 3, 8.2, 11.1]])), pooled_shape=[2, 2], spatial_scale=0.5
    ),
]
