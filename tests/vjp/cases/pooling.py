"""Pools in one to three dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.vjp.case import Array, Case, case, distinct, fed, index, ints, normal, off


def windows(x: Array, attrs: dict[str, Any]) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Strides, dilations, padding in front and behind, and the number of windows, by the specification.

    SAME as ONNX Runtime has it: what windows that are not dilated need.
    """
    kernel, rank = attrs["kernel_shape"], x.ndim - 2
    strides, dilations = attrs.get("strides", [1] * rank), attrs.get("dilations", [1] * rank)
    reach = [dilations[i] * (kernel[i] - 1) + 1 for i in range(rank)]
    pads, auto = list(attrs.get("pads", [0] * 2 * rank)), attrs.get("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        for i in range(rank):
            size = x.shape[i + 2]
            total = max((-(-size // strides[i]) - 1) * strides[i] + kernel[i] - size, 0)
            small, large = total // 2, total - total // 2
            pads[i], pads[i + rank] = (small, large) if auto == "SAME_UPPER" else (large, small)
    counts = []
    for i in range(rank):
        room = x.shape[i + 2] + pads[i] + pads[i + rank] - reach[i]
        count = (-(-room // strides[i]) if attrs.get("ceil_mode") else room // strides[i]) + 1
        while (count - 1) * strides[i] >= x.shape[i + 2] + pads[i]:  # no window starts beyond the data
            count -= 1
        counts.append(count)
    return strides, dilations, pads[:rank], pads[rank:], counts


def pooled(x: Array, attrs: dict[str, Any], reduce: Any) -> Array:
    """`reduce(values (N, C, taps), taps within the data or its padding)` of every window."""
    strides, dilations, low, high, counts = windows(x, attrs)
    y = np.zeros((*x.shape[:2], *counts))
    for at in np.ndindex(*counts):
        values, real = [], 0
        for tap in np.ndindex(*attrs["kernel_shape"]):
            where = [at[i] * strides[i] - low[i] + tap[i] * dilations[i] for i in range(len(at))]
            real += all(-low[i] <= where[i] < x.shape[i + 2] + high[i] for i in range(len(at)))
            if all(0 <= where[i] < x.shape[i + 2] for i in range(len(at))):
                values.append(x[(slice(None), slice(None), *where)])
        y[(slice(None), slice(None), *at)] = reduce(np.stack(values, -1), real)
    return y


def average(*args: Any, opset: int = 17, **attrs: Any) -> Case:
    counted = attrs.get("count_include_pad", 0)
    mean = lambda taps, real: taps.sum(-1) / (real if counted else taps.shape[-1])  # noqa: E731
    return case("AveragePool", *args, truth=lambda x: pooled(x, attrs, mean), opset=opset, **attrs)


def maximum(*args: Any, opset: int = 17, outputs: int = 1, **attrs: Any) -> Case:
    largest = lambda taps, _: taps.max(-1)  # noqa: E731
    return case("MaxPool", *args, truth=lambda x: pooled(x, attrs, largest), opset=opset, outputs=outputs, **attrs)


def norm(*args: Any, opset: int = 18, **attrs: Any) -> Case:
    p = attrs.get("p", 2)
    reduce = lambda taps, _: (np.abs(taps) ** p).sum(-1) ** (1 / p)  # noqa: E731
    return case("LpPool", *args, truth=lambda x: pooled(x, attrs, reduce), opset=opset, **attrs)


CASES = [
    maximum(distinct("N", 2, 6, 6), kernel_shape=[2, 2], strides=[2, 2]),
    maximum(distinct("N", 2, "H", "W"), kernel_shape=[3, 2], strides=[2, 1]),
    maximum(distinct("N", 2, "H", "W"), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1]),
    maximum(distinct("N", 2, "H", "W"), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    maximum(distinct("N", 2, "H", "W"), kernel_shape=[2, 2], strides=[2, 3], pads=[1, 1, 1, 1], ceil_mode=1, opset=22),
    maximum(distinct("N", 2, "H", "W"), kernel_shape=[2, 2], dilations=[2, 3]),
    maximum(distinct("N", 2, "H", "W"), kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2]),
    maximum(distinct("N", 2, "H", "W"), kernel_shape=[2, 3], auto_pad="SAME_LOWER"),
    maximum(distinct("N", 2, "H", "W"), kernel_shape=[2, 3], auto_pad="VALID", strides=[2, 2]),
    maximum(distinct("N", 2, 5, 5), kernel_shape=[3, 3], outputs=2),
    maximum(distinct("N", 2, 5, 4), kernel_shape=[2, 2], outputs=2, storage_order=1),
    maximum(distinct("N", 2, "H", "W"), kernel_shape=[2, 3], dilations=[2, 2], auto_pad="SAME_LOWER"),
    maximum(distinct("N", 2, "H", "W"), kernel_shape=[3, 3], dilations=[2, 1], auto_pad="SAME_UPPER", strides=[2, 2]),
    maximum(distinct("N", 2, "L"), kernel_shape=[3], strides=[2]),
    maximum(distinct("N", 2, "D", "H", 3), kernel_shape=[2, 3, 2], pads=[1, 0, 0, 0, 1, 1]),
    average(normal("N", 2, 6, 6), kernel_shape=[2, 2], strides=[2, 2]),
    average(normal("N", 2, "H", "W"), kernel_shape=[2, 2], strides=[2, 2]),
    average(normal("N", 2, 5, 7), kernel_shape=[2, 2], strides=[2, 2]),
    average(normal("N", 2, 5, 7), kernel_shape=[2, 3], strides=[2, 3], ceil_mode=1),
    average(normal("N", 2, 6, "W"), kernel_shape=[3, 2]),
    average(normal("N", 2, "H", "W"), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    average(normal("N", 2, "H", "W"), kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], count_include_pad=1),
    average(normal("N", 2, "H", "W"), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
    average(
        normal("N", 2, "H", "W"),
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        ceil_mode=1,
        count_include_pad=1,
        opset=19,
    ),
    average(normal("N", 2, "H", "W"), kernel_shape=[2, 2], strides=[2, 3], pads=[1, 1, 1, 1], ceil_mode=1, opset=22),
    average(normal("N", 2, "H", "W"), kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
    average(normal("N", 2, "H", "W"), kernel_shape=[2, 3], auto_pad="SAME_UPPER", strides=[2, 2]),
    average(normal("N", 2, "H", "W"), kernel_shape=[2, 4], auto_pad="SAME_LOWER", strides=[1, 2]),
    average(normal("N", 2, "H", "W"), kernel_shape=[3, 3], auto_pad="VALID", strides=[2, 2]),
    average(normal("N", 2, "H", "W"), kernel_shape=[2, 2], dilations=[2, 3], opset=19),
    average(
        normal("N", 2, "H", "W"), kernel_shape=[2, 2], dilations=[2, 1], strides=[2, 2], pads=[1, 1, 1, 1], opset=19
    ),
    average(
        normal("N", 2, "H", "W"),
        kernel_shape=[2, 2],
        dilations=[2, 1],
        pads=[1, 1, 1, 1],
        count_include_pad=1,
        opset=22,
    ),
    average(normal("N", 2, "H", "W"), kernel_shape=[2, 3], dilations=[2, 2], auto_pad="SAME_LOWER", opset=19),
    average(
        normal("N", 2, "H", "W"), kernel_shape=[3, 3], dilations=[2, 1], auto_pad="SAME_UPPER", strides=[2, 2], opset=19
    ),
    average(
        normal("N", 2, "H", "W"),
        kernel_shape=[2, 3],
        dilations=[2, 2],
        auto_pad="SAME_LOWER",
        count_include_pad=1,
        opset=19,
    ),
    average(
        normal("N", 2, "H", "W"),
        kernel_shape=[3, 3],
        dilations=[2, 1],
        auto_pad="SAME_UPPER",
        strides=[2, 2],
        count_include_pad=1,
        opset=19,
    ),
    average(normal("N", 2, "L"), kernel_shape=[3], strides=[2], pads=[1, 1]),
    average(normal("N", 2, 8), kernel_shape=[4], strides=[4]),
    average(normal("N", 2, "D", "H", 3), kernel_shape=[2, 3, 2], strides=[2, 1, 1], pads=[1, 0, 0, 0, 1, 1]),
    average(normal("N", 2, 4, 4, 6), kernel_shape=[2, 2, 3], strides=[2, 2, 3]),
    case("GlobalAveragePool", normal("N", 3, 4, 5)),
    case("GlobalAveragePool", normal("N", 3, "H", "W")),
    case("GlobalAveragePool", normal("N", 3, "L")),
    case("GlobalAveragePool", normal("N", 3, 2, "D", 3)),
    case("GlobalMaxPool", distinct("N", 3, 4, 5)),
    case("GlobalMaxPool", distinct("N", 3, "H", "W")),
    case("GlobalMaxPool", distinct("N", 3, 2, "D", 3), truth=lambda x: x.max((2, 3, 4), keepdims=True)),
    norm(normal("N", 2, 6, "W"), kernel_shape=[3, 2], opset=17),
    norm(normal("N", 2, "H", "W"), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1]),
    norm(off([0], "N", 2, "H", "W"), kernel_shape=[2, 2], strides=[2, 1], p=1),
    norm(normal("N", 2, "H", "W"), kernel_shape=[2, 2], p=3),
    norm(normal("N", 2, "H", "W"), kernel_shape=[2, 2], dilations=[2, 3]),
    norm(normal("N", 2, "H", "W"), kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
    norm(normal("N", 2, "H", "W"), kernel_shape=[2, 3], auto_pad="SAME_UPPER", opset=17),
    norm(normal("N", 2, "H", "W"), kernel_shape=[2, 3], auto_pad="SAME_LOWER", strides=[2, 1]),
    norm(normal("N", 2, "L"), kernel_shape=[3], strides=[2]),
    case("GlobalLpPool", normal("N", 3, "H", 4), truth=lambda x: np.sqrt((x**2).sum((2, 3), keepdims=True))),
    case("GlobalLpPool", off([0], "N", 3, 5), p=1, truth=lambda x: np.abs(x).sum(2, keepdims=True)),
    case("GlobalLpPool", normal("N", 3, 5), p=3, truth=lambda x: (np.abs(x) ** 3).sum(2, keepdims=True) ** (1 / 3)),
    case(
        "MaxUnpool",
        normal(1, 2, 2, 2),
        index([[[[1, 2], [8, 15]], [[16, 19], [24, 31]]]]),
        kernel_shape=[2, 2],
        strides=[2, 2],
    ),
    case("MaxUnpool", normal(1, 1, 3), fed(index([[[0, 3, 4]]])), kernel_shape=[2], strides=[2]),
    case("MaxUnpool", normal(1, 1, 4), fed(index([[[3, 0, 3, 4]]])), kernel_shape=[2], strides=[2]),  # one is replaced
    case(
        "MaxUnpool",
        normal(2, 1, 2, 2),
        index([[[[5, 7], [13, 15]]], [[[30, 32], [48, 26]]]]),
        fed(ints(2, 1, 5, 5)),
        kernel_shape=[2, 2],
        strides=[2, 2],
        truth=lambda x, i, shape: np.bincount(i.ravel(), x.ravel(), int(np.prod(shape))).reshape(shape),
    ),
]
