"""Convolutions in one to three dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.vjp.case import Array, Case, case, fed, held, ints, normal


def conv_transpose(
    x: Array, w: Array, b: Array | None, attrs: dict[str, Any], begins: list[int], size: list[int]
) -> Array:
    """Scattered by hand; `begins` pixels are cut off in front, `size` are kept."""
    rank, group = x.ndim - 2, attrs.get("group", 1)
    strides, dilations = attrs.get("strides", [1] * rank), attrs.get("dilations", [1] * rank)
    per_group, channels = w.shape[1], x.shape[1] // group
    far = [strides[i] * (x.shape[i + 2] - 1) + dilations[i] * (w.shape[i + 2] - 1) + 1 for i in range(rank)]
    full = np.zeros((x.shape[0], per_group * group, *(max(far[i], begins[i] + size[i]) for i in range(rank))))
    for at in np.ndindex(*w.shape[2:]):
        where = tuple(
            slice(dilations[i] * at[i], dilations[i] * at[i] + strides[i] * (x.shape[i + 2] - 1) + 1, strides[i])
            for i in range(rank)
        )
        for k in range(group):
            taps = w[(slice(k * channels, (k + 1) * channels), slice(None), *at)]
            part = np.einsum("nc...,cd->nd...", x[:, k * channels : (k + 1) * channels], taps)
            full[(slice(None), slice(k * per_group, (k + 1) * per_group), *where)] += part
    kept = full[(slice(None), slice(None), *(slice(begins[i], begins[i] + size[i]) for i in range(rank)))]
    return kept if b is None else kept + b.reshape(-1, *[1] * rank)


def transposed(*args: Any, pads: list[int] | None = None, **attrs: Any) -> Case:
    """A row whose truth is scattered by hand."""
    given = {"pads": pads} if pads else {}

    def truth(x: Array, w: Array, b: Array | None = None) -> Array:
        rank = x.ndim - 2
        low, extra = pads or [0] * 2 * rank, attrs.get("output_padding", [0] * rank)
        strides, dilations = attrs.get("strides", [1] * rank), attrs.get("dilations", [1] * rank)
        size = [
            strides[i] * (x.shape[i + 2] - 1)
            + extra[i]
            + (w.shape[i + 2] - 1) * dilations[i]
            + 1
            - low[i]
            - low[i + rank]
            for i in range(rank)
        ]
        return conv_transpose(x, w, b, attrs, low[:rank], size)

    return case("ConvTranspose", *args, truth=truth, **given, **attrs)


def to_size(begins: list[int], size: list[int], *args: Any, **attrs: Any) -> Case:
    """A row whose padding is said by auto_pad or output_shape; what is cut off in front was worked out by hand."""
    return case(
        "ConvTranspose", *args, truth=lambda x, w, b=None: conv_transpose(x, w, b, attrs, begins, size), **attrs
    )


def same(begins: list[int], *args: Any, strides: list[int], **attrs: Any) -> Case:
    """The same where auto_pad makes the output `strides` times as large."""

    def truth(x: Array, w: Array) -> Array:
        size = [stride * pixels for stride, pixels in zip(strides, x.shape[2:], strict=True)]
        return conv_transpose(x, w, None, {"strides": strides}, begins, size)

    return case("ConvTranspose", *args, truth=truth, strides=strides, **attrs)


CASES = [
    case(
        "Conv", normal("N", "C", "H", "W"), normal("M", "C", 3, 3), normal("M"), kernel_shape=[3, 3], pads=[1, 1, 1, 1]
    ),
    case("Conv", normal("N", 2, 6, 5), normal(3, 2, 3, 2), normal(3)),
    case("Conv", normal("N", 2, "H", "W"), normal(3, 2, 3, 3), pads=[1, 1, 1, 1]),
    case("Conv", normal("N", 2, 6, 5), held(normal(3, 2, 3, 2)), held(normal(3)), pads=[0, 1, 2, 0], strides=[2, 1]),
    case("Conv", normal("N", 2, "H", "W"), normal(3, 2, 3, 2), normal(3), pads=[0, 1, 2, 0], strides=[2, 3]),
    case("Conv", normal("N", 1, 8, "W"), normal(2, 1, 2, 2), strides=[3, 4]),
    case("Conv", normal("N", 2, "H", 6), normal(3, 2, 1, 1), strides=[2, 3]),
    case("Conv", normal("N", 2, "H", "W"), normal(3, 2, 2, 2), dilations=[2, 3], pads=[1, 2, 1, 1]),
    case("Conv", normal("N", 2, "H", "W"), normal(3, 2, 2, 2), dilations=[2, 1], strides=[2, 2], pads=[0, 0, 1, 1]),
    case("Conv", normal("N", 2, 5, 5), normal(3, 2, 2, 2), pads=[3, 0, 0, 4]),
    case("Conv", normal("N", 2, 5, 5), normal(3, 2, 2, 2), pads=[3, 0, 0, 5], strides=[2, 3]),
    case("Conv", normal("N", 16, "H", 6), normal(4, 16, 3, 3), pads=[1, 1, 1, 1]),
    case("Conv", normal("N", 16, "H", 6), held(normal(4, 16, 3, 1)), pads=[2, 0, 0, 0]),
    case("Conv", normal("N", 16, 5, 6), held(normal(4, 16, 1, 1))),
    case("Conv", normal("N", 4, "H", 6), normal(4, 1, 3, 3), normal(4), group=4, pads=[1, 1, 1, 1]),
    case("Conv", normal("N", 3, 5, "W"), normal(6, 1, 3, 2), group=3, pads=[0, 1, 2, 0]),
    case("Conv", normal("N", 3, "H", "W"), normal(6, 1, 3, 3), group=3, strides=[2, 2], pads=[1, 1, 1, 1]),
    case("Conv", normal("N", 4, "H", "W"), normal(6, 2, 2, 3), group=2, dilations=[2, 1], strides=[1, 2]),
    case("Conv", normal("N", 4, 6, 6), normal(6, 2, 3, 3), group=2),
    # depthwise with steps: a cotangent that is set apart, where the window allows it
    case("Conv", normal("N", 3, 8, 8), normal(3, 1, 3, 3), group=3, strides=[2, 2], pads=[1, 1, 1, 1]),
    case("Conv", normal("N", 3, 9, 7), held(normal(3, 1, 5, 3)), group=3, strides=[3, 2], pads=[0, 2, 2, 1]),
    case(
        "Conv", normal("N", 2, 11, 9), normal(2, 1, 2, 3), group=2, strides=[2, 1], dilations=[3, 1], pads=[3, 0, 0, 2]
    ),
    case("Conv", normal("N", 3, 8, 9), normal(3, 1, 1, 1), group=3, strides=[2, 2]),
    case("Conv", normal("N", 3, 10, 10), normal(3, 1, 2, 2), group=3, strides=[4, 3]),  # rows that no window reads
    case("Conv", normal("N", 3, 6, 6), normal(3, 1, 3, 3), group=3, strides=[2, 2], auto_pad="SAME_UPPER"),
    case("Conv", normal("N", 2, "H", "W"), held(normal(3, 2, 3, 3)), auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Conv", normal("N", 2, "H", "W"), held(normal(3, 2, 3, 2)), auto_pad="SAME_LOWER", strides=[2, 3]),
    case("Conv", normal("N", 2, "H", "W"), held(normal(3, 2, 2, 4)), auto_pad="SAME_UPPER"),
    case("Conv", normal("N", 2, "H", "W"), held(normal(3, 2, 2, 4)), auto_pad="SAME_LOWER"),
    case("Conv", normal("N", 2, 6, 7), normal(3, 2, 3, 4), auto_pad="SAME_UPPER", strides=[2, 1]),
    case("Conv", normal("N", 2, "H", "W"), normal(3, 2, 3, 3), auto_pad="VALID", strides=[2, 1]),
    case("Conv", normal("N", 2, "H", "W"), normal(3, 2, 3, 3), kernel_shape=[3, 3], auto_pad="NOTSET"),
    case("Conv", normal("N", 2, "L"), normal(3, 2, 3), normal(3), pads=[1, 1]),
    case("Conv", normal("N", 2, "L"), normal(3, 2, 3), strides=[2], pads=[2, 0], dilations=[1]),
    case("Conv", normal("N", 4, 9), normal(4, 1, 4), group=4, dilations=[2]),
    case("Conv", normal("N", 2, "D", 5, 3), normal(2, 2, 2, 3, 2), normal(2), pads=[0, 1, 1, 1, 1, 0]),
    case("Conv", normal("N", 2, "D", "H", 3), normal(2, 2, 3, 2, 1), strides=[2, 1, 2], pads=[1, 0, 0, 1, 1, 0]),
    case("Conv", fed(normal("N", 2, 5, 4)), normal(3, 2, 3, 3), strides=[2, 1]),
    case("Conv", fed(normal("N", 2, 5, 4)), held(normal(3, 2, 3, 3)), normal(3)),
    transposed(normal("N", 3, 4, 5), normal(3, 2, 3, 2), normal(2)),
    transposed(normal("N", 3, "H", "W"), normal(3, 2, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    transposed(normal("N", 2, "H", "W"), held(normal(2, 3, 2, 2)), held(normal(3)), strides=[2, 2]),
    transposed(
        normal("N", 4, "H", 3),
        normal(4, 2, 3, 2),
        normal(4),
        group=2,
        strides=[2, 3],
        pads=[1, 0, 0, 1],
        dilations=[1, 2],
        output_padding=[1, 2],
    ),
    transposed(normal("N", 3, 4, 4), normal(3, 1, 3, 3), group=3, strides=[2, 2], pads=[1, 1, 0, 0]),
    transposed(normal("N", 2, 4, 4), normal(2, 3, 2, 2), strides=[3, 2], dilations=[3, 2], output_padding=[2, 1]),
    transposed(normal("N", 2, "L"), normal(2, 3, 4), normal(3), strides=[3], pads=[1, 2]),
    transposed(normal("N", 2, 3, "D", 2), normal(2, 2, 2, 3, 2), strides=[1, 2, 2], pads=[0, 1, 0, 1, 0, 0]),
    to_size([0, 0], [10, 12], normal("N", 2, 5, 6), normal(2, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    to_size([1, 1], [10, 12], normal("N", 2, 5, 6), normal(2, 3, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2]),
    to_size([1, 1], [10, 12], normal("N", 2, 5, 6), normal(2, 3, 3, 3), output_shape=[10, 12], strides=[2, 2]),
    to_size(
        [0, 0],
        [10, 12],
        normal("N", 2, 5, 6),
        normal(2, 3, 3, 3),
        output_shape=[10, 12],
        strides=[2, 2],
        auto_pad="SAME_UPPER",
    ),
    to_size([0, 0], [8, 7], normal("N", 2, 4, 3), normal(2, 3, 2, 2), output_shape=[8, 7], strides=[2, 2]),
    case("Col2Im", normal("N", 8, 12), ints(4, 5), ints(2, 2), opset=18),
    case(
        "Col2Im",
        normal("N", 12, 8),
        ints(6, 4),
        fed(ints(2, 3)),
        opset=18,
        strides=[2, 1],
        pads=[1, 0, 1, 2],
        dilations=[1, 2],
    ),
    case("Col2Im", normal("N", 6, 5), ints(7), ints(3), opset=18),
    case("Conv", normal("N", 2, "H", "W"), normal(3, 2, 3, 2), auto_pad="SAME_UPPER", strides=[2, 1]),
    case("Conv", normal("N", 2, "H", "W"), normal(3, 2, 3, 2), auto_pad="SAME_LOWER", strides=[2, 3]),
    same([0, 0], normal("N", 2, "H", "W"), normal(2, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    same([1, 1], normal("N", 2, "H", "W"), normal(2, 3, 4, 3), auto_pad="SAME_LOWER", strides=[2, 1]),
]
